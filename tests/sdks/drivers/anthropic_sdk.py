"""Anthropic's Python SDK."""

import asyncio
from typing import Any

from anthropic import Anthropic, AsyncAnthropic

from tests.sdks.drivers.telling import BUSY, CLAUDE_MODEL, CUT, PLACE, RED_SQUARE, Seen, drained, given, raised, tell

URL, KEYS = given()
WEATHER = {"name": "weather", "description": "The weather of a place.", "input_schema": PLACE}


def client(part: str = "good", **options: Any) -> Any:
    """An SDK client with the key of this part."""
    return Anthropic(base_url=URL, api_key=KEYS[part], **options)


def question(prompt: Any = "Hello") -> Seen:
    return {"model": CLAUDE_MODEL, "max_tokens": 200, "messages": [{"role": "user", "content": prompt}]}


def ask(sdk: Any, prompt: Any = "Hello", **more: Any) -> Any:
    return sdk.messages.create(**question(prompt), **more)


def text() -> Seen:
    answer = ask(client())
    return {"text": answer.content[0].text, "usage": answer.usage.model_dump(), "request_id": answer._request_id}


def bearer() -> Seen:
    """The key as `Authorization: Bearer`, as ANTHROPIC_AUTH_TOKEN sends it."""
    return {"text": ask(Anthropic(base_url=URL, auth_token=KEYS["good"])).content[0].text}


def stream() -> Seen:
    with client().messages.stream(**question()) as running:
        pieces = list(running.text_stream)
        whole = running.get_final_message()
    usage = whole.usage.model_dump()
    return {"text": "".join(pieces), "pieces": len(pieces), "usage": usage, "last": whole.stop_reason}


def asynchronous() -> Seen:
    async def run() -> str:
        async with (
            AsyncAnthropic(base_url=URL, api_key=KEYS["good"]) as sdk,
            sdk.messages.stream(**question()) as running,
        ):
            return "".join([piece async for piece in running.text_stream])

    return {"text": asyncio.run(run())}


def tools() -> Seen:
    sdk, asked = client(), question("weather?")
    first = sdk.messages.create(**asked, tools=[WEATHER])
    call = next(block for block in first.content if block.type == "tool_use")
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}]}
    asked["messages"] += [{"role": "assistant", "content": first.content}, result]
    after = sdk.messages.create(**asked, tools=[WEATHER])
    return {"tool": call.name, "arguments": call.input, "text": after.content[0].text}


def picture() -> Seen:
    source = {"type": "base64", "media_type": "image/png", "data": RED_SQUARE}
    parts = [{"type": "image", "source": source}, {"type": "text", "text": "What is this?"}]
    return {"text": ask(client(), parts).content[0].text}


def count_tokens() -> Seen:
    asked = question()
    del asked["max_tokens"]
    return {"tokens": client().messages.count_tokens(**asked).input_tokens}


def models() -> Seen:
    sdk = client()
    return {"ids": [model.id for model in sdk.models.list()], "one": sdk.models.retrieve(CLAUDE_MODEL).id}


def wrong_key() -> Seen:
    return raised(lambda: ask(client("wrong")))


def not_allowed() -> Seen:
    return raised(lambda: ask(client("narrow")))


def limited() -> Seen:
    """The second call comes too early; asked again by the SDK it is answered."""
    ask(client("limited"))
    refused = raised(lambda: ask(client("limited", max_retries=0)))
    return {"error": refused, "text": ask(client("limited")).content[0].text}


def spent() -> Seen:
    ask(client("spent"))
    return raised(lambda: ask(client("spent")))


def busy() -> Seen:
    return raised(lambda: ask(client("busy"), BUSY))


def cut() -> Seen:
    return drained(ask(client("cut"), CUT, stream=True))


tell((
    text, bearer, stream, asynchronous, tools, picture, count_tokens, models, wrong_key, not_allowed, limited, spent,
    busy, cut,
))  # fmt: skip
