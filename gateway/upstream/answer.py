"""What did the upstream say?  Whole where that is possible, chunk by chunk for streams, and never more than the cap."""

import io
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Self

import httpx

from gateway.errors import UpstreamBroke, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from gateway.memory import MemoryLease, malloc
from gateway.upstream.encoding import Decoder
from gateway.upstream.seam import Body, Incoming

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


TOO_LARGE = "The upstream's answer is larger than the gateway takes."


@dataclass(slots=True, kw_only=True)
class Answer:
    """What the upstream said: whole (`body`), or a stream that is still to be read (`chunks`)."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes = b""
    chunks: AsyncIterator[bytes] | None = None
    source: Body | None = None  # what `chunks` reads from

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.source is not None:
            await self.source.aclose()


async def read(incoming: Incoming, *, stream: bool, limit: int, memory: MemoryLease) -> Answer:
    """Take what can be taken now: a unary answer or an error whole, of a stream only the head.

    Raises `UpstreamError` beyond the limit, declared or come, and as `Plain` does; then the connection is closed.
    """
    status, headers, source = incoming
    declared, kept_open = int(headers.get("content-length", 0)), False
    try:
        if declared > limit:
            raise UpstreamError(TOO_LARGE)
        chunks = Plain(source, headers.get("content-encoding", ""), limit)
        if stream and 200 <= status < 300:
            kept_open = True
            return Answer(status=status, headers=headers, chunks=chunks, source=source)
        length = -1 if "content-encoding" in headers else declared
        return Answer(status=status, headers=headers, body=await _whole(chunks, memory, length))
    finally:
        if not kept_open:
            await source.aclose()


async def _whole(chunks: AsyncIterator[bytes], memory: MemoryLease, length: int) -> bytes:
    """Join the chunks, which count as held from when they come; `length` is what there will be of them, if known."""
    body = await anext(chunks, b"")
    memory.add(len(body))
    if len(body) == length:  # most are small, and come at once
        return body
    with io.BytesIO() as joined:
        joined.write(body)
        async for chunk in chunks:
            memory.add(len(chunk))
            joined.write(chunk)
        if joined.tell() >= malloc.LARGE_BYTES:
            malloc.trim()  # the pieces it came in
        return joined.getvalue()


class Plain:
    """The bytes of a body as they were before any coding, none of them empty.

    Raises `UpstreamError` beyond the limit, which is ours, and `UpstreamBroke` or `UpstreamTimeout` as the body does.
    """

    def __init__(self, source: Body, coding: str, limit: int) -> None:
        """Raises `UpstreamBroke` for a coding that is not known."""
        coding = coding.strip().lower()
        self._decoder = Decoder(coding, limit) if coding not in {"", "identity"} else None
        self._source, self._limit, self._taken = aiter(source), limit, 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                chunk = await anext(self._source)
            except StopAsyncIteration:
                if self._decoder:
                    self._decoder.end()
                raise
            except httpx.TransportError as error:
                raise failure_of(error) from None
            piece = self._decoder.feed(chunk) if self._decoder else chunk
            self._taken += len(piece)
            if self._taken > self._limit:
                raise UpstreamError(TOO_LARGE)
            if piece:
                return piece


def failure_of(error: httpx.TransportError) -> type[UpstreamUnreachable | UpstreamTimeout | UpstreamBroke]:
    """Our name for a failure of the transport.

    A class: an error that its own frame names is a cycle, which keeps the call's body until the collector comes.
    """
    return next(ours for theirs, ours in FAILURES if isinstance(error, theirs))
