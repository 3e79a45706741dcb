"""How does an answer reach the one who asked?

The head goes with the first bytes, and the call is settled before the last: whoever asks again at once finds its place
free, and who leaves before has left for record, metrics and access line alike.  What an answer is written to is a
`Sink`; a caller is one, and so is a flight of the cache.
"""

from typing import Protocol

from gateway.asgi import SLICE_BYTES
from gateway.errors import ClientGone
from gateway.framing import sse
from gateway.memory import MemoryLease
from gateway.pipeline.deadline import Deadline
from gateway.pipeline.exchange import Exchange


class Sink(Protocol):
    """Where an answer goes."""

    held: int  # bytes of the answer that it keeps

    @property
    def started(self) -> bool:
        """Whether the answer has begun."""

    async def begin(self, status: int, content_type: str) -> None:
        """The answer comes in pieces, and is of this type."""

    async def write(self, chunk: bytes) -> None:
        """Take the next piece."""

    async def whole(self, status: int, content_type: str, body: bytes, memory: MemoryLease | None = None) -> None:
        """Take an answer that came whole; `memory` counts its bytes, which may leave it as they go."""


class Responder:
    """One caller who waits for an answer.  Raises `ClientGone` when they do not."""

    held = 0

    def __init__(self, exchange: Exchange, deadline: Deadline) -> None:
        self._exchange, self._deadline = exchange, deadline
        self._reply, self._entry = exchange.reply, exchange.entry

    @property
    def started(self) -> bool:
        return self._reply.started

    async def begin(self, status: int, content_type: str) -> None:
        self._entry.first_byte_sent()
        self._exchange.events = content_type == sse.CONTENT_TYPE
        await self._reply.begin(status, self._exchange.headers(content_type))

    async def write(self, chunk: bytes | memoryview) -> None:
        self._deadline.extend()
        await self._reply.write(chunk)

    async def whole(
        self, status: int, content_type: str, body: bytes | memoryview, memory: MemoryLease | None = None
    ) -> None:
        if self._deadline.gone:
            raise ClientGone
        self._deadline.end()
        if len(body) <= SLICE_BYTES:
            await self._entry.settle()
        self._entry.first_byte_sent()
        headers = self._exchange.headers(content_type)
        await self._reply.whole(status, headers, body, memory, before_last=self._entry.settle)

    async def end(self) -> None:
        """That was all."""
        if not self._reply.finished:
            await self._entry.settle()
            await self._reply.write(b"", last=True)
