"""What does the callers' socket refuse before there is a request?

uvicorn's httptools protocol has no deadline for a request head, no cap on its size and takes requests with no Host or
several (reliability.md, findings 4 and P6).  This subclass adds those, and says what is wrong in our error shape.
"""

import asyncio
import re
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, runtime_checkable

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway import errors, google_shape
from gateway.asgi import CONNECTION, DISCARD_SECONDS, request_id_of
from gateway.headers import Headers

HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
VERSIONS = frozenset({"1.0", "1.1"})
MAX_TARGET_BYTES = 8 * 1024
MAX_LINE_BYTES = 16 * 1024
MAX_HEAD_BYTES = 32 * 1024
MAX_FIELDS = 100


@runtime_checkable
class Counting(Protocol):
    """An app that counts what the listener answers in its place."""

    def refused(self, request_id: str, error: errors.GatewayError) -> None:
        """Something that came was refused before it was a request."""


class GatewayProtocol(HttpToolsProtocol):
    """One caller's connection."""

    head_seconds: ClassVar[float] = 10
    flush_seconds: ClassVar[float] = 30  # for the last bytes of an answer on a connection that is to close
    stall_seconds: ClassVar[float] = 30  # for a caller to take what has been sent, before more is

    lost = False  # the caller has gone
    on_gone: Callable[[], None] | None = None  # whoever serves the call at hand listens here

    _heard = False  # anything at all
    _line_bytes = 0  # of header lines and trailers, each complete
    _stuck_bytes = 0  # since the parser last found anything whole: a line that may never end
    _in_head = False
    _serving: RequestResponseCycle | None = None  # not always uvicorn's `cycle`: that is the request that came last
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
            return  # already answered: what still comes is thrown away until the connection closes
        self._heard = True
        self._stuck_bytes += len(data)
        super().data_received(data)
        if self._stuck_bytes > MAX_LINE_BYTES and self._refusal is None:
            self.send_400_response(str(self._refusing(head_too_large())))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._line_bytes = self._stuck_bytes = 0
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > MAX_TARGET_BYTES:
            raise self._refusing(errors.UriTooLong(f"The request target is longer than {MAX_TARGET_BYTES} bytes."))

    def on_header(self, name: bytes, value: bytes) -> None:
        size = len(name) + len(value) + 4
        self._line_bytes += size
        self._stuck_bytes = 0
        if size > MAX_LINE_BYTES or self._line_bytes > MAX_HEAD_BYTES or len(self.headers) >= MAX_FIELDS:
            raise self._refusing(head_too_large())
        if self._in_head:  # else it is a trailer, which must not pass for a header: RFC 9110, section 6.5.1
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_watching_head()
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) != 1 or not HOST.fullmatch(hosts[0]):
            raise self._refusing(errors.BadRequest("Exactly one valid Host header is required."))
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        version = self.parser.get_http_version()
        if version not in VERSIONS or (codings and (codings != [b"chunked"] or version == "1.0")):
            raise self._refusing(errors.BadRequest("Send HTTP/1.1, and chunked where a transfer coding is needed."))
        if self.parser.should_upgrade():
            raise self._refusing(errors.BadRequest("Upgrade and CONNECT are not offered. Send plain HTTP/1.1."))
        self.scope["extensions"] = {CONNECTION: self}  # type: ignore[dict-item]
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._stuck_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        # A last piece of more than 64 KiB has paused reading; then the caller's hanging up would never be seen.
        if not self.pipeline:
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002  uvicorn's signature
        """Answer what the parser or the checks above refused, in the shape of every other error of ours."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()  # a broken body or a second request behind one under way: its answer cannot be whole
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
        """Whether the request being served is here as a whole."""
        return self._serving is not None and not self._serving.more_body

    def cut(self, *, flush: bool) -> None:
        """End the connection without a clean end; with `flush`, after what has been sent has left."""
        self._disown()
        if flush:
            self.transport.close()
            self._abort_later()
        else:
            self.transport.abort()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._serving = cycle
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
        request_id = request_id_of(Headers(self.headers if self._heard else []))
        if self._heard and isinstance(self.app, Counting):  # a connection made in advance and never used is no call
            self.app.refused(request_id, error)
        body = google_shape.written(error)
        lines = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            (b"x-request-id", request_id.encode()),
        ]
        self.transport.write(
            b"".join([STATUS_LINE[error.code], *(b"%s: %s\r\n" % line for line in lines), b"\r\n", body])
        )
        self.transport.write_eof()  # not close(): it would reset what is still being sent, and our answer with it
        self._abort_timer = self.loop.call_later(DISCARD_SECONDS, self.transport.abort)


def head_too_large() -> errors.GatewayError:
    """The one refusal of a head that is too long in any way."""
    return errors.HeadersTooLarge(
        f"At most {MAX_FIELDS} header lines of {MAX_LINE_BYTES} bytes, {MAX_HEAD_BYTES} bytes in all, are taken."
    )
