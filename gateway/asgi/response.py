"""How is a request answered, and how does a call notice that its caller has disconnected?

Answers are written in slices with backpressure: each waits, under a deadline, until the caller has taken the one
before, since a server's `send` returns before that.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from gateway.asgi.request import Receive, Scope, Send
from gateway.errors import ClientGone
from gateway.memory import MemoryLease

RawHeader = tuple[bytes, bytes]

CONNECTION = "tokenhot.connection"  # the scope extension that our protocol adds
SLICE_BYTES = 256 * 1024
DISCARD_SECONDS = 5.0


class Connection(Protocol):
    """What our protocol offers a call beyond ASGI: found in the scope's extensions."""

    lost: bool  # the caller has disconnected
    body_arrived: bool  # the request being served has arrived completely
    on_gone: Callable[[], None] | None  # called when the caller disconnects

    def close_after(self) -> None:
        """Close the connection after the answer."""

    def begin_stream(self) -> None:
        """An answer in chunks begins: must be called before its head is sent."""

    def end_stream(self) -> None:
        """The last chunk of such an answer is the next that is sent."""

    def answer_at_once(self, status: int, headers: list[RawHeader], body: bytes | memoryview) -> bool:
        """Send a whole answer in one write; False where it needs the general path, and then nothing is done."""

    def cut(self, *, flush: bool) -> None:
        """End the connection without a clean end; with `flush`, after what has been sent has left."""


class Reply:
    """The one answer to a request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.connection: Connection = scope["extensions"][CONNECTION]
        self.started = self.finished = False
        self.status = 0
        self.bytes_out = 0
        self.waited = 0.0  # seconds spent waiting for the caller to read
        self._streams = False
        self._receive, self._send = receive, send

    async def begin(self, status: int, headers: list[RawHeader]) -> None:
        """Send the head of an answer that comes in chunks."""
        self.connection.begin_stream()
        self._streams = True
        await self._start(status, headers)

    async def _start(self, status: int, headers: list[RawHeader]) -> None:
        self.started, self.status = True, status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes | memoryview, *, last: bool = False) -> None:
        """Send a chunk; waits until the one before has left.

        Raises `ClientGone` when the caller has disconnected, or was disconnected because they stopped reading.
        """
        if last and self._streams:
            self.connection.end_stream()
        before = time.perf_counter()
        await self._send({"type": "http.response.body", "body": body, "more_body": not last})
        self.waited += time.perf_counter() - before
        if self.connection.lost and not last:
            raise ClientGone
        self.bytes_out += len(body)
        self.finished = last

    async def whole(self, status: int, headers: list[RawHeader], body: bytes | memoryview) -> None:
        """Send a complete answer."""
        if len(body) > SLICE_BYTES:
            return await self.write(await self.all_but_last(status, headers, body), last=True)
        headers = [*headers, (b"content-length", b"%d" % len(body))]
        if self.connection.answer_at_once(status, headers, body):
            self.started = self.finished = True
            self.status, self.bytes_out = status, len(body)
            return None
        await self._start(status, headers)
        return await self.write(body, last=True)

    async def all_but_last(
        self, status: int, headers: list[RawHeader], body: bytes | memoryview, memory: MemoryLease | None = None
    ) -> memoryview:
        """Send a complete answer but its last slice, which is returned; its bytes leave the budget as they go."""
        await self._start(status, [*headers, (b"content-length", b"%d" % len(body))])
        view = memoryview(body)
        end = (len(body) - 1) // SLICE_BYTES * SLICE_BYTES
        for begin in range(0, end, SLICE_BYTES):
            await self.write(view[begin : begin + SLICE_BYTES])
            if memory is not None:
                memory.release(SLICE_BYTES)
        return view[end:]

    async def refuse(self, status: int, headers: list[RawHeader], body: bytes, *, unread: bool) -> None:
        """Send an error; discard a body left `unread` for a while, so that the caller reads the answer, not a reset."""
        if not unread:
            return await self.whole(status, headers, body)
        self.connection.close_after()
        await self._start(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self.write(body)
        before = time.perf_counter()
        try:
            async with asyncio.timeout(DISCARD_SECONDS):
                while (message := await self._receive())["type"] == "http.request" and message.get("more_body"):
                    pass
        except TimeoutError:
            pass
        self.waited += time.perf_counter() - before
        return await self.write(b"", last=True)

    def cut(self) -> None:
        """End an answer in flight so that nobody takes it for complete; what has been sent still leaves."""
        self.finished = True
        self.connection.cut(flush=True)
