"""How does an answer pass through: counted, checked to be whole, and otherwise untouched?

A unary answer is taken whole, so a cut one becomes a clean 502.  A stream passes event by event; its head is sent with
the first one, so a failure before it is still a plain error.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable

from gateway.asgi import Hold
from gateway.call import Call, Meter
from gateway.errors import GatewayError, UpstreamBroke, UpstreamTimeout
from gateway.framing import JSON, Framing, framing_of, is_json
from gateway.ledger import Entry
from gateway.live import Sink
from gateway.upstream import Answer

LARGE_BYTES = 64 * 1024  # from here on JSON is read in a thread, so that the loop never stalls
LARGE_EVENT_BYTES = 4 * 1024 * 1024
PLAIN_TYPE = re.compile(r"[a-z]+/[a-z.+-]+(?:; ?charset=[a-z0-9-]{1,16})?", re.IGNORECASE)  # what crosses untouched


async def whole(
    answer: Answer, meter: Meter, sink: Sink, *, entry: Entry, hold: Hold, cleaned: Callable[[bytes], bytes]
) -> None:
    """Pass a unary answer on; of one that is an error `cleaned` makes what may leave.

    Raises `UpstreamBroke` for anything but one whole JSON object.
    """
    hold.answer(len(answer.body))
    try:
        await _see(meter, answer.body)
    except ValueError:
        if not is_json(answer.content_type or JSON):
            raise UpstreamBroke("The upstream answered with something that is not JSON.") from None
        raise UpstreamBroke("The upstream's answer is not whole JSON.") from None
    entry.usage, entry.whole, body = meter.usage, True, answer.body
    if meter.errored:  # a 2xx all the same, so its status and bytes are the caller's
        entry.outcome, body = "upstream_error", cleaned(body)
    kind = answer.headers.get("content-type", "")
    await sink.whole(answer.status, kind if is_json(kind) and PLAIN_TYPE.fullmatch(kind) else JSON, body, hold)


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
    framing = framing_of(call, answer.content_type)
    assert answer.chunks is not None  # noqa: S101  the caller has looked
    base = hold.bytes
    try:
        async for chunk in timed(answer.chunks, entry, idle_seconds):
            written, error = await _metered(meter, framing, chunk)
            await _write(sink, answer.status, framing, written)
            if error:
                raise refusal(error)
            hold.resize(base + framing.pending + sink.held)
        last, error = await _metered(meter, framing, None)
        if error:
            raise refusal(error)
        if not meter.finished:
            raise UpstreamBroke  # a relay whose own upstream broke ends its stream cleanly all the same
        if not last and not sink.started:
            raise UpstreamBroke("The upstream's answer is empty.")
        await _write(sink, answer.status, framing, last)
        entry.whole = True
    finally:
        entry.usage = meter.usage


async def _metered(meter: Meter, framing: Framing, chunk: bytes | None) -> tuple[bytes, bytes]:
    """What to write, and the error object that ends the stream; b"" when there is none.  No chunk: it has ended."""
    written: list[bytes] = []
    try:
        if chunk is None:
            frames = framing.end()
        elif framing.pending < LARGE_EVENT_BYTES:
            frames = framing.feed(chunk)
        else:  # its end copies it more than once
            frames = await asyncio.to_thread(framing.feed, chunk)
        for piece, found in frames:
            if found:
                await _see(meter, found)
                if meter.errored:
                    return b"".join(written), found
            written.append(piece)
    except ValueError:
        raise UpstreamBroke("The upstream's answer is not whole JSON.") from None
    return b"".join(written), b""


async def _see(meter: Meter, found: bytes) -> None:
    if len(found) < LARGE_BYTES:
        meter.event(found)
    else:
        await asyncio.to_thread(meter.event, found)


async def _write(sink: Sink, status: int, framing: Framing, written: bytes) -> None:
    if not written:
        return
    if not sink.started:
        await sink.begin(status, framing.content_type)
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
