"""How does new-api write chat completions?  `POST /v1/chat/completions`."""

from typing import Any

import msgspec

from gateway.sandbox import chat_audio, content, families
from gateway.sandbox.asked import Asked, Media, Tool
from gateway.sandbox.body import decoded
from gateway.sandbox.content import Content
from gateway.sandbox.openai_usage import chat_usage
from gateway.sandbox.replies import Reply, pieces
from gateway.sandbox.turn import Turn
from gateway.sandbox.wire import DONE, Event, Frame

STOPS = {
    "stop": "stop",
    "sequence": "stop",
    "length": "length",
    "tool": "tool_calls",
    "filter": "content_filter",
    "none": None,
}


class _Message(msgspec.Struct):
    """One turn."""

    role: str = "user"
    content: Content = None
    tool_calls: list[dict[str, Any]] | None = None


class _Request(msgspec.Struct):
    """What is read of a request; every other field is skipped."""

    model: str = ""
    messages: list[_Message] = []
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    n: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: str | list[str] | None = None
    reasoning_effort: str | None = None
    reasoning: dict[str, Any] | None = None
    thinking: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None


def read(body: bytes) -> Asked:
    """Understand a request body.  `ValueError` when it is not JSON of this shape."""
    request = decoded(body, _Request)
    if not request.messages:
        raise ValueError("field messages is required")
    last = request.messages[-1]
    users = [message for message in request.messages if message.role == "user"]
    bounds = [bound for bound in (request.max_tokens, request.max_completion_tokens) if bound is not None]
    return Asked(
        model=request.model,
        prompt=content.text((users or [last])[-1].content),
        media=_media(request),
        stream=bool(request.stream),
        usage_wanted=(request.stream_options or {}).get("include_usage") is not False,
        candidates=1 if request.n is None else request.n,
        bound=min(bounds, default=None),
        stops=[request.stop] if isinstance(request.stop, str) else request.stop or (),
        thinks=_thinks(request),
        tools=[] if request.tool_choice == "none" else [_tool(tool) for tool in request.tools or ()],
        tool_forced=forced(request.tool_choice),
        tool_result=content.text(last.content) if last.role == "tool" else None,
        schema=_schema(request.response_format or {}),
        voice=str((request.audio or {}).get("voice") or "alloy") if "audio" in (request.modalities or ()) else None,
    )


def whole(turn: Turn) -> Event:
    """The answer in one piece."""
    choices = [_choice(number, reply, turn) for number, reply in enumerate(turn.replies)]
    answer = {**_head(turn, "chat.completion"), "choices": choices}
    return answer if turn.tokens is None else {**answer, "usage": chat_usage(turn.tokens)}


def frames(turn: Turn) -> list[Frame]:
    """The answer as a stream: role, deltas, why each choice ended, usage, `[DONE]`."""
    numbered = list(enumerate(turn.replies))
    deltas = [(number, delta) for number, reply in numbered for delta in _deltas(number, reply, turn)]
    chunks = [_chunk(turn, number, {"role": "assistant", "content": ""}) for number, _ in numbered]
    chunks += [_chunk(turn, number, delta) for number, delta in deltas]
    chunks += [_chunk(turn, number, {}, STOPS[reply.stop]) for number, reply in numbered if reply.stop != "none"]
    return ended(turn, chunks)


def ended(turn: Turn, chunks: list[Event]) -> list[Frame]:
    """The chunks as frames, and what follows the last of them."""
    whole_now = turn.replies[-1].stop != "none"
    framed = [Frame(chunk, ends=whole_now and chunk is chunks[-1]) for chunk in chunks]
    if turn.tokens is not None and turn.asked.usage_wanted:
        usage = chat_usage(turn.tokens)
        framed.append(Frame({**chunks[-1], "choices": [], "usage": usage}, usage=usage))
    return [*framed, DONE]


def forced(choice: str | dict[str, Any] | None) -> str | None:
    """The tool that must be called, "" for any, None when none must be."""
    if isinstance(choice, dict):
        return str((choice.get("function") or choice).get("name") or "")
    return "" if choice == "required" else None


def _media(request: _Request) -> Media:
    counted = content.counted(block for message in request.messages for block in content.blocks(message.content))
    written = sum(content.length(message.tool_calls) for message in request.messages)
    return counted + Media(characters=written + content.length(request.tools))


def _thinks(request: _Request) -> bool:
    effort = request.reasoning_effort or (request.reasoning or {}).get("effort") or "none"
    enabled = (request.thinking or {}).get("type", "disabled") != "disabled"
    return effort != "none" or enabled or families.thinks(request.model)


def _tool(tool: dict[str, Any]) -> Tool:
    function = tool.get("function") or {}
    return Tool(str(function.get("name") or ""), function.get("parameters") or {})


def _schema(wanted: dict[str, Any]) -> dict[str, Any] | None:
    if wanted.get("type") == "json_object":
        return {"properties": {"answer": {"type": "string"}}}
    schema: dict[str, Any] | None = (wanted.get("json_schema") or {}).get("schema")
    return schema


def _head(turn: Turn, kind: str) -> Event:
    return {"id": f"chatcmpl-{turn.nonce}", "object": kind, "created": turn.created, "model": turn.model}


def _choice(number: int, reply: Reply, turn: Turn) -> Event:
    message: Event = {"role": "assistant", "content": None if reply.tool else reply.text}
    if reply.thinking:
        message["reasoning_content"] = reply.thinking
    if reply.tool:
        message["tool_calls"] = [_call(number, reply, turn)]
    if reply.sound:
        message |= {"content": None, "audio": chat_audio.whole(reply, turn)}
    return {"index": number, "message": message, "finish_reason": STOPS[reply.stop]}


def _call(number: int, reply: Reply, turn: Turn) -> Event:
    name, arguments = reply.tool or ("", "")
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_{turn.nonce}{number}", "type": "function", "function": function}


def _deltas(number: int, reply: Reply, turn: Turn) -> list[Event]:
    thoughts = [{"reasoning_content": piece} for piece in pieces(reply.thinking)] if reply.thinking else []
    if reply.sound:
        return [*thoughts, *chat_audio.deltas(reply, turn)]
    if not reply.tool:
        return thoughts + [{"content": piece} for piece in pieces(reply.text)]
    first = {"index": 0, **_call(number, reply, turn), "function": {"name": reply.tool.name, "arguments": ""}}
    more = [{"index": 0, "function": {"arguments": piece}} for piece in pieces(reply.tool.arguments)]
    return thoughts + [{"tool_calls": [call]} for call in (first, *more)]


def _chunk(turn: Turn, number: int, delta: Event, stop: str | None = None) -> Event:
    choice = {"index": number, "delta": delta, "logprobs": None, "finish_reason": stop}
    return {**_head(turn, "chat.completion.chunk"), "system_fingerprint": None, "choices": [choice], "usage": None}
