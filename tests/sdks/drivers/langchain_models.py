"""LangChain's models for OpenAI and for Anthropic."""

from collections.abc import Iterator
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

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
WEATHER = {"name": "weather", "description": "The weather of a place.", "parameters": PLACE}


def openai(part: str = "good", **options: Any) -> Any:
    return ChatOpenAI(model=CHAT_MODEL, base_url=f"{URL}/v1", api_key=KEYS[part], **options)


def claude(part: str = "good", **options: Any) -> Any:
    return ChatAnthropic(model=CLAUDE_MODEL, base_url=URL, api_key=KEYS[part], **options)


def told(answer: Any) -> Seen:
    return {"text": answer.text, "usage": answer.usage_metadata}


def called(model: Any) -> Seen:
    """A tool is called, and its result is sent."""
    asked, offered = HumanMessage("weather?"), model.bind_tools([WEATHER])
    first = offered.invoke([asked])
    call = first.tool_calls[0]
    after = offered.invoke([asked, first, ToolMessage("sunny", tool_call_id=call["id"])])
    return {"tool": call["name"], "arguments": call["args"], "text": after.text}


def streamed(model: Any, prompt: str = "Hello") -> Iterator[Any]:
    return iter(model.stream(prompt))


def joined(model: Any) -> Seen:
    """A stream, and the usage that its chunks add up to."""
    chunks = list(streamed(model))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    return {"pieces": len(chunks), **told(whole)}


def openai_text() -> Seen:
    return told(openai().invoke("Hello"))


def openai_stream() -> Seen:
    return joined(openai())


def openai_stream_usage() -> Seen:
    return joined(openai(stream_usage=True))


def openai_responses() -> Seen:
    return told(openai(use_responses_api=True).invoke("Hello"))


def openai_tools() -> Seen:
    return called(openai())


def openai_picture() -> Seen:
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{RED_SQUARE}"}}
    return told(openai().invoke([HumanMessage([{"type": "text", "text": "What is this?"}, part])]))


def openai_embeddings() -> Seen:
    """Without its check of lengths, which would fetch a vocabulary from elsewhere."""
    model = OpenAIEmbeddings(
        model=EMBEDDING_MODEL, base_url=f"{URL}/v1", api_key=KEYS["good"], check_embedding_ctx_length=False
    )
    return {"lengths": [len(vector) for vector in model.embed_documents(["one", "two"])]}


def openai_wrong_key() -> Seen:
    return raised(lambda: openai("wrong").invoke("Hello"))


def openai_spent() -> Seen:
    openai("spent").invoke("Hello")
    return raised(lambda: openai("spent").invoke("Hello"))


def openai_busy() -> Seen:
    return raised(lambda: openai("busy").invoke(BUSY))


def openai_cut() -> Seen:
    return drained(streamed(openai("cut"), CUT))


def claude_text() -> Seen:
    return told(claude().invoke("Hello"))


def claude_stream() -> Seen:
    return joined(claude())


def claude_tools() -> Seen:
    return called(claude())


def claude_picture() -> Seen:
    source = {"type": "base64", "media_type": "image/png", "data": RED_SQUARE}
    part = {"type": "image", "source": source}
    return told(claude().invoke([HumanMessage([{"type": "text", "text": "What is this?"}, part])]))


def claude_wrong_key() -> Seen:
    return raised(lambda: claude("wrong").invoke("Hello"))


def claude_not_allowed() -> Seen:
    return raised(lambda: claude("narrow").invoke("Hello"))


def claude_cut() -> Seen:
    return drained(streamed(claude("cut"), CUT))


tell((
    openai_text, openai_stream, openai_stream_usage, openai_responses, openai_tools, openai_picture,
    openai_embeddings, openai_wrong_key, openai_spent, openai_busy, openai_cut,
    claude_text, claude_stream, claude_tools, claude_picture, claude_wrong_key, claude_not_allowed, claude_cut,
))  # fmt: skip
