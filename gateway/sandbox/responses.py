"""How are OpenAI's responses written?  `POST /v1/responses` and `/v1/responses/compact`."""

from collections.abc import Iterator
from typing import Any

import msgspec

from gateway.sandbox import content, families
from gateway.sandbox.asked import Asked, Media, Tool
from gateway.sandbox.body import decoded
from gateway.sandbox.chat import forced
from gateway.sandbox.content import Content
from gateway.sandbox.openai_usage import responses_usage
from gateway.sandbox.replies import Reply
from gateway.sandbox.response_events import item_events
from gateway.sandbox.turn import Turn
from gateway.sandbox.wire import Event, Frame

_REASONS = {"length": "max_output_tokens", "filter": "content_filter"}


class _Item(msgspec.Struct):
    """One item of the input: a message, or a function's call or output."""

    type: str = "message"
    role: str = "user"
    content: Content = None
    output: Content = None
    arguments: str = ""


class _Request(msgspec.Struct):
    """What is read of a request; every other field is skipped."""

    model: str = ""
    input: str | list[_Item] | None = None
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    reasoning: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    text: dict[str, Any] | None = None


def read(body: bytes) -> Asked:
    """Understand a request body.  `ValueError` when it is not JSON of this shape."""
    request = decoded(body, _Request)
    if not request.input:
        raise ValueError("input is required")
    items = [_Item(content=request.input)] if isinstance(request.input, str) else request.input
    users = [item for item in items if item.type == "message" and item.role == "user"]
    last, effort = items[-1], (request.reasoning or {}).get("effort") or "none"
    return Asked(
        model=request.model,
        prompt=content.text((users or items)[-1].content),
        media=_media(request, items),
        stream=bool(request.stream),
        bound=request.max_output_tokens,
        thinks=effort != "none" or families.thinks(request.model),
        tools=[] if request.tool_choice == "none" else list(_tools(request.tools or [])),
        tool_forced=forced(request.tool_choice),
        tool_result=content.text(last.output) if last.type == "function_call_output" else None,
        schema=((request.text or {}).get("format") or {}).get("schema"),
    )


def whole(turn: Turn) -> Event:
    """The answer in one piece."""
    reply = turn.replies[0]
    status = "incomplete" if reply.stop in _REASONS else "completed"
    usage = None if turn.tokens is None else responses_usage(turn.tokens)
    details = {"reason": _REASONS[reply.stop]} if reply.stop in _REASONS else None
    return {**_response(turn, status), "output": _items(reply, turn), "usage": usage, "incomplete_details": details}


def frames(turn: Turn) -> list[Frame]:
    """The answer as a stream of named, numbered events; the last of them holds all of it."""
    begun, ended = _response(turn, "in_progress"), whole(turn)
    events: list[Event] = [{"type": f"response.{word}", "response": begun} for word in ("created", "in_progress")]
    for index, item in enumerate(ended["output"]):
        events += item_events(index, item)
    if turn.replies[0].stop != "none":
        events.append({"type": f"response.{ended['status']}", "response": ended})
    framed = [Frame(_numbered(event, number), name=event["type"]) for number, event in enumerate(events)]
    if turn.replies[0].stop != "none":
        framed[-1] = framed[-1]._replace(usage=ended["usage"], ends=True)
    return framed


def compacted(turn: Turn) -> Event:
    """The answer to compact: the conversation in one item that only the vendor can read."""
    item = {"type": "compaction", "id": f"cmp_{turn.nonce}", "encrypted_content": f"sandbox-{turn.nonce}"}
    usage = None if turn.tokens is None else responses_usage(turn.tokens)
    return {
        "id": f"resp_{turn.nonce}",
        "object": "response.compaction",
        "created_at": turn.created,
        "output": [item],
        "usage": usage,
    }


def _numbered(event: Event, number: int) -> Event:
    return {"type": event["type"], "sequence_number": number, **event}


def _media(request: _Request, items: list[_Item]) -> Media:
    blocks = (block for item in items for part in (item.content, item.output) for block in content.blocks(part))
    written = len(request.instructions or "") + sum(len(item.arguments) for item in items)
    return content.counted(blocks) + Media(characters=written + content.length(request.tools))


def _tools(tools: list[dict[str, Any]]) -> Iterator[Tool]:
    for tool in tools:
        if tool.get("type") == "function":
            yield Tool(str(tool.get("name") or ""), tool.get("parameters") or {})


def _response(turn: Turn, status: str) -> Event:
    return {
        "id": f"resp_{turn.nonce}",
        "object": "response",
        "created_at": turn.created,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": turn.asked.bound,
        "model": turn.model,
        "output": [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "store": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": None,
        "metadata": {},
    }


def _items(reply: Reply, turn: Turn) -> list[Event]:
    summary = [{"type": "summary_text", "text": reply.thinking}]
    thoughts: list[Event] = (
        [{"type": "reasoning", "id": f"rs_{turn.nonce}", "summary": summary}] if reply.thinking else []
    )
    if reply.tool:
        ids = {"type": "function_call", "id": f"fc_{turn.nonce}", "call_id": f"call_{turn.nonce}"}
        return [*thoughts, {**ids, "status": "completed", **reply.tool._asdict()}]
    said = {"type": "output_text", "text": reply.text, "annotations": []}
    status = "incomplete" if reply.stop in _REASONS else "completed"
    message = {"type": "message", "id": f"msg_{turn.nonce}", "status": status, "role": "assistant", "content": [said]}
    return [*thoughts, message]
