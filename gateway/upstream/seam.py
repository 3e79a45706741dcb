"""What passes between the gateway and whatever carries its requests to the upstream?

Plain values: httpx's own types cost a tenth of all that a small call costs.  Failures are httpx's exceptions.
"""

from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple, Protocol

import httpx

USED_HEADERS = frozenset({  # of an answer
    "content-type", "content-encoding", "content-length", "retry-after", "x-should-retry", "x-oneapi-request-id",
    "content-range", "accept-ranges", "etag", "last-modified", "content-disposition",
})  # fmt: skip


class Outgoing(NamedTuple):
    """A request."""

    method: str
    url: str
    headers: list[tuple[str, str]]  # complete: nothing is added
    body: bytes


class Body(Protocol):
    """The bytes of an answer as they come.  Raises `httpx.TransportError`."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def aclose(self) -> None:
        """Close the connection, unless the body has ended."""


class Incoming(NamedTuple):
    """The head of an answer, and its body."""

    status: int
    headers: Mapping[str, str]  # those that somebody reads, by lower-case name
    body: Body


class Transport(Protocol):
    """A way to the upstream."""

    async def send(self, outgoing: Outgoing) -> Incoming:
        """Ask.  Raises `httpx.TransportError`."""

    async def aclose(self) -> None:
        """Close every connection."""


class HttpxTransport:
    """Any transport of httpx's as a way to the upstream."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def send(self, outgoing: Outgoing) -> Incoming:
        headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in outgoing.headers]
        stream = httpx.ByteStream(outgoing.body)
        request = httpx.Request(outgoing.method, outgoing.url, headers=headers, stream=stream)
        response = await self._transport.handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101  httpx's type says it could be a sync one
        used = {name: response.headers[name] for name in USED_HEADERS if name in response.headers}
        return Incoming(response.status_code, used, response.stream)

    async def aclose(self) -> None:
        await self._transport.aclose()
