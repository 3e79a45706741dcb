"""What of ASGI does a call need: its head, its body, an answer, and word when the caller hangs up?

Bodies are bounded twice: each by its own limit, and all that a worker holds by one budget.  Answers are written in
slices, each awaited under a deadline, since a server's `send` returns before anybody has read what was sent.
"""

import asyncio
import io
import random
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, Self

import msgspec

from gateway.asgi.headers import Headers
from gateway.errors import BodyTimeout, BodyTooLarge, ClientGone
from gateway.memory import Hold

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
RawHeader = tuple[bytes, bytes]

CONNECTION = "tokenhot.connection"  # the scope extension that our listener adds
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
SLICE_BYTES = 256 * 1024
BODY_SECONDS = 60.0  # a whole body, and longer only for one that keeps arriving at
BODY_BYTES_PER_SECOND = 50 * 1024
DISCARD_SECONDS = 5.0


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The head of one request, as it stood on the wire."""

    http_method: str  # "GET", "POST", ...
    raw_path: bytes  # not decoded, without the query
    query: bytes  # without the question mark
    headers: Headers
    request_id: str  # the caller's where it is well-formed, else ours

    @classmethod
    def of(cls, scope: Scope) -> Self:
        headers = Headers(scope["headers"])
        return cls(
            http_method=scope["method"],
            raw_path=scope["raw_path"],
            query=scope["query_string"],
            headers=headers,
            request_id=request_id_of(headers),
        )

    @property
    def has_body(self) -> bool:
        return b"transfer-encoding" in self.headers or bool(self.content_length)

    @property
    def content_length(self) -> int | None:
        """As declared.  The parser has refused what is no number or over 64 bits, and has taken leading zeros."""
        length = self.headers.get(b"content-length").lstrip("0")
        return int(length or "0") if b"content-length" in self.headers else None


def request_id_of(headers: Headers) -> str:
    """The caller's where it is well-formed, else one of ours."""
    given = headers.get(b"x-request-id")
    return given if REQUEST_ID.fullmatch(given) else f"{random.getrandbits(96):024x}"  # told apart, not secret


async def read_body(
    request: Request,
    receive: Receive,
    hold: Hold,
    limit: int,
    *,
    arrived: bool = False,
    seconds: float = BODY_SECONDS,
) -> bytes:
    """Read a whole body into the budget; one that has `arrived` comes as one message, and needs no deadline.

    What is declared must find room now, and only what has come takes it.  A declared length has been held against the
    limit before.  Raises `BodyTooLarge` at the first byte beyond, `BodyTimeout`, `Overloaded` and `ClientGone`; then
    nothing of the body is held.
    """
    hold.may_request(request.content_length or 0)
    if arrived:
        return _arrived(await receive(), hold, limit)
    with io.BytesIO() as body:  # grows in place and gives its bytes away uncopied: a list and a join hold them twice
        try:
            return await _read(body, receive, hold, limit, seconds)
        except BaseException:
            hold.resize(0)
            raise


def _arrived(message: MutableMapping[str, Any], hold: Hold, limit: int) -> bytes:
    if message["type"] != "http.request":
        raise ClientGone
    body: bytes = message.get("body", b"")
    if len(body) > limit:
        raise BodyTooLarge(limit)
    hold.request(len(body))
    return body


async def _read(body: io.BytesIO, receive: Receive, hold: Hold, limit: int, seconds: float) -> bytes:
    started = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(started + seconds) as deadline:
            while (message := await receive())["type"] == "http.request":
                body.write(chunk := message.get("body", b""))
                if body.tell() > limit:
                    raise BodyTooLarge(limit)
                hold.request(len(chunk))
                if not message.get("more_body"):
                    return body.getvalue()
                deadline.reschedule(started + seconds + body.tell() / BODY_BYTES_PER_SECOND)
    except TimeoutError:
        raise BodyTimeout(f"The request body did not arrive within {seconds:g} seconds.") from None
    raise ClientGone


class Connection(Protocol):
    """What our listener lets a call know and do beyond ASGI: found in the scope's extensions."""

    lost: bool  # the caller has gone
    body_arrived: bool  # the request being served is here as a whole
    on_gone: Callable[[], None] | None  # called when the caller goes

    def close_after(self) -> None:
        """Close the connection behind the answer."""

    def begin_stream(self) -> None:
        """An answer in chunks begins: must be called before its head is sent."""

    def end_stream(self) -> None:
        """The last chunk of such an answer is the next that is sent."""

    def answer_at_once(self, status: int, headers: list[RawHeader], body: bytes | memoryview) -> bool:
        """Send a whole answer in one piece; False where it has to go the longer way, and then nothing is done."""

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
        """Send the head of an answer that comes in pieces."""
        self.connection.begin_stream()
        self._streams = True
        await self._start(status, headers)

    async def _start(self, status: int, headers: list[RawHeader]) -> None:
        self.started, self.status = True, status
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, body: bytes | memoryview, *, last: bool = False) -> None:
        """Send a piece; waits until the one before has left.

        Raises `ClientGone` when the caller has left, or has been cut off because they stopped reading.
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

    async def whole(
        self,
        status: int,
        headers: list[RawHeader],
        body: bytes | memoryview,
        hold: Hold | None = None,
        before_last: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Send a complete answer, whose bytes leave the budget as they go; `before_last` is done before the last."""
        headers = [*headers, (b"content-length", b"%d" % len(body))]
        if len(body) <= SLICE_BYTES and self.connection.answer_at_once(status, headers, body):
            self.started = self.finished = True
            self.status, self.bytes_out = status, len(body)
            return
        await self._start(status, headers)
        if not body:
            await self.write(body, last=True)
        view = memoryview(body)
        for begin in range(0, len(body), SLICE_BYTES):
            piece, last = view[begin : begin + SLICE_BYTES], begin + SLICE_BYTES >= len(body)
            if last and before_last is not None:
                await before_last()
            await self.write(piece, last=last)
            if hold is not None:
                hold.release(len(piece))

    async def refuse(self, status: int, headers: list[RawHeader], body: bytes, *, unread: bool) -> None:
        """Send an error; throw away a body left `unread` for a while, so that the answer is read and not a reset."""
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
        """End an answer under way so that nobody takes it for whole; what has been sent still leaves."""
        self.finished = True
        self.connection.cut(flush=True)
