"""How is one call read and its answer sent, while watching whether the caller is still there?"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from hashlib import sha256
from typing import Any, TypeVar

from gateway.sandbox.log import Record
from gateway.sandbox.wire import Answer

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
T = TypeVar("T")

_SLICE = 256 * 1024  # bytes handed over at once, so that a slow reader is waited for
_FLUSH_SECONDS = 0.02  # what was written before an abort needs this long to leave


class HungUpError(Exception):
    """The caller hung up."""


class Exchange:
    """One call.  Every method raises `HungUpError` when the caller hangs up, and then nothing more is done for it."""

    def __init__(self, receive: Receive, send: Send, record: Record) -> None:
        self._receive, self._send, self._record = receive, send, record
        self._sent = sha256()

    async def read(self) -> bytes:
        """The request body."""
        parts = []
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise HungUpError
            parts.append(message["body"])
            if not message["more_body"]:
                break
        body = b"".join(parts)
        self._record.body_bytes, self._record.body_sha256 = len(body), sha256(body).hexdigest()
        return body

    async def beside(self, make: Callable[[], T]) -> T:
        """What `make` returns or raises, run in a thread."""
        made = asyncio.get_running_loop().run_in_executor(None, make)
        left = asyncio.ensure_future(self._left())
        try:
            await asyncio.wait((made, left), return_when=asyncio.FIRST_COMPLETED)
            if not made.done():
                raise HungUpError
            return made.result()
        finally:
            made.cancel()
            left.cancel()

    async def pause(self, seconds: float | None) -> None:
        """Wait; None is for ever."""
        try:
            async with asyncio.timeout(seconds):
                await self._left()
        except TimeoutError:
            return
        raise HungUpError

    async def play(self, answer: Answer) -> None:
        """Send an answer in its time."""
        if answer.wait != 0:
            await self.pause(answer.wait)
        if not answer.headless:
            await self._head(answer)
        try:
            async with asyncio.timeout(answer.cut_after):
                await self._chunks(answer)
        except TimeoutError:
            await self._abort()
        if answer.cut:
            await self._abort()

    def close(self, *, complete: bool) -> None:
        """Note how it ended."""
        self._record.close(self._sent.hexdigest(), complete=complete)

    async def _chunks(self, answer: Answer) -> None:
        chunks = answer.chunks or ([] if answer.cut else [b""])  # an answer of no chunks ends, too
        last = None if answer.cut else len(chunks) - 1
        for number, chunk in enumerate(chunks):
            if number and answer.gap:
                await self.pause(answer.gap)
            if number == answer.silence_at and answer.silence != 0:
                await self.pause(answer.silence)
            await self._write(chunk, more=number != last)
            if number < len(answer.usages) and answer.usages[number]:
                self._record.usage = answer.usages[number]
            if number == answer.whole_at:
                self._record.whole = True

    async def _left(self) -> None:
        """Return once the caller has hung up."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _head(self, answer: Answer) -> None:
        self._record.status = answer.status
        headers = [(b"content-type", answer.content_type), *answer.headers]
        headers.append((b"x-oneapi-request-id", self._record.nonce.encode()))
        if answer.length is not None:
            headers.append((b"content-length", b"%d" % answer.length))
        await self._send({"type": "http.response.start", "status": answer.status, "headers": headers})

    async def _write(self, chunk: bytes, *, more: bool) -> None:
        if len(chunk) <= _SLICE:
            await self._body(chunk, more=more)
            return
        view = memoryview(chunk)
        for at in range(0, len(chunk), _SLICE):
            await self._body(view[at : at + _SLICE], more=True)
            await self.pause(0)  # sending to a closed connection raises nothing; this notices
        await self._body(b"", more=more)

    async def _body(self, data: bytes | memoryview, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self._sent.update(data)
        self._record.answer_bytes += len(data)

    async def _abort(self) -> None:
        """Drop the connection.  ASGI has no message for it, so uvicorn's transport is used."""
        await self.pause(_FLUSH_SECONDS)
        cycle: Any = getattr(self._send, "__self__")  # noqa: B009 - a callable in general has none
        cycle.transport.abort()
        try:
            await self.pause(None)
        except HungUpError:
            return
