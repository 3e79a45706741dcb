// Vercel's AI SDK with its providers for OpenAI (responses and chat), for Anthropic, and for whatever is like OpenAI.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embedMany, generateText, isStepCount, jsonSchema, stepCountIs, streamText, tool } from "ai";
import {
  BUSY, CHAT_MODEL, CLAUDE_MODEL, CUT, EMBEDDING_MODEL, PLACE, RED_SQUARE, keys, raised, shown, tell, url,
} from "./telling.mjs";

const baseURL = `${url}/v1`;
const models = {
  responses: (part) => createOpenAI({ baseURL, apiKey: keys[part] })(CHAT_MODEL),
  chat: (part) => createOpenAI({ baseURL, apiKey: keys[part] }).chat(CHAT_MODEL),
  compatible: (part) => createOpenAICompatible({ name: "gateway", baseURL, apiKey: keys[part] })(CHAT_MODEL),
  claude: (part) => createAnthropic({ baseURL, apiKey: keys[part] })(CLAUDE_MODEL),
};
const ask = (model, part = "good", prompt = "Hello", more = {}) => generateText({ model: model(part), prompt, ...more });

/** A stream's text, and the errors that stood in it. */
async function streamed(model, part, prompt) {
  const running = streamText({ model: model(part), prompt, onError: () => {} });
  const pieces = [];
  let error = null;
  try {
    for await (const event of running.fullStream) {
      if (event.type === "text-delta") pieces.push(event.text);
      if (event.type === "error") error = shown(event.error);
    }
  } catch (thrown) {
    error = shown(thrown);
  }
  return { text: pieces.join(""), pieces: pieces.length, error, usage: error ? null : await running.usage };
}

/** The SDK calls the tool itself, and sends its result. */
async function called(model) {
  const places = [];
  const weather = tool({
    description: "The weather of a place.",
    inputSchema: jsonSchema(PLACE),
    execute: async ({ place }) => (places.push(place), "sunny"),
  });
  const stopWhen = (isStepCount ?? stepCountIs)(2);
  const answer = await ask(model, "good", "weather?", { tools: { weather }, stopWhen });
  return { places, text: answer.text };
}

async function pictured(model) {
  const image = { type: "file", data: Buffer.from(RED_SQUARE, "base64"), mediaType: "image/png" };
  const messages = [{ role: "user", content: [{ type: "text", text: "What is this?" }, image] }];
  return { text: (await generateText({ model: model("good"), messages })).text };
}

const cases = {};
for (const [name, model] of Object.entries(models)) {
  cases[`${name}_text`] = async () => {
    const { text, usage } = await ask(model);
    return { text, usage };
  };
  cases[`${name}_stream`] = () => streamed(model, "good", "Hello");
  cases[`${name}_tools`] = () => called(model);
  cases[`${name}_picture`] = () => pictured(model);
  cases[`${name}_wrong_key`] = () => raised(() => ask(model, "wrong"));
  cases[`${name}_not_allowed`] = () => raised(() => ask(model, "narrow"));
  cases[`${name}_cut`] = () => streamed(model, "cut", CUT);
}
await tell({
  ...cases,
  async embeddings() {
    const model = createOpenAI({ baseURL, apiKey: keys.good }).embedding(EMBEDDING_MODEL);
    const { embeddings } = await embedMany({ model, values: ["one", "two"] });
    return { lengths: embeddings.map((each) => each.length) };
  },
  async limited() {
    await ask(models.chat, "limited");
    const error = await raised(() => ask(models.chat, "limited", "Hello", { maxRetries: 0 }));
    return { error, text: (await ask(models.chat, "limited")).text };
  },
  async spent() {
    await ask(models.chat, "spent");
    return raised(() => ask(models.chat, "spent", "Hello", { maxRetries: 1 }));
  },
  busy: () => raised(() => ask(models.chat, "busy", BUSY, { maxRetries: 1 })),
});
