"""What does the callers' connection refuse before there is a request?

uvicorn's httptools protocol has no deadline for a request head, no cap on its size and takes requests with no Host or
several (rows D1, D11 and P6 of docs/reliability.md).  This subclass adds those, and says what is wrong in our shape.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, runtime_checkable

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway import errors
from gateway.asgi import heads
from gateway.asgi.close_delimited import CloseDelimited
from gateway.asgi.headers import Headers, RawHeaders
from gateway.asgi.request import request_id_of
from gateway.asgi.response import CONNECTION, DISCARD_SECONDS


@runtime_checkable
class Counting(Protocol):
    """An app that counts what the protocol answers in its place."""

    def count_refusal(self, request_id: str, error: errors.GatewayError, address: str | None) -> None:
        """A request was refused before it reached the app."""


class GatewayProtocol(HttpToolsProtocol):
    """One caller's connection."""

    head_seconds: ClassVar[float] = 10
    flush_seconds: ClassVar[float] = 30  # for the last bytes of an answer on a connection that is to close
    stall_seconds: ClassVar[float] = 30  # for a caller to take what has been sent, before more is

    url = b""  # uvicorn sets it when a request begins, which line breaks alone never do
    lost = False  # the caller has disconnected
    on_gone: Callable[[], None] | None = None  # set by the call that is being served

    _received = False  # any byte at all
    _line_bytes = 0  # of header lines and trailers, each complete
    _stuck_bytes = 0  # since the parser last found a complete part: a line that may never end
    _in_head = False
    _serving: RequestResponseCycle | None = None  # not always uvicorn's `cycle`: that is the request that came last
    _closes_after_stream = False
    _refusal: errors.GatewayError | None = None
    _head_timer: asyncio.TimerHandle | None = None
    _abort_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._disown()
        self._stop_watching_head()
        for timer in (self._abort_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)
        if self.on_gone is not None:
            self.on_gone()

    def data_received(self, data: bytes) -> None:
        if self._head_timer is None and not self._in_head and (self.cycle is None or self.cycle.response_complete):
            self._watch_head()
        if self._refusal is not None:
            return  # already answered: what still comes is discarded until the connection closes
        self._received = True
        self._stuck_bytes += len(data)
        self._unset_keepalive_if_required()
        self._parse(data)
        if self._stuck_bytes > heads.MAX_LINE_BYTES and self._refusal is None:
            self.send_400_response(str(self._refusing(heads.too_large())))

    def _parse(self, data: bytes) -> None:
        """Parse what has arrived.

        The parser stops behind a head with an `Upgrade`, and takes what follows for the other protocol.  We decline by
        answering in this one (RFC 9110, section 7.8), so the head is parsed again without the offer.
        """
        while self.parser is not None:
            try:
                return self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as stop:
                start = b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
                data = heads.without_offer(start, self.headers) + data[stop.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn has it
            except httptools.HttpParserError:
                return self.send_400_response("")
        return None

    def _offers_websocket(self) -> bool:
        offers = [value for name, value in self.headers if name == b"upgrade"]
        return any(offer.strip().lower() == b"websocket" for value in offers for offer in value.split(b","))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._line_bytes = self._stuck_bytes = 0
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > heads.MAX_TARGET_BYTES:
            raise self._refusing(
                errors.UriTooLong(f"The request target is longer than {heads.MAX_TARGET_BYTES} bytes.")
            )

    def on_header(self, name: bytes, value: bytes) -> None:
        size = len(name) + len(value) + 4
        self._line_bytes += size
        self._stuck_bytes = 0
        if (
            size > heads.MAX_LINE_BYTES
            or self._line_bytes > heads.MAX_HEAD_BYTES
            or len(self.headers) >= heads.MAX_FIELDS
        ):
            raise self._refusing(heads.too_large())
        if self._in_head:  # else it is a trailer, which must not pass for a header: RFC 9110, section 6.5.1
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_watching_head()
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) != 1 or not heads.is_host(hosts[0]):
            raise self._refusing(errors.BadRequest("Exactly one valid Host header is required."))
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        version = self.parser.get_http_version()
        if version not in heads.VERSIONS or (codings and (codings != [b"chunked"] or version == "1.0")):
            raise self._refusing(errors.BadRequest("Send HTTP/1.1, and chunked where a transfer coding is needed."))
        if self.parser.get_method() == b"CONNECT" or (self.parser.should_upgrade() and self._offers_websocket()):
            raise self._refusing(heads.without_websocket(self.url))
        if self.parser.should_upgrade():
            return  # it comes again
        self.scope["extensions"] = {CONNECTION: self}  # type: ignore[dict-item]
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._stuck_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        # A last chunk of more than 64 KiB has paused reading; then the caller's disconnect would never be noticed.
        if not self.pipeline:
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's signature
        """Answer what the parser or the checks above refused, in our error shape."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # a broken body or a second request behind one in flight: its answer cannot be whole
            return
        self._refuse(self._refusal or errors.BadRequest("The request is not valid HTTP/1.1."))

    def shutdown(self) -> None:
        super().shutdown()
        if self.transport.is_closing():
            self._abort_later()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            self._abort_later()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._abort_later()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self.loop.call_later(self.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None
        super().resume_writing()

    @property
    def body_arrived(self) -> bool:
        """Whether the request being served has arrived completely."""
        return self._serving is not None and not self._serving.more_body

    def close_after(self) -> None:
        """Close the connection after the answer to the request being served."""
        if self._serving is not None:
            self._serving.keep_alive = False

    def begin_stream(self) -> None:
        """An answer in chunks begins.  It must not announce that the connection closes after it.

        Node's fetch takes any end of an answer that says `connection: close` for its whole body, a reset too.
        """
        if (cycle := self._serving) is not None and cycle.scope["http_version"] != "1.0":
            self._closes_after_stream, cycle.keep_alive = not cycle.keep_alive, True

    def end_stream(self) -> None:
        """Its last chunk comes next; then the connection closes where it was to, though that was not announced.

        Both leave in one segment: a caller who had the chunk alone might send its next request to a closed connection.
        """
        if self._serving is not None and (self._closes_after_stream or not self._serving.keep_alive):
            self._serving.keep_alive = False
            with contextlib.suppress(AttributeError, OSError):  # not on macOS; a unix socket has no segments
                self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)

    def answer_at_once(self, status: int, headers: RawHeaders, body: bytes | memoryview) -> bool:
        """Send a whole answer in one write; False where it needs the general path, and then nothing is done.

        What uvicorn does for a head and a body costs as much as a dozen of our own steps.
        """
        cycle = self._serving
        if cycle is None or cycle.disconnected or cycle.flow.write_paused or cycle.scope["method"] == "HEAD":
            return False
        lines = [b"%b: %b\r\n" % line for line in (*cycle.default_headers, *headers)]
        if not cycle.keep_alive:
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines):
            raise ValueError("a header of the answer holds a line break")
        cycle.transport.write(b"".join((STATUS_LINE[status], head, b"\r\n", body)))
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        cycle.message_event.set()
        if not cycle.keep_alive:
            cycle.transport.close()
        cycle.on_response()
        return True

    def cut(self, *, flush: bool) -> None:
        """End the connection without a clean end; with `flush`, after what has been sent has left."""
        self._disown()
        if flush:
            self.transport.close()
            self._abort_later()
        else:
            self.transport.abort()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._serving, self._closes_after_stream = cycle, False
        if cycle.scope["http_version"] == "1.0":
            app = CloseDelimited(app, cycle)
        super()._start_asgi_task(cycle, app)

    def _disown(self) -> None:
        if self._serving is not None:
            self._serving.disconnected = True  # uvicorn must neither finish the answer nor call its end an error

    def _abort_later(self) -> None:
        # close() waits for the peer to take what is buffered; one that never reads must not hold the socket for ever.
        if self._abort_timer is None:
            self._abort_timer = self.loop.call_later(self.flush_seconds, self.transport.abort)

    def _watch_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._head_is_late)

    def _stop_watching_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        self._refuse(errors.BodyTimeout(f"The request head did not arrive within {self.head_seconds:g} seconds."))

    def _refusing(self, error: errors.GatewayError) -> errors.GatewayError:
        self._refusal = error
        return error

    def _refuse(self, error: errors.GatewayError) -> None:
        self._refusal = error
        self._stop_watching_head()
        if self.transport.is_closing():
            return
        request_id = request_id_of(headers := Headers(self.headers or []))
        if self._received and isinstance(self.app, Counting):  # a connection made in advance and never used is no call
            self.app.count_refusal(request_id, error, self.client[0] if self.client else None)
        shape = errors.shape_for(self.url[: heads.MAX_TARGET_BYTES].partition(b"?")[0], headers)
        body = shape.write(error, request_id)
        lines = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            (b"x-request-id", request_id.encode()),
            (b"request-id", request_id.encode()),
            *error.headers,
        ]
        head = b"".join(b"%s: %s\r\n" % line for line in lines)
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[error.code], head, body))
        self.transport.write_eof()  # not close(): it would reset what is still being sent, and our answer with it
        self._abort_timer = self.loop.call_later(DISCARD_SECONDS, self.transport.abort)
