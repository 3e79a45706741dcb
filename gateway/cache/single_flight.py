"""How does one answer reach all callers that asked for it (single-flight)?

A flight is one answer that is in flight.  The leader writes it here; one caller may play it as it comes, all others
wait for its end.  It ends once: with the whole answer, with an error, or with neither, when the leader left before it
asked the upstream.

Its users are counted: each joins and leaves.  After the last one it releases everything: its bytes count as held memory
until then, and an error keeps alive the frames of all who raised it, with their bodies and the flight.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType

from gateway.cache.answer import CachedAnswer, Chunk
from gateway.errors import Draining
from gateway.framing import is_comment
from gateway.memory import MemoryLease

CHUNK_BYTES = 64 * 1024  # thousands of small writes in one turn of the loop would stall it


class SingleFlight:
    """One answer in flight, its bytes counted in `memory`; `on_close` is called when nobody may join any more."""

    _trace: TracebackType | None = None  # of the error, as it came

    def __init__(self, memory: MemoryLease, on_close: Callable[["SingleFlight"], None] = lambda _: None) -> None:
        self.memory = memory
        self.started = False  # something has been written
        self.asked = False  # an upstream call brings it, not only the store
        self.held = 0  # bytes
        self.storable = False
        self.status = 200
        self.cached: CachedAnswer | None = None
        self.error: BaseException | None = None
        self.ended = asyncio.Event()
        self._deadline: asyncio.Timeout | None = None
        self._then_seconds: float | None = None
        self._on_close = on_close
        self._content_type, self._tokens = "", 0
        self._chunks: list[Chunk] = []
        self._more = asyncio.Event()
        self._changed = asyncio.Event()
        self._turnstile = asyncio.Lock()
        self._users = 0
        self._task: asyncio.Task[None] | None = None

    async def begin(self, status: int, content_type: str) -> None:
        """Begin the answer, with its status and type."""
        self.started, self.status, self._content_type = True, status, content_type
        self._more.set()

    async def write(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes, which are held to the end."""
        if self._then_seconds is not None and self._deadline is not None and not is_comment(chunk):
            self._deadline.reschedule(asyncio.get_running_loop().time() + self._then_seconds)
            self._then_seconds = None
        self._chunks.append(chunk)
        self.held += len(chunk)
        self._more.set()

    async def whole(
        self,
        status: int,
        content_type: str,
        body: bytes | memoryview,
        memory: MemoryLease | None = None,  # noqa: ARG002  they stay counted: others may want them
    ) -> None:
        """Take an answer that came whole."""
        await self.begin(status, content_type)
        await self.write(body)

    def mark_storable(self, *, storable: bool, tokens: int) -> None:
        """Mark the answer, which is whole now, as storable or not, with the tokens that it cost."""
        self.storable, self._tokens = storable and self.status == 200, tokens

    def finish(self) -> CachedAnswer:
        """End it with what has been written."""
        cached = CachedAnswer(
            content_type=self._content_type, chunks=self._chunks, tokens=self._tokens, created=time.time()
        )
        self.end(cached=cached)
        return cached

    def end(self, *, cached: CachedAnswer | None = None, error: BaseException | None = None) -> None:
        """End it; only the first end counts."""
        if self.ended.is_set():
            return
        if cached is not None:
            self.memory.resize(cached.size)
        if error is not None:
            self._trace = error.__traceback__
        self.cached, self.error = cached, error
        self._deadline = None  # else a reference cycle: it holds its task, that the error, and that us
        self._on_close(self)
        self.ended.set()
        self._more.set()

    def deadline(self, when: float, *, then_seconds: float | None) -> asyncio.Timeout:
        """The timeout of the task: at `when`, and from the first event on, of a stream, `then_seconds` later."""
        self._deadline, self._then_seconds = asyncio.timeout_at(when), then_seconds
        return self._deadline

    def carried_by(self, task: asyncio.Task[None]) -> None:
        """Set the task that brings it; `done` must be called when the task is done."""
        self.asked, self._task = True, task

    def done(self, error: BaseException | None) -> None:
        """The task is done; the error counts unless the flight has ended before."""
        self.end(error=error)
        self._task = None
        self._changed.set()
        if not self._users:
            self._release()

    def join(self) -> None:
        """Add one user."""
        self._users += 1

    def leave(self) -> None:
        """Remove one user; the last one releases everything."""
        self._users -= 1
        if self._users:
            return
        if self._task is None:
            self._release()
        elif not self.ended.is_set():
            self._changed.set()

    @property
    def used(self) -> bool:
        """Whether anybody in this worker waits for it."""
        return self._users > 0

    async def done_within(self, seconds: float) -> bool:
        """Wait for the end of the task, at most so long or until the last user leaves; whether it has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        self._changed.clear()
        return self._task is None

    def give_up(self) -> None:
        """Cancel the task, unless it has brought the answer; nobody can join from here on."""
        if self._task is not None and not self.ended.is_set():
            self._on_close(self)
            self._task.cancel()

    async def wait_for_leader(self) -> bool:
        """Join, and wait for the end; whether others can use its result.  If not, this user has left again."""
        self.join()
        usable = False
        try:
            await self.ended.wait()
            async with self._turnstile:  # hundreds that resume in one turn of the loop would stall it
                await asyncio.sleep(0)
            usable = self.cached is not None or self.error is not None
        finally:
            if not usable:
                self.leave()
        return usable

    async def answer(self) -> CachedAnswer:
        """The answer, at its end.  Raises what it ended with."""
        await self.ended.wait()
        if self.cached is None:
            raise (self.error or Draining()).with_traceback(self._trace)  # else the traceback grows with each raise
        return self.cached

    async def play(self) -> AsyncGenerator[Chunk, None]:
        """The chunks, as they come, or joined where they are there already; for one caller.  Raises what it ended with.

        An empty one comes first where the answer has begun and nothing of it is there yet.
        """
        at = 0
        while not self.ended.is_set():
            self._more.clear()
            if self.started and not self._chunks:
                yield b""
            while at < len(self._chunks):
                yield self._chunks[at]
                at += 1
            await self._more.wait()
        for chunk in joined((self._chunks if self.cached is None else self.cached.chunks)[at:]):
            yield chunk
        await self.answer()

    @property
    def content_type(self) -> str:
        return self._content_type if self.cached is None else self.cached.content_type

    def _release(self) -> None:
        self.cached = self.error = self._trace = None
        self._chunks = []
        self.memory.resize(0)


def joined(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """The same bytes in fewer chunks; large ones are not copied."""
    small: list[Chunk] = []
    size = 0
    for chunk in chunks:
        if size + len(chunk) > CHUNK_BYTES and small:
            yield _one(small)
            small, size = [], 0
        small.append(chunk)
        size += len(chunk)
    if small:
        yield _one(small)


def _one(chunks: list[Chunk]) -> Chunk:
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
