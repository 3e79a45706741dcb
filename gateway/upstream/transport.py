"""How do requests reach the wire?  Through pyqwest (hyper), by its leanest way.

An answer ends with its last declared byte: waiting for the word that nothing follows would cost one more switch of
threads.  A cancelled call closes its connection within milliseconds, and hyper never serves stray bytes of one answer
to the next caller; `tests/unit/upstream/` holds it to both.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pyqwest

from gateway.upstream.seam import USED_HEADERS, Incoming, Outgoing
from gateway.upstream.trouble import words_of

# Idle connections are given up early: a POST should seldom meet a closing socket.
IDLE_SECONDS = 15.0
MAX_IDLE_CONNECTIONS = 1024

# Every exception pyqwest can raise, the most special first, and httpx's name for it.
EXCEPTIONS: tuple[tuple[type[Exception], type[httpx.TransportError]], ...] = (
    (pyqwest.StreamError, httpx.RemoteProtocolError),
    (pyqwest.RemoteProtocolError, httpx.RemoteProtocolError),
    (pyqwest.ReadError, httpx.ReadError),
    (pyqwest.WriteError, httpx.WriteError),
    (pyqwest.TooManyRedirects, httpx.RemoteProtocolError),
    (ConnectionError, httpx.ConnectError),  # also its own ConnectTimeout
    (TimeoutError, httpx.ReadTimeout),
    (ValueError, httpx.LocalProtocolError),  # the request could not be built
)
RAISED = tuple(theirs for theirs, _ in EXCEPTIONS)


class PyqwestTransport:
    """A thin skin over `pyqwest.HTTPTransport`."""

    def __init__(
        self,
        url: str,
        *,
        connect_seconds: float,
        proxy: str | None = None,
        ca_file: Path | None = None,
        keepalive: bool = True,
    ) -> None:
        self._transport = pyqwest.HTTPTransport(
            http_version=pyqwest.HTTPVersion.HTTP1,
            connect_timeout=connect_seconds,
            pool_idle_timeout=IDLE_SECONDS,
            pool_max_idle_per_host=MAX_IDLE_CONNECTIONS if keepalive else 0,
            tls_include_system_certs=True,
            tls_ca_cert=ca_file.read_bytes() if ca_file else None,
            proxy=proxy or no_proxy(url),
            enable_gzip=False,
            enable_brotli=False,
            enable_zstd=False,
            follow_redirects=False,
            enable_otel=False,
        )

    async def send(self, outgoing: Outgoing) -> Incoming:
        """Ask.  Raises `httpx.TransportError`."""
        method, url, headers, body = outgoing
        try:
            request = pyqwest.Request(method, url, pyqwest.Headers(headers), body)
            response = await self._transport.execute(request)
        except RAISED as error:
            raise translated(error) from None
        said = response.headers
        used = {name: value for name in USED_HEADERS if (value := said.get(name)) is not None}
        return Incoming(response.status, used, Body(response, used.get("content-length")))

    async def aclose(self) -> None:
        await self._transport.aclose()


def no_proxy(url: str) -> pyqwest.Proxy:
    """Say that there is none: a rule for the scheme that `url` has not, since without any rule HTTP_PROXY decides."""
    return pyqwest.Proxy("http://127.0.0.1:9", scheme="http" if url.startswith("https:") else "https")


class Body:
    """A body as it arrives."""

    def __init__(self, response: pyqwest.Response, length: str | None) -> None:
        self._response = response  # kept: collected, it ends its body, and that looks like a clean end
        self._chunks = response.content
        self._left = int(length) if length is not None else -1  # bytes to come; -1: its end will tell

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._left == 0:
            raise StopAsyncIteration
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            self._left = 0
            raise
        except RAISED as error:
            raise translated(error) from None
        if self._left > 0:
            self._left -= len(chunk)
        return bytes(chunk)

    async def aclose(self) -> None:
        if self._left != 0:
            self._left = 0
            await self._response.__aexit__(None, None, None)


def translated(error: Exception) -> httpx.TransportError:
    """The exception of httpx for one of pyqwest; its text is ours, since theirs holds the URL."""
    kind = next(ours for theirs, ours in EXCEPTIONS if isinstance(error, theirs))
    return kind(words_of(error))
