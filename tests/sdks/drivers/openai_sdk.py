"""OpenAI's Python SDK."""

import asyncio
from typing import Any

from openai import AsyncOpenAI, OpenAI

from tests.sdks.drivers.telling import (
    BUSY,
    CHAT_MODEL,
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
WEATHER = {"name": "weather", "description": "The weather of a place.", "parameters": PLACE}


def client(part: str = "good", **options: Any) -> Any:
    """An SDK client with the key of this part."""
    return OpenAI(base_url=f"{URL}/v1", api_key=KEYS[part], **options)


def chat(sdk: Any, prompt: Any = "Hello", **more: Any) -> Any:
    return sdk.chat.completions.create(model=CHAT_MODEL, messages=[{"role": "user", "content": prompt}], **more)


def respond(sdk: Any, prompt: Any = "Hello", **more: Any) -> Any:
    return sdk.responses.create(model=CHAT_MODEL, input=prompt, **more)


def text() -> Seen:
    answer = chat(client())
    usage = answer.usage.model_dump()
    return {"text": answer.choices[0].message.content, "usage": usage, "request_id": answer._request_id}


def stream() -> Seen:
    chunks = list(chat(client(), stream=True, stream_options={"include_usage": True}))
    said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    return {"text": "".join(said), "pieces": len(said), "usage": chunks[-1].usage.model_dump()}


def asynchronous() -> Seen:
    async def run() -> str:
        async with AsyncOpenAI(base_url=f"{URL}/v1", api_key=KEYS["good"]) as sdk:
            return "".join(
                [chunk.choices[0].delta.content or "" async for chunk in await chat(sdk, stream=True) if chunk.choices]
            )

    return {"text": asyncio.run(run())}


def tools() -> Seen:
    asked, offered = {"role": "user", "content": "weather?"}, [{"type": "function", "function": WEATHER}]
    sdk = client()
    message = sdk.chat.completions.create(model=CHAT_MODEL, messages=[asked], tools=offered).choices[0].message
    call = message.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    after = sdk.chat.completions.create(model=CHAT_MODEL, messages=[asked, message, result], tools=offered)
    return {"tool": call.function.name, "arguments": call.function.arguments, "text": after.choices[0].message.content}


def picture() -> Seen:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{RED_SQUARE}"}},
    ]
    return {"text": chat(client(), parts).choices[0].message.content}


def responses() -> Seen:
    answer = respond(client())
    return {"text": answer.output_text, "usage": answer.usage.model_dump(), "request_id": answer._request_id}


def responses_stream() -> Seen:
    events = list(respond(client(), stream=True))
    said = [event.delta for event in events if event.type == "response.output_text.delta"]
    last = events[-1]
    return {"text": "".join(said), "pieces": len(said), "last": last.type, "usage": last.response.usage.model_dump()}


def responses_tools() -> Seen:
    offered = [{"type": "function", **WEATHER, "strict": False}]
    sdk, asked = client(), {"role": "user", "content": "weather?"}
    output = sdk.responses.create(model=CHAT_MODEL, input=[asked], tools=offered).output
    call = next(item for item in output if item.type == "function_call")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    after = sdk.responses.create(model=CHAT_MODEL, input=[asked, *output, result], tools=offered)
    return {"tool": call.name, "arguments": call.arguments, "text": after.output_text}


def responses_picture() -> Seen:
    url = f"data:image/png;base64,{RED_SQUARE}"
    parts = [{"type": "input_text", "text": "What is this?"}, {"type": "input_image", "image_url": url}]
    return {"text": respond(client(), [{"role": "user", "content": parts}]).output_text}


def embeddings() -> Seen:
    answer = client().embeddings.create(model=EMBEDDING_MODEL, input=["one", "two"])
    return {"lengths": [len(each.embedding) for each in answer.data], "number": answer.data[0].embedding[0]}


def models() -> Seen:
    sdk = client()
    return {"ids": [model.id for model in sdk.models.list()], "one": sdk.models.retrieve(CHAT_MODEL).id}


def wrong_key() -> Seen:
    return raised(lambda: chat(client("wrong")))


def not_allowed() -> Seen:
    return raised(lambda: chat(client("narrow")))


def limited() -> Seen:
    """The second call comes too early; asked again by the SDK it is answered."""
    chat(client("limited"))
    refused = raised(lambda: chat(client("limited", max_retries=0)))
    return {"error": refused, "text": chat(client("limited")).choices[0].message.content}


def spent() -> Seen:
    chat(client("spent"))
    return raised(lambda: chat(client("spent")))


def busy() -> Seen:
    return raised(lambda: chat(client("busy"), BUSY))


def cut() -> Seen:
    return drained(chat(client("cut"), CUT, stream=True))


def responses_cut() -> Seen:
    return drained(respond(client("cut"), CUT, stream=True))


tell((
    text, stream, asynchronous, tools, picture, responses, responses_stream, responses_tools, responses_picture,
    embeddings, models, wrong_key, not_allowed, limited, spent, busy, cut, responses_cut,
))  # fmt: skip
