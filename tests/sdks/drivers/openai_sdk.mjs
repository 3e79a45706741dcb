// OpenAI's SDK for Node.

import OpenAI from "openai";
import {
  BUSY, CHAT_MODEL, CUT, EMBEDDING_MODEL, PLACE, RED_SQUARE, collected, drained, keys, raised, tell, url,
} from "./telling.mjs";

const weather = { name: "weather", description: "The weather of a place.", parameters: PLACE };
const client = (part = "good", options = {}) => new OpenAI({ baseURL: `${url}/v1`, apiKey: keys[part], ...options });
const chat = (sdk, content = "Hello", more = {}) =>
  sdk.chat.completions.create({ model: CHAT_MODEL, messages: [{ role: "user", content }], ...more });
const respond = (sdk, input = "Hello", more = {}) => sdk.responses.create({ model: CHAT_MODEL, input, ...more });
const picture = `data:image/png;base64,${RED_SQUARE}`;

await tell({
  async text() {
    const answer = await chat(client());
    return { text: answer.choices[0].message.content, usage: answer.usage, request_id: answer._request_id };
  },
  async stream() {
    const chunks = await collected(chat(client(), "Hello", { stream: true, stream_options: { include_usage: true } }));
    const said = chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.delta.content ?? ""));
    return { text: said.join(""), pieces: said.length, usage: chunks.at(-1).usage };
  },
  async tools() {
    const asked = { role: "user", content: "weather?" };
    const more = { model: CHAT_MODEL, tools: [{ type: "function", function: weather }] };
    const sdk = client();
    const { message } = (await sdk.chat.completions.create({ ...more, messages: [asked] })).choices[0];
    const [call] = message.tool_calls;
    const result = { role: "tool", tool_call_id: call.id, content: "sunny" };
    const after = await sdk.chat.completions.create({ ...more, messages: [asked, message, result] });
    const { name, arguments: written } = call.function;
    return { tool: name, arguments: written, text: after.choices[0].message.content };
  },
  async picture() {
    const parts = [{ type: "text", text: "What is this?" }, { type: "image_url", image_url: { url: picture } }];
    return { text: (await chat(client(), parts)).choices[0].message.content };
  },
  async responses() {
    const answer = await respond(client());
    return { text: answer.output_text, usage: answer.usage, request_id: answer._request_id };
  },
  async responses_stream() {
    const events = await collected(respond(client(), "Hello", { stream: true }));
    const said = events.filter((event) => event.type === "response.output_text.delta").map((event) => event.delta);
    const last = events.at(-1);
    return { text: said.join(""), pieces: said.length, last: last.type, usage: last.response.usage };
  },
  async responses_tools() {
    const asked = { role: "user", content: "weather?" };
    const more = { model: CHAT_MODEL, tools: [{ type: "function", ...weather, strict: false }] };
    const sdk = client();
    const { output } = await sdk.responses.create({ ...more, input: [asked] });
    const call = output.find((item) => item.type === "function_call");
    const result = { type: "function_call_output", call_id: call.call_id, output: "sunny" };
    const after = await sdk.responses.create({ ...more, input: [asked, ...output, result] });
    return { tool: call.name, arguments: call.arguments, text: after.output_text };
  },
  async responses_picture() {
    const parts = [{ type: "input_text", text: "What is this?" }, { type: "input_image", image_url: picture }];
    return { text: (await respond(client(), [{ role: "user", content: parts }])).output_text };
  },
  async embeddings() {
    const answer = await client().embeddings.create({ model: EMBEDDING_MODEL, input: ["one", "two"] });
    return { lengths: answer.data.map((each) => each.embedding.length), number: answer.data[0].embedding[0] };
  },
  async models() {
    const ids = (await collected(client().models.list())).map((model) => model.id);
    return { ids, one: (await client().models.retrieve(CHAT_MODEL)).id };
  },
  wrong_key: () => raised(() => chat(client("wrong"))),
  not_allowed: () => raised(() => chat(client("narrow"))),
  async limited() {
    await chat(client("limited"));
    const error = await raised(() => chat(client("limited", { maxRetries: 0 })));
    return { error, text: (await chat(client("limited"))).choices[0].message.content };
  },
  async spent() {
    await chat(client("spent"));
    return raised(() => chat(client("spent")));
  },
  busy: () => raised(() => chat(client("busy"), BUSY)),
  cut: () => drained(chat(client("cut"), CUT, { stream: true })),
  responses_cut: () => drained(respond(client("cut"), CUT, { stream: true })),
});
