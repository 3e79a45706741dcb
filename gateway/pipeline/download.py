"""How does the file of a video pass through?  As it comes, and never ended cleanly when it is short.

The upstream cuts a download that takes longer than a minute.  So it is read at its own speed into a bounded buffer,
ahead of the caller: a short stall of theirs does not reach it, and a long one holds no more than the buffer.
"""

import asyncio
import contextlib
import re
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping

from gateway.asgi import RawHeader
from gateway.call import Call
from gateway.errors import UpstreamBroke, UpstreamTimeout
from gateway.memory import MemoryLease
from gateway.pipeline.exchange import Exchange
from gateway.pipeline.responder import Responder
from gateway.upstream import Answer, Upstream

BUFFER_BYTES = 8 * 2**20
BINARY = "application/octet-stream"

PLAIN_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]+", re.IGNORECASE)
PLAIN = re.compile(r"[ -~]{1,256}")
DISPOSITION = re.compile(r'(?:attachment|inline)(?:; ?filename="[A-Za-z0-9._-]{1,100}")?')
ABOUT_BYTES = frozenset({"content-length", "content-range", "accept-ranges"})  # as they came, in their coding


class ReadAhead:
    """The chunks of a file, read ahead of whoever takes them, up to so many bytes.

    Raises `UpstreamTimeout` after so many seconds of silence, and as the chunks do, behind all that came before.
    """

    def __init__(
        self, chunks: AsyncIterator[bytes], memory: MemoryLease, *, limit: int = BUFFER_BYTES, seconds: float
    ) -> None:
        self._chunks, self._memory, self._limit, self._seconds = chunks, memory, limit, seconds
        self._read = deque[bytes]()
        self._held = 0
        self._changed = asyncio.Event()

    async def play(self) -> AsyncGenerator[bytes]:
        """Give chunk by chunk, each counted as held until the next is asked for."""
        reading = asyncio.create_task(self._fill())
        reading.add_done_callback(lambda _: self._changed.set())
        try:
            while True:
                if self._read:
                    chunk = self._read.popleft()
                    yield chunk
                    self._hold(-len(chunk))
                elif reading.done():
                    reading.result()
                    return
                else:
                    await self._change()
        finally:
            reading.cancel()
            await asyncio.wait({reading})
            del reading  # its error names this frame: that would be a cycle

    async def _fill(self) -> None:
        while chunk := await self._next():
            self._read.append(chunk)
            self._hold(len(chunk))
            while self._held >= self._limit:
                await self._change()

    async def _next(self) -> bytes:
        try:
            async with asyncio.timeout(self._seconds):
                return await anext(self._chunks, b"")
        except TimeoutError:
            raise UpstreamTimeout from None

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _hold(self, count: int) -> None:
        self._held += count
        self._memory.resize(self._memory.bytes + count)
        self._changed.set()


class Downloaded:
    """What a request for a file is answered with."""

    saved_tokens = 0

    def __init__(self, upstream: Upstream, call: Call, exchange: Exchange, *, idle_seconds: float) -> None:
        self._upstream, self._call, self._exchange, self._idle_seconds = upstream, call, exchange, idle_seconds

    async def play(self, sink: Responder) -> None:
        """Pass it on; of a HEAD the head alone, which is that of a GET whose body nobody reads."""
        exchange, entry = self._exchange, self._exchange.entry
        async with await self._upstream.send(self._call, entry, sink.memory) as answer:
            lines = headers_of(answer, self._call.operation.answer_headers)
            exchange.more_headers += [line for line in lines if self._upstream.redacted(line[1]) is line[1]]
            await sink.begin(answer.status, content_type_of(answer))
            if answer.chunks is not None and exchange.request.http_method != "HEAD":
                await self._pass_on(answer.chunks, sink)
        entry.whole = True

    async def _pass_on(self, chunks: AsyncIterator[bytes], sink: Responder) -> None:
        last = b""
        async with contextlib.aclosing(ReadAhead(chunks, sink.memory, seconds=self._idle_seconds).play()) as ahead:
            while chunk := await self._timed(ahead):
                if last:
                    await sink.write(last)
                last = chunk
        sink.keep(last)

    async def _timed(self, ahead: AsyncIterator[bytes]) -> bytes:
        """The next chunk, b"" at the end; waiting for it is the upstream's time."""
        before = time.perf_counter()
        try:
            return await anext(ahead, b"")
        finally:
            self._exchange.entry.upstream_seconds += time.perf_counter() - before


def content_type_of(answer: Answer) -> str:
    """What the upstream says, where that is a plain type."""
    return answer.content_type if PLAIN_TYPE.fullmatch(answer.content_type) else BINARY


def headers_of(answer: Answer, names: frozenset[str]) -> list[RawHeader]:
    """The upstream's headers that come back, as far as they are plain.  Raises `UpstreamBroke` for a coded range."""
    said: Mapping[str, str] = answer.headers
    coded = said.get("content-encoding", "identity") != "identity"
    if coded and answer.status == 206:
        raise UpstreamBroke("The upstream's answer is a range of something that is coded.")
    kept = {name: said.get(name, "") for name in sorted(names - ABOUT_BYTES if coded else names)}
    return [
        (name.encode(), value.encode())
        for name, value in kept.items()
        if (DISPOSITION if name == "content-disposition" else PLAIN).fullmatch(value)
    ]
