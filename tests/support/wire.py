"""A raw-socket upstream that says exactly the bytes it is told to, and notes when its callers hang up."""

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from tests.support.waiting import turns

Play = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(kw_only=True)
class Wire:
    """What was heard."""

    url: str = ""
    heads: list[bytes] = field(default_factory=list)
    hashes: list[str] = field(default_factory=list)  # SHA-256 of each body
    hung_up: int = 0
    connections: int = 0


@contextlib.asynccontextmanager
async def wire(play: Play, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """Listen; for each request `play(head, reader, writer)` is called, and afterwards the connection is closed."""
    heard = Wire()
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.connections += 1
        writers.add(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                heard.heads.append(head)
                length = next(
                    (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
                )
                heard.hashes.append(hashlib.sha256(await reader.readexactly(length)).hexdigest())
                await play(head, reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    heard.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield heard
    finally:
        server.close()
        for writer in writers:
            with contextlib.suppress(AttributeError):  # asyncio's, where the last bytes have just left
                writer.transport.abort()
        await turns()  # in which the transports let go of their sockets


def saying(*pieces: bytes, before: float = 0, pause: float = 0, close: bool = True) -> Play:
    """A play that sends the pieces, with a pause in seconds before the first and one behind each."""

    async def play(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(before)  # slow on purpose: the call is in flight for so long
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)  # slow on purpose: the pieces come one by one
        if close:
            writer.close()

    return play


def answer(body: bytes, *, status: str = "200 OK", content_type: str = "application/json", more: str = "") -> bytes:
    """A whole answer with its length."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


def chunked(*pieces: bytes, content_type: str = "text/event-stream", end: bool = True) -> tuple[bytes, ...]:
    """An answer in chunks; without `end` it breaks off."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    return (head, *(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces), *((b"0\r\n\r\n",) if end else ()))
