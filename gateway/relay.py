"""How does an answer pass through: counted, checked to be whole, and otherwise untouched?

A unary answer is taken whole, so a cut one becomes a clean 502.  A stream passes event by event; its head is sent with
the first one, so a failure before it is still a plain error.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from gateway import json_array, sse
from gateway.asgi import Hold
from gateway.call import Call, Meter
from gateway.errors import GatewayError, UpstreamBroke, UpstreamTimeout
from gateway.ledger import Entry
from gateway.live import Sink
from gateway.upstream import Answer

LARGE_BYTES = 1024 * 1024  # from here on JSON is read in a thread, so that the loop never stalls
JSON, SSE = "application/json", sse.CONTENT_TYPE
PLAIN_TYPE = re.compile(r"[a-z]+/[a-z.+-]+(?:; ?charset=[a-z0-9-]{1,16})?", re.IGNORECASE)  # what crosses untouched


def is_json(content_type: str) -> bool:
    """Whether this header value names JSON, whatever its parameters."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == JSON or kind.endswith("+json")


Piece = tuple[bytes, bytes]  # what to write, and the JSON object in it; either may be empty


class Way(Protocol):
    """How one kind of stream is passed on.  `feed` and `end` return the next pieces."""

    content_type: str

    @property
    def pending(self) -> int:
        """Bytes held back until they make a whole event."""

    def feed(self, chunk: bytes) -> list[Piece]: ...

    def end(self) -> list[Piece]:
        """The upstream ended.  Raises `UpstreamBroke` when it ended too early."""


class Events:
    """SSE to SSE: each event as it came."""

    content_type = SSE

    def __init__(self) -> None:
        self._events = sse.Events()

    @property
    def pending(self) -> int:
        return self._events.pending

    def feed(self, chunk: bytes) -> list[Piece]:
        return self._pieces(self._events.feed(chunk))

    def end(self) -> list[Piece]:
        return self._pieces(self._events.end())

    def _pieces(self, events: list[sse.Event]) -> list[Piece]:
        return [(event.frame, event.data) for event in events]


class EventsToArray(Events):
    """SSE to a JSON array, for a caller who did not ask for events."""

    content_type = JSON

    def __init__(self) -> None:
        super().__init__()
        self._writer = json_array.Writer()

    def end(self) -> list[Piece]:
        return [*super().end(), (self._writer.end(), b"")]

    def _pieces(self, events: list[sse.Event]) -> list[Piece]:
        return [(self._writer.add(event.data), event.data) for event in events]


class Array:
    """A JSON array, chunk by chunk as it comes."""

    content_type = JSON

    def __init__(self) -> None:
        self._objects = json_array.Objects()

    @property
    def pending(self) -> int:
        return self._objects.pending

    def feed(self, chunk: bytes) -> list[Piece]:
        return [*((b"", found) for found in self._objects.feed(chunk)), (chunk, b"")]

    def end(self) -> list[Piece]:
        if not self._objects.closed:
            raise UpstreamBroke
        return []


class ArrayToEvents(Array):
    """A JSON array to SSE: the vendor's page shows one as the answer to `alt=sse`."""

    content_type = SSE

    def feed(self, chunk: bytes) -> list[Piece]:
        return [(sse.event(found), found) for found in self._objects.feed(chunk)]


def way_of(call: Call, answer: Answer) -> Way:
    """The answer's own content type says what it is, and the caller's `alt` what it becomes."""
    kind = answer.content_type or (SSE if call.sse else JSON)
    if kind == SSE:
        return Events() if call.sse else EventsToArray()
    if kind == JSON:
        return ArrayToEvents() if call.sse else Array()
    raise UpstreamBroke("The upstream answered with something that is not JSON.")


async def whole(
    answer: Answer, meter: Meter, sink: Sink, *, entry: Entry, hold: Hold, cleaned: Callable[[bytes], bytes]
) -> None:
    """Pass a unary answer on; of one that is an error `cleaned` makes what may leave.

    Raises `UpstreamBroke` for anything but one whole JSON object.
    """
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
    entry.usage, entry.whole, body = meter.usage, True, answer.body
    if meter.errored:  # a 2xx all the same, so its status and bytes are the caller's
        entry.outcome, body = "upstream_error", cleaned(body)
    kind = answer.headers.get("content-type", "")
    await sink.whole(answer.status, kind if PLAIN_TYPE.fullmatch(kind) else JSON, body, hold)


async def stream(
    call: Call,
    answer: Answer,
    meter: Meter,
    sink: Sink,
    *,
    entry: Entry,
    hold: Hold,
    idle_seconds: float,
    refusal: Callable[[bytes], GatewayError],
) -> None:
    """Pass a stream on.  Raises `Failed` when it breaks; what was counted until then stands in the entry.

    An error inside it is its end, by the `refusal` it means: behind a clean end some SDKs would take it for whole.
    """
    way = way_of(call, answer)
    assert answer.chunks is not None  # noqa: S101  the caller has looked
    base = hold.bytes
    try:
        async for chunk in timed(answer.chunks, entry, idle_seconds):
            written, error = _metered(meter, way.feed, chunk)
            await _write(sink, answer.status, way, written)
            if error:
                raise refusal(error)
            hold.resize(base + way.pending + sink.held)
        last, error = _metered(meter, lambda _: way.end(), b"")
        if error:
            raise refusal(error)
        if not meter.finished:
            raise UpstreamBroke  # a relay whose own upstream broke ends its stream cleanly all the same
        if not last and not sink.started:
            raise UpstreamBroke("The upstream's answer is empty.")
        await _write(sink, answer.status, way, last)
        entry.whole = True
    finally:
        entry.usage = meter.usage


def _metered(meter: Meter, feed: Callable[[bytes], list[Piece]], chunk: bytes) -> tuple[bytes, bytes]:
    """What to write, and the error object that ends the stream; b"" when there is none."""
    written: list[bytes] = []
    try:
        for piece, found in feed(chunk):
            if found:
                meter.event(found)
                if meter.errored:
                    return b"".join(written), found
            written.append(piece)
    except ValueError:
        raise UpstreamBroke("The upstream's answer is not whole JSON.") from None
    return b"".join(written), b""


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
