"""How does an answer reach the one who asked?

The head goes with the first bytes.  Everything but the last byte is sent as it comes, and that when the call has been
settled: whoever asks again at once finds its place free, and who leaves before has left for record, metrics and access
line alike.
"""

from gateway.asgi import SLICE_BYTES
from gateway.errors import ClientGone
from gateway.framing import SSE, is_comment
from gateway.memory import MemoryLease
from gateway.pipeline.deadline import Deadline
from gateway.pipeline.exchange import Exchange


class Responder:
    """One caller who waits for an answer.  Raises `ClientGone` when they do not."""

    held = 0

    def __init__(self, exchange: Exchange, deadline: Deadline) -> None:
        self._exchange, self._deadline = exchange, deadline
        self._reply, self._entry = exchange.reply, exchange.entry
        self._small: tuple[int, str, bytes | memoryview] | None = None  # a whole answer of which nothing is sent yet
        self._last: bytes | memoryview = b""

    @property
    def memory(self) -> MemoryLease:
        return self._exchange.memory

    @property
    def started(self) -> bool:
        return self._reply.started

    async def begin(self, status: int, content_type: str) -> None:
        self._entry.first_byte_sent()
        self._exchange.events = content_type == SSE
        await self._reply.begin(status, self._exchange.headers(content_type))

    async def write(self, chunk: bytes | memoryview) -> None:
        if not is_comment(chunk):
            self._deadline.extend()
        await self._reply.write(chunk)

    def keep(self, last: bytes) -> None:
        """Send this at the end of an answer that has begun: its reader has all of it when the call is settled."""
        self._last = last

    async def whole(
        self, status: int, content_type: str, body: bytes | memoryview, memory: MemoryLease | None = None
    ) -> None:
        if self._deadline.gone:
            raise ClientGone
        self._deadline.end()
        if len(body) <= SLICE_BYTES:
            self._small = status, content_type, body
            return
        self._entry.first_byte_sent()
        headers = self._exchange.headers(content_type)
        self._last = await self._reply.all_but_last(status, headers, body, memory)

    async def finish(self) -> None:
        """Send the last byte."""
        if self._small is not None:
            status, content_type, body = self._small
            self._entry.first_byte_sent()
            await self._reply.whole(status, self._exchange.headers(content_type), body)
        elif not self._reply.finished:
            await self._reply.write(self._last, last=True)
