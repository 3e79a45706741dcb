// Google's SDK for Node.

import { GoogleGenAI, createPartFromBase64 } from "@google/genai";
import { BUSY, CUT, RED_SQUARE, collected, drained, keys, raised, tell, url } from "./telling.mjs";

const model = "gemini-2.5-flash";
const client = (part = "good") => new GoogleGenAI({ apiKey: keys[part], httpOptions: { baseUrl: url } });
const ask = (sdk, contents = "Hello", config = {}) => sdk.models.generateContent({ model, contents, config });

await tell({
  async text() {
    const answer = await ask(client());
    return { text: answer.text, usage: answer.usageMetadata };
  },
  async stream() {
    const pieces = await collected(client().models.generateContentStream({ model, contents: "Hello" }));
    const usage = pieces.at(-1).usageMetadata;
    return { text: pieces.map((piece) => piece.text ?? "").join(""), pieces: pieces.length, usage };
  },
  async picture() {
    return { text: (await ask(client(), ["What is this?", createPartFromBase64(RED_SQUARE, "image/png")])).text };
  },
  async count_tokens() {
    return { tokens: (await client().models.countTokens({ model, contents: "Hello" })).totalTokens };
  },
  async embeddings() {
    const answer = await client().models.embedContent({ model: "gemini-embedding-001", contents: ["one", "two"] });
    return { lengths: answer.embeddings.map((each) => each.values.length) };
  },
  async models() {
    const ids = (await collected(client().models.list())).map((each) => each.name);
    return { ids, one: (await client().models.get({ model })).name };
  },
  wrong_key: () => raised(() => ask(client("wrong"))),
  not_allowed: () => raised(() => ask(client("narrow"))),
  async limited() {
    await ask(client("limited"));
    return { error: await raised(() => ask(client("limited"))) };
  },
  async spent() {
    await ask(client("spent"));
    return raised(() => ask(client("spent")));
  },
  busy: () => raised(() => ask(client("busy"), BUSY)),
  cut: () => drained(client("cut").models.generateContentStream({ model, contents: CUT })),
});
