"""How does an answer pass through: counted, checked to be whole, and otherwise untouched?

A unary answer is taken whole, so a cut one becomes a clean 502.  A stream passes event by event; its head is sent with
the first one, so a failure before it is still a plain error, unless that takes so long that proxies would give up.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

from gateway.background import off_loop
from gateway.call import Call, Frame, Framing, Meter, Sink, State
from gateway.errors import UpstreamBroke, UpstreamError, UpstreamTimeout
from gateway.framing import JSON, SSE, is_json
from gateway.telemetry import Entry
from gateway.upstream import Answer, Upstream

LARGE_EVENT_BYTES = 4 * 1024 * 1024
MAX_MODEL_CHARS = 128
ERRORS: frozenset[State] = frozenset({"failed", "complete with error"})


class Waits(NamedTuple):
    """How long a stream is waited for, in seconds."""

    idle: float  # between two pieces of it
    head: float = 60.0  # for its first event, before the caller is sent a head without one: proxies give up by then
    linger: float = 10.0  # for the rest of one whose answer is complete: its usage, its terminator, its end


class Arriving:
    """The chunks of one stream as they come; the waiting is the upstream's time."""

    def __init__(self, chunks: AsyncIterator[bytes], entry: Entry, waits: Waits) -> None:
        self.complete = False  # what has come is a complete answer: silence does not take that back
        self.counted = False  # and all that is known of it: no reset does, either
        self._chunks, self._entry, self._waits = chunks, entry, waits
        self._head_due = time.perf_counter() + waits.head
        self._end_due = 0.0  # once it is complete

    def took(self, *, complete: bool, counted: bool) -> None:
        """What has come by now is `complete`, and what it cost is known too."""
        if complete and not self.complete:
            self._end_due = time.perf_counter() + self._waits.linger
        self.complete, self.counted = complete, complete and counted

    async def next(self, sink: Sink, status: int, content_type: str) -> bytes:
        """The next chunk, b"" at the end.  Raises `UpstreamTimeout`, and as the chunks do, unless it is `complete`."""
        before = time.perf_counter()
        try:
            if not sink.started:
                return await self._first(sink, status, content_type)
            async with asyncio.timeout(max(self._end_due - before, 0) if self.complete else self._waits.idle):
                return await anext(self._chunks, b"")
        except (TimeoutError, UpstreamBroke, UpstreamTimeout) as error:
            if self.counted or (self.complete and isinstance(error, TimeoutError)):
                return b""
            if isinstance(error, TimeoutError):
                raise UpstreamTimeout from None
            raise
        finally:
            self._entry.upstream_seconds += time.perf_counter() - before

    async def _first(self, sink: Sink, status: int, content_type: str) -> bytes:
        """The same, while the caller has no head yet: it is sent meanwhile when it is due."""
        coming = asyncio.ensure_future(anext(self._chunks, b""))
        try:
            until_head = max(self._head_due - time.perf_counter(), 0)
            await asyncio.wait({coming}, timeout=min(until_head, self._waits.idle))
            if not coming.done() and until_head < self._waits.idle:
                await sink.begin(status, content_type)
                await asyncio.wait({coming}, timeout=self._waits.idle - until_head)
            if coming.done():
                return coming.result()
            raise TimeoutError
        finally:
            if not coming.done():
                coming.cancel()
                await asyncio.wait({coming})


class Relay:
    """Asks the upstream and passes on what it says."""

    def __init__(self, upstream: Upstream, waits: Waits) -> None:
        self.waits = waits
        self._upstream = upstream

    async def ask(self, call: Call, entry: Entry, sink: Sink) -> Meter:
        """Ask for a call, on the bill of an entry.  Raises `Failed`."""
        meter = call.route.dialect.meter(call)
        try:
            async with await self._upstream.send(call, entry, sink.memory) as answer:
                framing = call.route.dialect.framing(call, answer.headers.get("content-type", ""))
                if framing is None:
                    raise UpstreamBroke("The upstream answered with something that is not an answer.")
                if answer.chunks is None:
                    await self._whole(answer, framing, meter, entry, sink)
                else:
                    await self._stream(answer, framing, meter, entry, sink)
        finally:
            entry.served_model = meter.served_model[:MAX_MODEL_CHARS]
        return meter

    async def _whole(self, answer: Answer, framing: Framing, meter: Meter, entry: Entry, sink: Sink) -> None:
        """Pass a unary answer on, or a clean error where it is not whole; our key is cut out of an error."""
        try:
            pieces = [*framing.feed(answer.body), *framing.end()]
            for _, event in pieces:
                if event is not None:
                    await off_loop(len(event.data), meter.see, event)
        except ValueError:
            if not is_json(answer.content_type or JSON):
                raise UpstreamBroke("The upstream answered with something that is not JSON.") from None
            raise UpstreamBroke("The upstream's answer is not whole JSON.") from None
        entry.usage = meter.usage
        if framing.content_type == SSE and meter.state == "open":  # events, though none were asked for
            raise UpstreamBroke
        entry.whole = True
        body = pieces[0][0] if len(pieces) == 1 else b"".join(piece for piece, _ in pieces)
        if meter.state in ERRORS:  # a 2xx all the same, so its status and bytes are the caller's
            entry.fail(UpstreamError())
            body = self._upstream.redacted(body)
        await sink.whole(answer.status, framing.content_type, body, sink.memory)

    async def _stream(self, answer: Answer, framing: Framing, meter: Meter, entry: Entry, sink: Sink) -> None:
        """Pass a stream on.  Raises `Failed` when it breaks; what was counted until then stands in the entry.

        An error inside it is its end, by the refusal it means: behind a clean end some SDKs would take it for whole.
        """
        assert answer.chunks is not None  # noqa: S101  the caller has looked
        base, arriving = sink.memory.bytes, Arriving(answer.chunks, entry, self.waits)
        try:
            while chunk := await arriving.next(sink, answer.status, framing.content_type):
                written, error = await _metered(meter, framing, chunk, started=sink.started)
                await _write(sink, answer.status, framing, self._checked(meter, written))
                if error:
                    raise self._upstream.refusal_within(error)
                sink.memory.resize(base + framing.pending + sink.held)
                arriving.took(
                    complete=meter.state != "open" and not framing.pending,
                    counted=framing.terminated or meter.usage.source == "reported",
                )
                entry.whole = arriving.counted  # whoever leaves from here on has it all
                if arriving.complete and framing.terminated:
                    break
            last, error = await _metered(meter, framing, None, started=sink.started)
            if error:
                raise self._upstream.refusal_within(error)
            if meter.state == "open":
                raise UpstreamBroke  # a relay whose own upstream broke ends its stream cleanly all the same
            if not last and not sink.started:
                raise UpstreamBroke("The upstream's answer is empty.")
            if meter.state in ERRORS:
                entry.fail(UpstreamError())
            entry.whole = True
            await _write(sink, answer.status, framing, self._checked(meter, last))
        finally:
            entry.usage = meter.usage

    def _checked(self, meter: Meter, written: bytes) -> bytes:
        """What is written, without our key where an error stands in it."""
        return self._upstream.redacted(written) if meter.state in ERRORS else written


async def _metered(meter: Meter, framing: Framing, chunk: bytes | None, *, started: bool = True) -> tuple[bytes, bytes]:
    """What to write, and the error object that ends the stream; b"" when there is none.  No chunk: it has ended.

    Before the answer has `started` no comment is written: it would be its head.
    """
    written: list[bytes] = []
    try:
        for piece, event in await _frames(framing, chunk):
            if event is not None:
                await off_loop(len(event.data), meter.see, event)
                if meter.state == "failed":
                    return b"".join(written), event.data
            elif not started and not written and framing.content_type == SSE:
                continue
            written.append(piece)
    except ValueError:
        raise UpstreamBroke("The upstream's answer is not whole JSON.") from None
    return b"".join(written), b""


async def _frames(framing: Framing, chunk: bytes | None) -> list[Frame]:
    if chunk is None:
        return framing.end()
    if framing.pending < LARGE_EVENT_BYTES:
        return framing.feed(chunk)
    return await asyncio.to_thread(framing.feed, chunk)  # the end of a large event copies it more than once


async def _write(sink: Sink, status: int, framing: Framing, written: bytes) -> None:
    if not written:
        return
    if not sink.started:
        await sink.begin(status, framing.content_type)
    await sink.write(written)
