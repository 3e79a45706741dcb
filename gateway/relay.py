"""How does an answer pass through: counted, checked to be whole, and otherwise untouched?

A unary answer is taken whole, so a cut one becomes a clean 502.  A stream passes event by event; its head is sent with
the first one, so a failure before it is still a plain error.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from gateway import json_array, sse
from gateway.asgi import Hold, RawHeader, Reply
from gateway.call import Call, Meter
from gateway.errors import UpstreamBroke, UpstreamTimeout
from gateway.ledger import Entry
from gateway.upstream import Answer

LARGE_BYTES = 1024 * 1024  # from here on JSON is read in a thread, so that the loop never stalls
JSON, SSE = "application/json", "text/event-stream"


class Way(Protocol):
    """How one kind of stream is passed on.  `feed` and `end` return what to write and the JSON objects in it."""

    content_type: str

    @property
    def pending(self) -> int:
        """Bytes held back until they make a whole event."""

    def feed(self, chunk: bytes) -> tuple[bytes, list[bytes]]: ...

    def end(self) -> tuple[bytes, list[bytes]]:
        """The upstream ended.  Raises `UpstreamBroke` when it ended too early."""

    def farewell(self, error: bytes, /) -> bytes:
        """What a caller can still be told after a break."""


class Events:
    """SSE to SSE: each event as it came."""

    content_type = SSE

    def __init__(self) -> None:
        self._events = sse.Events()

    @property
    def pending(self) -> int:
        return self._events.pending

    def feed(self, chunk: bytes) -> tuple[bytes, list[bytes]]:
        return self._written(self._events.feed(chunk))

    def end(self) -> tuple[bytes, list[bytes]]:
        return self._written(self._events.end())

    def farewell(self, error: bytes, /) -> bytes:
        return b"data: " + error + b"\n\n"

    def _written(self, events: list[sse.Event]) -> tuple[bytes, list[bytes]]:
        return b"".join([event.frame for event in events]), [event.data for event in events]


class EventsToArray(Events):
    """SSE to a JSON array, for a caller who did not ask for events."""

    content_type = JSON

    def __init__(self) -> None:
        super().__init__()
        self._writer = json_array.Writer()

    def end(self) -> tuple[bytes, list[bytes]]:
        written, objects = super().end()
        return written + self._writer.end(), objects

    def farewell(self, _: bytes) -> bytes:
        return b""

    def _written(self, events: list[sse.Event]) -> tuple[bytes, list[bytes]]:
        return b"".join([self._writer.add(event.data) for event in events]), [event.data for event in events]


class Array:
    """A JSON array, chunk by chunk as it comes."""

    content_type = JSON

    def __init__(self) -> None:
        self._objects = json_array.Objects()

    @property
    def pending(self) -> int:
        return self._objects.pending

    def feed(self, chunk: bytes) -> tuple[bytes, list[bytes]]:
        return chunk, self._objects.feed(chunk)

    def end(self) -> tuple[bytes, list[bytes]]:
        if not self._objects.closed:
            raise UpstreamBroke
        return b"", []

    def farewell(self, _: bytes) -> bytes:
        return b""


def way_of(call: Call, answer: Answer) -> Way:
    """The answer's own content type decides; an array that should have been events passes as what it is."""
    kind = answer.content_type or (SSE if call.sse else JSON)
    if kind == SSE:
        return Events() if call.sse else EventsToArray()
    if kind == JSON:
        return Array()
    raise UpstreamBroke("The upstream answered with something that is not JSON.")


async def whole(answer: Answer, meter: Meter, entry: Entry, hold: Hold) -> bytes:
    """Check a unary answer and read its usage.  Raises `UpstreamBroke` for anything but one whole JSON object."""
    hold.answer(len(answer.body))
    kind = answer.content_type or JSON
    if kind != JSON and not kind.endswith("+json"):
        raise UpstreamBroke("The upstream answered with something that is not JSON.")
    try:
        if len(answer.body) < LARGE_BYTES:
            meter.event(answer.body)
        else:
            await asyncio.to_thread(meter.event, answer.body)
    except ValueError:
        raise UpstreamBroke("The upstream's answer is not whole JSON.") from None
    entry.usage, entry.whole = meter.usage, True
    return answer.body


async def stream(
    call: Call,
    answer: Answer,
    meter: Meter,
    *,
    reply: Reply,
    entry: Entry,
    hold: Hold,
    head: Callable[[str], list[RawHeader]],
    idle_seconds: float,
) -> None:
    """Pass a stream on.  Raises `Failed` when it breaks; what was counted until then stands in the entry."""
    way = way_of(call, answer)
    entry.farewell = way.farewell
    assert answer.chunks is not None  # noqa: S101  the caller has looked
    base = hold.bytes
    try:
        async for chunk in timed(answer.chunks, entry, idle_seconds):
            await _write(reply, entry, _metered(meter, way.feed, chunk), lambda: head(way.content_type))
            hold.resize(base + way.pending)
        last = _metered(meter, lambda _: way.end(), b"")
        if not meter.finished:
            raise UpstreamBroke  # a relay whose own upstream broke ends its stream cleanly all the same
        if not last and not reply.started:
            raise UpstreamBroke("The upstream's answer is empty.")
        await _write(reply, entry, last, lambda: head(way.content_type))
        if meter.errored:
            entry.outcome = "upstream_error"
        entry.usage = meter.usage
        await entry.settle()
        await reply.write(b"", last=True)
    finally:
        entry.usage = meter.usage


def _metered(meter: Meter, feed: Callable[[bytes], tuple[bytes, list[bytes]]], chunk: bytes) -> bytes:
    try:
        written, objects = feed(chunk)
        for one in objects:
            meter.event(one)
    except ValueError:
        raise UpstreamBroke("The upstream's answer is not whole JSON.") from None
    return written


async def _write(reply: Reply, entry: Entry, written: bytes, head: Callable[[], list[RawHeader]]) -> None:
    if not written:
        return
    if not reply.started:
        entry.began()
        await reply.start(200, head())
    await reply.write(written)


async def timed(chunks: AsyncIterator[bytes], entry: Entry, idle_seconds: float) -> AsyncIterator[bytes]:
    """The chunks, none later than `idle_seconds` after the one before; the waiting is the upstream's time."""
    while True:
        before = time.perf_counter()
        try:
            async with asyncio.timeout(idle_seconds):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise UpstreamTimeout from None
        finally:
            entry.upstream_seconds += time.perf_counter() - before
        if chunk is None:
            return
        yield chunk
