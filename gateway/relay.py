"""How does an answer pass through: counted, checked to be whole, and otherwise untouched?

A unary answer is taken whole, so a cut one becomes a clean 502.  A stream passes event by event; its head is sent with
the first one, so a failure before it is still a plain error.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from gateway import json_array, sse
from gateway.asgi import Hold
from gateway.call import Call, Meter
from gateway.errors import UpstreamBroke, UpstreamTimeout
from gateway.ledger import Entry
from gateway.live import Sink
from gateway.upstream import Answer

LARGE_BYTES = 1024 * 1024  # from here on JSON is read in a thread, so that the loop never stalls
JSON, SSE = "application/json", sse.CONTENT_TYPE


def is_json(content_type: str) -> bool:
    """Whether this header value names JSON, whatever its parameters."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == JSON or kind.endswith("+json")


class Way(Protocol):
    """How one kind of stream is passed on.  `feed` and `end` return what to write and the JSON objects in it."""

    content_type: str

    @property
    def pending(self) -> int:
        """Bytes held back until they make a whole event."""

    def feed(self, chunk: bytes) -> tuple[bytes, list[bytes]]: ...

    def end(self) -> tuple[bytes, list[bytes]]:
        """The upstream ended.  Raises `UpstreamBroke` when it ended too early."""


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


def way_of(call: Call, answer: Answer) -> Way:
    """The answer's own content type decides; an array that should have been events passes as what it is."""
    kind = answer.content_type or (SSE if call.sse else JSON)
    if kind == SSE:
        return Events() if call.sse else EventsToArray()
    if kind == JSON:
        return Array()
    raise UpstreamBroke("The upstream answered with something that is not JSON.")


async def whole(answer: Answer, meter: Meter, sink: Sink, *, entry: Entry, hold: Hold) -> None:
    """Pass a unary answer on.  Raises `UpstreamBroke` for anything but one whole JSON object."""
    hold.answer(len(answer.body))
    if not is_json(answer.content_type or JSON):
        raise UpstreamBroke("The upstream answered with something that is not JSON.")
    try:
        if len(answer.body) < LARGE_BYTES:
            meter.event(answer.body)
        else:
            await asyncio.to_thread(meter.event, answer.body)
    except ValueError:
        raise UpstreamBroke("The upstream's answer is not whole JSON.") from None
    entry.usage, entry.whole = meter.usage, True
    await sink.whole(answer.status, answer.headers.get("content-type", JSON), answer.body, hold)


async def stream(
    call: Call, answer: Answer, meter: Meter, sink: Sink, *, entry: Entry, hold: Hold, idle_seconds: float
) -> None:
    """Pass a stream on.  Raises `Failed` when it breaks; what was counted until then stands in the entry."""
    way = way_of(call, answer)
    assert answer.chunks is not None  # noqa: S101  the caller has looked
    base = hold.bytes
    try:
        async for chunk in timed(answer.chunks, entry, idle_seconds):
            await _write(sink, answer.status, way, _metered(meter, way.feed, chunk))
            hold.resize(base + way.pending + sink.held)
        last = _metered(meter, lambda _: way.end(), b"")
        if not meter.finished:
            raise UpstreamBroke  # a relay whose own upstream broke ends its stream cleanly all the same
        if not last and not sink.started:
            raise UpstreamBroke("The upstream's answer is empty.")
        await _write(sink, answer.status, way, last)
        entry.whole = True
        if meter.errored:
            entry.outcome = "upstream_error"
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


async def _write(sink: Sink, status: int, way: Way, written: bytes) -> None:
    if not written:
        return
    if not sink.started:
        await sink.begin(status, way.content_type)
    await sink.write(written)


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
