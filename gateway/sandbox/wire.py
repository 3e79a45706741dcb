"""How is an answer framed?  As JSON, as a JSON array or as server-sent events, whole or in timed chunks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

Event = dict[str, Any]  # one GenerateContentResponse
Usage = Mapping[str, Any] | None

JSON = b"application/json"
SSE = b"text/event-stream"

_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What will be sent, and when.  A plain value, so that a fault is a function from answer to answer."""

    status: int = 200
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()  # beside content-type and content-length
    chunks: Sequence[bytes] = (b"",)
    usages: Sequence[Usage] = ()  # what has been reported once the chunk of the same number is out
    length: int | None = None  # the content-length; None: chunked
    wait: float | None = 0.0  # seconds before the head; None: for ever
    gap: float = 0.0  # seconds between chunks
    headless: bool = False  # cut before the head
    cut: bool = False  # abort the connection after the last chunk


def whole(body: bytes, *, status: int = 200, content_type: bytes = JSON, usage: Usage = None) -> Answer:
    """An answer in one piece."""
    return Answer(status=status, content_type=content_type, chunks=(body,), usages=(usage,), length=len(body))


def unary(value: Mapping[str, Any], *, status: int = 200) -> Answer:
    """One JSON object."""
    return whole(_encode(value), status=status, usage=value.get("usageMetadata"))


def array(events: Sequence[Event], gap: float) -> Answer:
    """A stream for a caller without `alt=sse`: a JSON array that grows."""
    last = len(events) - 1
    chunks = [
        (b",\r\n" if number else b"[") + _encode(event) + (b"]" if number == last else b"")
        for number, event in enumerate(events)
    ]
    return Answer(chunks=chunks, usages=_usages(events), gap=gap)


def sse(events: Sequence[Event], gap: float) -> Answer:
    """A stream of server-sent events, framed as Google does: `data: JSON` and an empty line."""
    chunks = [b"data: %b\n\n" % _encode(event) for event in events]
    return Answer(content_type=SSE, chunks=chunks, usages=_usages(events), gap=gap)


def _usages(events: Sequence[Event]) -> list[Usage]:
    return [event.get("usageMetadata") for event in events]
