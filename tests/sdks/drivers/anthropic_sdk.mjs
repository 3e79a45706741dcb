// Anthropic's SDK for Node.

import Anthropic from "@anthropic-ai/sdk";
import { BUSY, CLAUDE_MODEL, CUT, PLACE, RED_SQUARE, collected, drained, keys, raised, tell, url } from "./telling.mjs";

const weather = { name: "weather", description: "The weather of a place.", input_schema: PLACE };
const client = (part = "good", options = {}) => new Anthropic({ baseURL: url, apiKey: keys[part], ...options });
const question = (content = "Hello", more = {}) => ({
  model: CLAUDE_MODEL, max_tokens: 200, messages: [{ role: "user", content }], ...more,
});
const ask = (sdk, content, more) => sdk.messages.create(question(content, more));

await tell({
  async text() {
    const answer = await ask(client());
    return { text: answer.content[0].text, usage: answer.usage, request_id: answer._request_id };
  },
  async bearer() {
    const sdk = new Anthropic({ baseURL: url, authToken: keys.good, apiKey: null });
    return { text: (await ask(sdk)).content[0].text };
  },
  async stream() {
    const running = client().messages.stream(question());
    const pieces = [];
    running.on("text", (piece) => pieces.push(piece));
    const whole = await running.finalMessage();
    return { text: pieces.join(""), pieces: pieces.length, usage: whole.usage, last: whole.stop_reason };
  },
  async tools() {
    const sdk = client();
    const asked = question("weather?", { tools: [weather] });
    const first = await sdk.messages.create(asked);
    const call = first.content.find((block) => block.type === "tool_use");
    const result = { role: "user", content: [{ type: "tool_result", tool_use_id: call.id, content: "sunny" }] };
    const messages = [...asked.messages, { role: "assistant", content: first.content }, result];
    const after = await sdk.messages.create({ ...asked, messages });
    return { tool: call.name, arguments: call.input, text: after.content[0].text };
  },
  async picture() {
    const source = { type: "base64", media_type: "image/png", data: RED_SQUARE };
    const answer = await ask(client(), [{ type: "image", source }, { type: "text", text: "What is this?" }]);
    return { text: answer.content[0].text };
  },
  async count_tokens() {
    const { max_tokens: _, ...asked } = question();
    return { tokens: (await client().messages.countTokens(asked)).input_tokens };
  },
  async models() {
    const ids = (await collected(client().models.list())).map((model) => model.id);
    return { ids, one: (await client().models.retrieve(CLAUDE_MODEL)).id };
  },
  wrong_key: () => raised(() => ask(client("wrong"))),
  not_allowed: () => raised(() => ask(client("narrow"))),
  async limited() {
    await ask(client("limited"));
    const error = await raised(() => ask(client("limited", { maxRetries: 0 })));
    return { error, text: (await ask(client("limited"))).content[0].text };
  },
  async spent() {
    await ask(client("spent"));
    return raised(() => ask(client("spent")));
  },
  busy: () => raised(() => ask(client("busy"), BUSY)),
  cut: () => drained(ask(client("cut"), CUT, { stream: true })),
});
