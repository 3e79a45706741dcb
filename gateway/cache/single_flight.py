"""How does one answer reach all who asked for it?

A flight is an answer on its way.  Whoever gets it writes it down here; one caller may play it as it comes, all others
wait for its end.  It ends once: with the whole answer, with an error, or with neither, when whoever was looking for it
left before anybody was asked.

Who uses it has joined it and leaves it.  After the last it lets go of everything: bytes count as held for as long as
they are, and an error keeps the frames of all who raised it, which keep their bodies, and the flight.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType

from gateway.cache.answer import CachedAnswer, Chunk
from gateway.errors import Draining
from gateway.memory import MemoryLease

PIECE_BYTES = 64 * 1024  # thousands of small writes in one turn of the loop would stall it


class SingleFlight:
    """One answer on its way, its bytes counted in `memory`; `on_close` is called when nobody may join any more."""

    _trace: TracebackType | None = None  # of the error, as it came

    def __init__(self, memory: MemoryLease, on_close: Callable[["SingleFlight"], None] = lambda _: None) -> None:
        self.memory = memory
        self.started = False  # something has been written
        self.asked = False  # an upstream call brings it, not the store alone
        self.held = 0  # bytes
        self.storable = False
        self.status = 200
        self.kept: CachedAnswer | None = None
        self.error: BaseException | None = None
        self.ended = asyncio.Event()
        self._deadline: asyncio.Timeout | None = None
        self._then_seconds: float | None = None
        self._on_close = on_close
        self._content_type, self._tokens = "", 0
        self._chunks: list[Chunk] = []
        self._more = asyncio.Event()
        self._stirred = asyncio.Event()
        self._turnstile = asyncio.Lock()
        self._users = 0
        self._task: asyncio.Task[None] | None = None

    async def begin(self, status: int, content_type: str) -> None:
        """The answer comes, and is of this type."""
        self.started, self.status, self._content_type = True, status, content_type
        self._more.set()

    async def write(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes, which are held to the end."""
        if not self._chunks and self._deadline is not None and self._then_seconds is not None:
            self._deadline.reschedule(asyncio.get_running_loop().time() + self._then_seconds)
        self._chunks.append(chunk)
        self.held += len(chunk)
        self._more.set()

    async def whole(self, status: int, content_type: str, body: bytes | memoryview) -> None:
        """Take an answer that came whole."""
        await self.begin(status, content_type)
        await self.write(body)

    def mark_storable(self, *, storable: bool, tokens: int) -> None:
        """Say of the answer, which is whole now, whether it may be kept and what it cost."""
        self.storable, self._tokens = storable and self.status == 200, tokens

    def finish(self) -> CachedAnswer:
        """It ends with what has been written."""
        kept = CachedAnswer(
            content_type=self._content_type, chunks=self._chunks, tokens=self._tokens, created=time.time()
        )
        self.end(kept=kept)
        return kept

    def end(self, *, kept: CachedAnswer | None = None, error: BaseException | None = None) -> None:
        """It ends; only the first end counts."""
        if self.ended.is_set():
            return
        if kept is not None:
            self.memory.resize(kept.size)
        if error is not None:
            self._trace = error.__traceback__
        self.kept, self.error = kept, error
        self._deadline = None  # it knows its task, which knows the error, which knows us
        self._on_close(self)
        self.ended.set()
        self._more.set()

    def deadline(self, when: float, *, then_seconds: float | None) -> asyncio.Timeout:
        """What ends the task at `when`, or `then_seconds` after the first bytes of what may go on for long."""
        self._deadline, self._then_seconds = asyncio.timeout_at(when), then_seconds
        return self._deadline

    def carried_by(self, task: asyncio.Task[None]) -> None:
        """From here on a task brings it, which is tended; `done` is to be called when it is done."""
        self.asked, self._task = True, task

    def done(self, error: BaseException | None) -> None:
        """The task is done; the error counts unless the flight has ended before."""
        self.end(error=error)
        self._task = None
        self._stirred.set()
        if not self._users:
            self._let_go()

    def join(self) -> None:
        """One more uses it."""
        self._users += 1

    def leave(self) -> None:
        """One less does."""
        self._users -= 1
        if self._users:
            return
        if self._task is None:
            self._let_go()
        elif not self.ended.is_set():
            self._stirred.set()

    @property
    def used(self) -> bool:
        """Whether anybody in this worker waits."""
        return self._users > 0

    async def done_within(self, seconds: float) -> bool:
        """Wait for the end of the task, for so long or until the last user leaves; whether it has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stirred.wait()
        self._stirred.clear()
        return self._task is None

    def give_up(self) -> None:
        """Cancel the task, unless it has brought the answer; nobody joins what is being given up."""
        if self._task is not None and not self.ended.is_set():
            self._on_close(self)
            self._task.cancel()

    async def wait_for_leader(self) -> bool:
        """Join, and wait for the end; whether it was one that others can use.  If not, nobody has joined."""
        self.join()
        usable = False
        try:
            await self.ended.wait()
            async with self._turnstile:  # hundreds who go on in one turn of the loop would stall it
                await asyncio.sleep(0)
            usable = self.kept is not None or self.error is not None
        finally:
            if not usable:
                self.leave()
        return usable

    async def answer(self) -> CachedAnswer:
        """The answer, at its end.  Raises what it ended with."""
        await self.ended.wait()
        if self.kept is None:
            raise (self.error or Draining()).with_traceback(self._trace)  # else it grows with each who raises it
        return self.kept

    async def play(self) -> AsyncGenerator[Chunk, None]:
        """The chunks, as they come, or joined where they are there; for one caller.  Raises what it ended with.

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
        for piece in joined((self._chunks if self.kept is None else self.kept.chunks)[at:]):
            yield piece
        await self.answer()

    @property
    def content_type(self) -> str:
        return self._content_type if self.kept is None else self.kept.content_type

    def _let_go(self) -> None:
        self.kept = self.error = self._trace = None
        self._chunks = []
        self.memory.resize(0)


def joined(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """The same bytes in fewer pieces; what is large is not copied."""
    small: list[Chunk] = []
    size = 0
    for chunk in chunks:
        if size + len(chunk) > PIECE_BYTES and small:
            yield _one(small)
            small, size = [], 0
        small.append(chunk)
        size += len(chunk)
    if small:
        yield _one(small)


def _one(chunks: list[Chunk]) -> Chunk:
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
