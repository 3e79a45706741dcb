"""How is an answer framed?  As JSON, as a JSON array or as server-sent events, whole or in timed chunks."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

Event = dict[str, Any]  # one JSON object of an answer
Usage = Mapping[str, Any] | None

JSON = b"application/json"
SSE = b"text/event-stream"

_encode = msgspec.json.Encoder().encode


class Frame(NamedTuple):
    """One server-sent event."""

    data: Event
    name: str = ""
    usage: Usage = None  # what has been reported once it is out
    ends: bool = False  # whether the stream is whole with it, by the rule of its dialect
    raw: bytes = b""  # stands in place of the JSON


DONE = Frame({}, raw=b"[DONE]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What will be sent, and when.  A plain value, so that a fault is a function from answer to answer."""

    status: int = 200
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()  # beside content-type, content-length and the vendor's request id
    chunks: Sequence[bytes] = (b"",)
    usages: Sequence[Usage] = ()  # what has been reported once the chunk of the same number is out
    whole_at: int | None = None  # the number of the chunk that makes it whole; None: it never is
    length: int | None = None  # the content-length; None: chunked
    wait: float | None = 0.0  # seconds before the head; None: for ever
    gap: float = 0.0  # seconds between chunks
    silence: float | None = 0.0  # seconds before one chunk, beside the gap; None: for ever
    silence_at: int = 0  # the number of that chunk
    headless: bool = False  # cut before the head
    cut_after: float | None = None  # seconds after the head in which the body must be sent, else it is cut
    cut: bool = False  # abort the connection after the last chunk


def whole(body: bytes, *, status: int = 200, content_type: bytes = JSON, usage: Usage = None) -> Answer:
    """An answer in one piece."""
    return Answer(
        status=status, content_type=content_type, chunks=(body,), usages=(usage,), whole_at=0, length=len(body)
    )


def unary(value: Mapping[str, Any], *, status: int = 200, usage: Usage = None) -> Answer:
    """One JSON object, and the usage that stands in it."""
    return whole(_encode(value), status=status, usage=usage)


def array(events: Sequence[Event], gap: float) -> Answer:
    """A stream for a caller without `alt=sse`: a JSON array that grows."""
    last = len(events) - 1
    chunks = [
        (b",\r\n" if number else b"[") + _encode(event) + (b"]" if number == last else b"")
        for number, event in enumerate(events)
    ]
    return Answer(chunks=chunks, usages=_usages(events), whole_at=last, gap=gap)


def sse(events: Sequence[Event], gap: float) -> Answer:
    """A stream of server-sent events, framed as Google does: `data: JSON` and an empty line."""
    chunks = [b"data: %b\n\n" % _encode(event) for event in events]
    return Answer(content_type=SSE, chunks=chunks, usages=_usages(events), whole_at=len(events) - 1, gap=gap)


def framed(frames: Sequence[Frame], gap: float, *, blank_lines: int = 1) -> Answer:
    """A stream of server-sent events as new-api frames them: `event:` where they have names, `data:`, empty lines."""
    tail = b"\n" * (1 + blank_lines)
    chunks = [
        (b"event: %b\n" % frame.name.encode() if frame.name else b"") + b"data: %b" % (frame.raw or _encode(frame.data))
        for frame in frames
    ]
    return Answer(
        content_type=SSE,
        chunks=[chunk + tail for chunk in chunks],
        usages=[frame.usage for frame in frames],
        whole_at=next((number for number, frame in enumerate(frames) if frame.ends), None),
        gap=gap,
    )


def base64_of(data: bytes) -> msgspec.Raw:
    """Bytes as a JSON string of base64, which goes into the JSON as it is: escaping megabytes is slow."""
    return msgspec.Raw(b'"%b"' % base64.b64encode(data))


def _usages(events: Sequence[Event]) -> list[Usage]:
    return [event.get("usageMetadata") for event in events]
