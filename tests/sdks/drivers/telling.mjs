// What is a driver given, and how does it tell what its SDK saw?  The same as telling.py, for Node.

export const { url, keys } = JSON.parse(process.argv[2]);
export const CHAT_MODEL = "gpt-5.4-mini";
export const CLAUDE_MODEL = "claude-opus-4-6";
export const EMBEDDING_MODEL = "text-embedding-3-small";
export const BUSY = "sandbox-fault: 503 ";
export const CUT = "sandbox-gap: 0.1 sandbox-fault: cut "; // the gap lets the head out first
export const RED_SQUARE =
  "iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAIAAAAmkwkpAAAAEElEQVR4nGP4z8AARwzEcQCukw/x0F8jngAAAABJRU5ErkJggg==";
export const PLACE = { type: "object", properties: { place: { type: "string" } }, required: ["place"] };

/** Run every case and print what they saw. */
export async function tell(cases) {
  const seen = {};
  for (const [name, run] of Object.entries(cases)) {
    seen[name] = await Promise.resolve().then(run).catch((error) => ({ error: shown(error) }));
  }
  process.stdout.write(`${JSON.stringify(seen)}\n`, () => process.exit(0));
}

/** What an error shows to a caller who catches it.  Fails when there is none. */
export async function raised(call) {
  let answer;
  try {
    answer = await call();
  } catch (error) {
    return shown(error);
  }
  throw new Error(`nothing was raised: ${JSON.stringify(answer)}`);
}

/** How many events of a stream came, and the error that ended it. */
export async function drained(events) {
  let count = 0;
  try {
    for await (const _ of await events) count += 1;
  } catch (error) {
    return { events: count, error: shown(error) };
  }
  return { events: count, error: null };
}

/** Every event of a stream. */
export async function collected(events) {
  const all = [];
  for await (const event of await events) all.push(event);
  return all;
}

/** An error's classes, most special first, and what it says of itself. */
export function shown(error) {
  const last = error.lastError ?? error; // the AI SDK keeps what it saw last within its own
  const classes = [];
  for (let kind = Object.getPrototypeOf(last); kind; kind = Object.getPrototypeOf(kind)) classes.push(kind.constructor.name);
  const headers = last.headers?.get ? Object.fromEntries(last.headers) : (last.headers ?? last.responseHeaders ?? {});
  return {
    classes,
    name: last.name,
    status_code: last.status ?? last.statusCode ?? null,
    code: last.code ?? last.data?.error?.code ?? null,
    type: last.type ?? last.data?.error?.type ?? null,
    request_id: last.requestID ?? headers["x-request-id"] ?? null,
    message: last.message,
    retry_after: headers["retry-after"] ?? null,
  };
}
