"""Where can a gateway connect to?  The upstream, and nothing else.

An HTTP proxy that knows one method, CONNECT, and one target, the host and port of UPSTREAM_URL.  TLS passes through
unread.  The gateways live in networks without a way out; this is their only one.
"""

import asyncio
import contextlib
import os
import signal
from urllib.parse import urlsplit

PORT = 3128
HEAD_SECONDS = 10
CONNECT_SECONDS = 10
CHUNK = 256 * 1024


async def relay(caller: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
    """Serve one connection: read its CONNECT, then pass bytes both ways until both ends have finished."""
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        async with asyncio.timeout(HEAD_SECONDS):
            head = await caller.readuntil(b"\r\n\r\n")
        words = head.split(b"\r\n", 1)[0].split(b" ")
        if words[0] != b"CONNECT" or words[1:2] != [b"%b:%d" % (HOST.encode(), TARGET_PORT)]:
            back.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await back.drain()
        else:
            await tunnel(caller, back)
    back.close()


async def tunnel(caller: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
    """Connect, say so, and pass bytes."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            upstream, forth = await asyncio.open_connection(HOST, TARGET_PORT)
    except (OSError, TimeoutError):
        back.write(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await back.drain()
        return
    back.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    try:
        await asyncio.gather(flow(caller, forth), flow(upstream, back))
    finally:
        forth.close()


async def flow(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Pass bytes one way, no faster than they are taken; a reset of one side ends both."""
    while chunk := await source.read(CHUNK):
        sink.write(chunk)
        await sink.drain()
    sink.write_eof()


async def main() -> None:
    """Serve until a signal stops it."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await asyncio.start_server(relay, "0.0.0.0", PORT)
    await stop.wait()
    server.close()


upstream_url = urlsplit(os.environ["UPSTREAM_URL"])
HOST = upstream_url.hostname or ""
TARGET_PORT = upstream_url.port or 443

if __name__ == "__main__":
    asyncio.run(main())
