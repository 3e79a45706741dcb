"""How are Anthropic's messages written?  `POST /v1/messages` and `/v1/messages/count_tokens`."""

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.sandbox import content, families
from gateway.sandbox.asked import Asked, Media, Tool
from gateway.sandbox.body import decoded
from gateway.sandbox.content import Block, Content
from gateway.sandbox.replies import Reply, pieces
from gateway.sandbox.tokens import Tokens
from gateway.sandbox.turn import Turn
from gateway.sandbox.wire import Event, Frame

_STOPS = {
    "stop": "end_turn",
    "sequence": "stop_sequence",
    "length": "max_tokens",
    "tool": "tool_use",
    "filter": "refusal",
    "none": None,
}


class _Message(msgspec.Struct):
    """One turn."""

    role: str = "user"
    content: Content = None


class _Request(msgspec.Struct):
    """What is read of a request; every other field is skipped."""

    model: str = ""
    messages: list[_Message] = []
    system: Content = None
    max_tokens: int | None = None
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    thinking: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: dict[str, Any] | None = None


def read(body: bytes) -> Asked:
    """Understand a request body.  `ValueError` when it is not JSON of this shape."""
    request = decoded(body, _Request)
    if not request.messages:
        raise ValueError("messages: Field required")
    users = [message for message in request.messages if message.role == "user"]
    choice = request.tool_choice or {}
    written_5m, written_1h = _written(request)
    return Asked(
        model=request.model,
        prompt=content.text((users or request.messages)[-1].content),
        media=content.counted(_blocks(request)) + Media(characters=content.length(request.tools)),
        stream=bool(request.stream),
        bound=request.max_tokens,
        stops=request.stop_sequences or (),
        thinks=(request.thinking or {}).get("type", "disabled") != "disabled" or families.thinks(request.model),
        tools=[] if choice.get("type") == "none" else [_tool(tool) for tool in request.tools or ()],
        tool_forced={"any": "", "tool": str(choice.get("name") or "")}.get(choice.get("type", "")),
        tool_result=_result(request.messages[-1].content),
        written_5m=written_5m,
        written_1h=written_1h,
    )


def whole(turn: Turn) -> Event:
    """The answer in one piece."""
    reply = turn.replies[0]
    message = {**_head(turn), "content": _content(reply, turn), **_stop(reply)}
    return message if turn.tokens is None else {**message, "usage": usage(turn.tokens)}


def frames(turn: Turn) -> list[Frame]:
    """The answer as a stream of named events."""
    reply = turn.replies[0]
    begun: Event = {**_head(turn), "content": [], "stop_reason": None, "stop_sequence": None}
    start, end = _usages(turn.tokens)
    named = [Frame({"type": "message_start", "message": {**begun, **start}}, usage=start.get("usage"))]
    named.append(Frame({"type": "ping"}))
    for index, block in enumerate(_content(reply, turn)):
        named += map(Frame, _block_events(index, block))
    closing = {"type": "message_delta", "delta": _stop(reply), **end}
    named.append(Frame(closing, usage=end.get("usage"), ends=reply.stop != "none"))
    named += [Frame({"type": "message_stop"})] if reply.stop != "none" else []
    return [frame._replace(name=frame.data["type"]) for frame in named]


def usage(tokens: Tokens) -> Event:
    """`usage` with every kind of cache; `input_tokens` is what no cache has to do with."""
    return {
        "input_tokens": tokens.fresh,
        "cache_creation_input_tokens": tokens.written_5m + tokens.written_1h,
        "cache_read_input_tokens": tokens.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": tokens.written_5m,
            "ephemeral_1h_input_tokens": tokens.written_1h,
        },
        "output_tokens": tokens.completion,
        "output_tokens_details": {"thinking_tokens": tokens.thoughts},
        "service_tier": "standard",
    }


def _usages(tokens: Tokens | None) -> tuple[Event, Event]:
    """The usage at the start, when nothing has been written, and at the end."""
    if tokens is None:
        return {}, {}
    whole = usage(tokens)
    return {"usage": {**whole, "output_tokens": 1, "output_tokens_details": {"thinking_tokens": 0}}}, {"usage": whole}


def _blocks(request: _Request) -> Iterator[Block]:
    yield from content.blocks(request.system)
    for message in request.messages:
        yield from content.blocks(message.content)


def _written(request: _Request) -> tuple[int, int]:
    """Characters up to the last block to be kept for five minutes, less those up to the last kept for an hour."""
    read, ends = 0, {"5m": 0, "1h": 0}
    tools: list[Block] = [{**tool, "text": msgspec.json.encode(tool).decode()} for tool in request.tools or ()]
    for block in (*tools, *_blocks(request)):
        read += content.counted([block]).characters
        if kept := block.get("cache_control"):
            ends[str(kept.get("ttl") or "5m")] = read
    return max(0, ends["5m"] - ends["1h"]), ends["1h"]


def _tool(tool: dict[str, Any]) -> Tool:
    return Tool(str(tool.get("name") or ""), tool.get("input_schema") or {})


def _result(last: Content) -> str | None:
    results = [block for block in content.blocks(last) if block.get("type") == "tool_result"]
    return content.text(results[-1].get("content")) if results else None


def _head(turn: Turn) -> Event:
    return {"id": f"msg_{turn.nonce}", "type": "message", "role": "assistant", "model": turn.model}


def _stop(reply: Reply) -> Event:
    return {"stop_reason": _STOPS[reply.stop], "stop_sequence": reply.sequence}


def _content(reply: Reply, turn: Turn) -> list[Event]:
    signed = {"type": "thinking", "thinking": reply.thinking, "signature": f"sandbox-{turn.nonce}"}
    thoughts: list[Event] = [signed] if reply.thinking else []
    if not reply.tool:
        return [*thoughts, {"type": "text", "text": reply.text}]
    arguments = msgspec.json.decode(reply.tool.arguments)
    return [*thoughts, {"type": "tool_use", "id": f"toolu_{turn.nonce}", "name": reply.tool.name, "input": arguments}]


def _block_events(index: int, block: Event) -> list[Event]:
    empty, deltas = _opened(block)
    changed = [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
    start = {"type": "content_block_start", "index": index, "content_block": empty}
    return [start, *changed, {"type": "content_block_stop", "index": index}]


def _opened(block: Event) -> tuple[Event, list[Event]]:
    """A block with nothing in it yet, and the deltas that fill it."""
    if block["type"] == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
    if block["type"] == "thinking":
        thoughts = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
        signature = {"type": "signature_delta", "signature": block["signature"]}
        return {**block, "thinking": "", "signature": ""}, [*thoughts, signature]
    written = pieces(msgspec.json.encode(block["input"]).decode())
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in written]
