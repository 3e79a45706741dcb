"""How do httpx's requests reach the wire?  Through pyqwest (hyper), by the leanest way through httpx's own seam.

A request with the extension `whole` is answered when its body has arrived, which costs a third of reading it chunk by
chunk.  A cancelled call closes its connection within milliseconds, and hyper never serves stray bytes of one answer to
the next caller; `tests/upstream/` holds it to both.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx
import pyqwest

from gateway.upstream.answer import USED_HEADERS, Whole

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


class PyqwestTransport(httpx.AsyncBaseTransport):
    """An httpx transport that is a thin skin over `pyqwest.Client`."""

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
        self._client = pyqwest.Client(self._transport)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = str(request.url)
        headers = [(name.decode("ascii"), value.decode("latin-1")) for name, value in request.headers.raw]
        assert isinstance(request.stream, httpx.ByteStream)  # noqa: S101  bodies are held whole
        body = b"".join(request.stream)
        with translated(request):
            if "whole" in request.extensions:
                full = await self._client.execute(request.method, url, headers, body)
                return httpx.Response(full.status, headers=used(full.headers), stream=Whole(full.content))
            manager = self._client.stream(request.method, url, headers, body)
            response = await manager.__aenter__()
        stream = Chunks(request, response, manager)
        return httpx.Response(response.status, headers=used(response.headers), stream=stream)

    async def aclose(self) -> None:
        await self._transport.aclose()


def used(headers: pyqwest.Headers) -> list[tuple[str, str]]:
    """The lines that somebody reads: taking a line into httpx's headers costs a microsecond."""
    return [(name, value) for name, value in headers.items() if name in USED_HEADERS]


def no_proxy(url: str) -> pyqwest.Proxy:
    """Say that there is none: a rule for the scheme that `url` has not, since without any rule HTTP_PROXY decides."""
    return pyqwest.Proxy("http://127.0.0.1:9", scheme="http" if url.startswith("https:") else "https")


class Chunks(httpx.AsyncByteStream):
    """A body as it arrives."""

    def __init__(
        self, request: httpx.Request, response: pyqwest.Response, manager: AbstractAsyncContextManager[pyqwest.Response]
    ) -> None:
        self._request, self._response = request, response
        self._manager = manager  # kept: pyqwest ends the answer when it is collected, and that looks like a clean end

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with translated(self._request):
            async for chunk in self._response.content:
                yield bytes(chunk)

    async def aclose(self) -> None:
        await self._manager.__aexit__(None, None, None)


@contextlib.contextmanager
def translated(request: httpx.Request) -> Iterator[None]:
    """Turn pyqwest's exceptions into httpx's, without their text, which holds the URL."""
    try:
        yield
    except tuple(ours for ours, _ in EXCEPTIONS) as error:
        for ours, theirs in EXCEPTIONS:
            if isinstance(error, ours):
                raise theirs(type(error).__name__, request=request) from None
