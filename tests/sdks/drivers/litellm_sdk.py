"""LiteLLM's SDK, which asks OpenAI's routes with OpenAI's SDK and Anthropic's with code of its own."""

from typing import Any

import litellm

from tests.sdks.drivers.telling import (
    BUSY,
    CHAT_MODEL,
    CLAUDE_MODEL,
    CUT,
    EMBEDDING_MODEL,
    PLACE,
    RED_SQUARE,
    Seen,
    drained,
    given,
    raised,
    tell,
)

URL, KEYS = given()
OPENAI, CLAUDE = f"openai/{CHAT_MODEL}", f"anthropic/{CLAUDE_MODEL}"
WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": PLACE}}
litellm.suppress_debug_info = True  # it would print advice where the driver prints its line


def ask(model: str, prompt: Any = "Hello", part: str = "good", **more: Any) -> Any:
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    base = f"{URL}/v1" if model == OPENAI else URL
    return litellm.completion(model=model, messages=messages, api_base=base, api_key=KEYS[part], **more)


def told(answer: Any) -> Seen:
    return {"text": answer.choices[0].message.content, "usage": answer.usage.model_dump()}


def joined(model: str) -> Seen:
    said = [chunk.choices[0].delta.content or "" for chunk in ask(model, stream=True)]
    return {"text": "".join(said), "pieces": len(said)}


def called(model: str) -> Seen:
    """A tool is called, and its result is sent."""
    asked = {"role": "user", "content": "weather?"}
    message = ask(model, [asked], tools=[WEATHER]).choices[0].message
    call = message.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    after = ask(model, [asked, message, result], tools=[WEATHER])
    return {"tool": call.function.name, "arguments": call.function.arguments, "text": told(after)["text"]}


def pictured(model: str) -> Seen:
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{RED_SQUARE}"}}
    return told(ask(model, [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, part]}]))


def openai_text() -> Seen:
    return told(ask(OPENAI))


def openai_stream() -> Seen:
    return joined(OPENAI)


def openai_tools() -> Seen:
    return called(OPENAI)


def openai_picture() -> Seen:
    return pictured(OPENAI)


def openai_responses() -> Seen:
    answer = litellm.responses(model=OPENAI, input="Hello", api_base=f"{URL}/v1", api_key=KEYS["good"])
    return {"text": answer.output[-1].content[0].text, "usage": answer.usage.model_dump()}


def openai_embeddings() -> Seen:
    answer = litellm.embedding(
        model=f"openai/{EMBEDDING_MODEL}", input=["one", "two"], api_base=f"{URL}/v1", api_key=KEYS["good"]
    )
    return {"lengths": [len(each["embedding"]) for each in answer.data]}


def openai_wrong_key() -> Seen:
    return raised(lambda: ask(OPENAI, part="wrong"))


def openai_not_allowed() -> Seen:
    return raised(lambda: ask(OPENAI, part="narrow"))


def openai_spent() -> Seen:
    ask(OPENAI, part="spent")
    return raised(lambda: ask(OPENAI, part="spent", num_retries=1))


def openai_busy() -> Seen:
    return raised(lambda: ask(OPENAI, BUSY, part="busy"))


def openai_cut() -> Seen:
    return drained(ask(OPENAI, CUT, part="cut", stream=True))


def claude_text() -> Seen:
    return told(ask(CLAUDE))


def claude_stream() -> Seen:
    return joined(CLAUDE)


def claude_tools() -> Seen:
    return called(CLAUDE)


def claude_picture() -> Seen:
    return pictured(CLAUDE)


def claude_wrong_key() -> Seen:
    return raised(lambda: ask(CLAUDE, part="wrong"))


def claude_cut() -> Seen:
    return drained(ask(CLAUDE, CUT, part="cut", stream=True))


tell((
    openai_text, openai_stream, openai_tools, openai_picture, openai_responses, openai_embeddings, openai_wrong_key,
    openai_not_allowed, openai_spent, openai_busy, openai_cut,
    claude_text, claude_stream, claude_tools, claude_picture, claude_wrong_key, claude_cut,
))  # fmt: skip
