"""What did the upstream say?  Whole where that is possible, chunk by chunk for streams, and never more than the cap."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Self

import httpx

from gateway import heap
from gateway.errors import UpstreamBroke, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from gateway.upstream.encoding import Decoder

# httpx's exceptions, the most special first.  Unreachable means that nothing was sent.
FAILURES: tuple[tuple[type[httpx.TransportError], type[UpstreamUnreachable | UpstreamTimeout | UpstreamBroke]], ...] = (
    (httpx.ConnectError, UpstreamUnreachable),
    (httpx.ConnectTimeout, UpstreamUnreachable),
    (httpx.PoolTimeout, UpstreamUnreachable),
    (httpx.ProxyError, UpstreamUnreachable),
    (httpx.UnsupportedProtocol, UpstreamUnreachable),
    (httpx.LocalProtocolError, UpstreamUnreachable),
    (httpx.TimeoutException, UpstreamTimeout),
    (httpx.TransportError, UpstreamBroke),
)


USED_HEADERS = frozenset({"content-type", "content-encoding", "retry-after"})  # of what the upstream sends


class Whole(httpx.AsyncByteStream):
    """A body that has arrived."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content


@dataclass(slots=True, kw_only=True)
class Answer:
    """What the upstream said: whole (`body`), or a stream that is still to be read (`chunks`)."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes = b""
    chunks: AsyncIterator[bytes] | None = None
    stream: httpx.AsyncByteStream | None = None  # what `chunks` reads from

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.stream is not None:
            await self.stream.aclose()


async def read(response: httpx.Response, *, stream: bool, limit: int) -> Answer:
    """Take what can be taken now: a unary answer or an error whole, of a stream only the head."""
    source = response.stream
    assert isinstance(source, httpx.AsyncByteStream)  # noqa: S101  httpx's own type says it could be a sync one
    headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers.raw}
    coding = headers.get("content-encoding", "identity").strip().lower()
    if isinstance(source, Whole) and len(source.content) >= heap.LARGE_BYTES:
        heap.give_back()  # the pieces it came in
    if isinstance(source, Whole) and coding == "identity" and len(source.content) <= limit:
        return Answer(status=response.status_code, headers=headers, body=source.content)
    chunks = plain(source, Decoder(coding, limit) if coding not in {"identity", ""} else None, limit)
    if stream and 200 <= response.status_code < 300:
        return Answer(status=response.status_code, headers=headers, chunks=chunks, stream=source)
    try:
        body = b"".join([chunk async for chunk in chunks])
    finally:
        await source.aclose()
    return Answer(status=response.status_code, headers=headers, body=body)


async def plain(source: httpx.AsyncByteStream, decoder: Decoder | None, limit: int) -> AsyncIterator[bytes]:
    """The bytes as they were before any coding.  Raises `UpstreamError` beyond the limit, which is ours."""
    taken = 0
    try:
        async for chunk in source:
            piece = decoder.feed(chunk) if decoder else chunk
            taken += len(piece)
            if taken > limit:
                raise UpstreamError("The upstream's answer is larger than the gateway takes.")
            yield piece
    except httpx.TransportError as error:
        raise failure_of(error) from None
    if decoder:
        decoder.end()


def failure_of(error: httpx.TransportError) -> type[UpstreamUnreachable | UpstreamTimeout | UpstreamBroke]:
    """Our name for a failure of the transport; its text stays behind, since it may hold the URL.

    A class: an error that its own frame names is a cycle, which keeps the call's body until the collector comes.
    """
    return next(ours for theirs, ours in FAILURES if isinstance(error, theirs))
