"""Is a failed call told apart by what the upstream may have seen of it?  That decides what is repeated and what costs."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.gateway import GENERATE, TEXT, running
from tests.support.wire import answer, saying, wire

GOOD = b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}],"usageMetadata":{"totalTokenCount":3}}'
BUSY = b'{"error":{"message":"busy","type":"x","code":"overloaded"}}'


@dataclass
class Stub:
    """What arrived."""

    url: str = ""
    requests: int = 0


Serve = Callable[[Stub, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[Stub]:
    """A server that does just this with each connection, and then resets it."""
    stub = Stub()

    async def each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            await serve(stub, reader, writer)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async with await asyncio.start_server(each, "127.0.0.1", 0) as server:
        stub.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield stub


async def nothing(stub: Stub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reset the connection at once."""


async def a_byte(stub: Stub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read the first byte."""
    await reader.readexactly(1)
    stub.requests += 1


async def all_of_it(stub: Stub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read the request and say nothing."""
    await reader.readuntil(b"]}")
    stub.requests += 1


async def and_half(stub: Stub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read the request and answer half."""
    await all_of_it(stub, reader, writer)
    half = saying(answer(GOOD)[:-20], pause=0.05, close=False)  # a reset discards what has not been read yet
    await half(b"", reader, writer)


async def busy(stub: Stub, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read the request and say that it is too much."""
    await all_of_it(stub, reader, writer)
    writer.write(answer(BUSY, status="503 Busy", more="retry-after: 0\r\nconnection: close\r\n"))
    await reader.read()  # until they close: a reset discards what has not been read yet


@pytest.mark.parametrize(
    ("serve", "status", "attempts", "heard"),
    [
        (nothing, 502, {1, 2, 3}, 0),  # a reset may come before the connection is made, and then nothing was sent
        (a_byte, 502, {1}, 1),
        (all_of_it, 502, {1}, 1),
        (and_half, 502, {1}, 1),
        (busy, 503, {3}, 3),
    ],
)
async def test_what_may_have_been_sent_is_not_sent_again(
    tmp_path: Path, serve: Serve, status: int, attempts: set[int], heard: int
) -> None:
    """U16: only an answer that says so is asked for again; whatever may have been heard is not, and is an estimate."""
    async with serving(serve) as stub, running(tmp_path, stub.url) as gateway:
        response = await gateway.http.post(GENERATE, json=TEXT)
        entry = await gateway.entry()
    assert (status, heard) == (response.status_code, stub.requests)
    assert entry["attempts"] in attempts
    unsent = response.json()["error"]["details"][0]["reason"] == "UPSTREAM_UNREACHABLE"
    assert ("none" if unsent or serve is busy else "estimated") == entry["usage"]


async def test_an_upstream_that_does_not_read(tmp_path: Path) -> None:
    """U15: a request that nobody takes ends with the call's deadline, and its bytes are given back."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        async with running(tmp_path, url, call_timeout_seconds=0.5) as gateway:
            body, headers = b'{"a":"%b"}' % (b"x" * 20_000_000), {"content-type": "application/json"}
            response = await gateway.http.post(GENERATE, content=body, headers=headers)
            entry = await gateway.entry()
            await gateway.at_rest()
    assert (504, "upstream_timeout", 1) == (response.status_code, entry["outcome"], entry["attempts"])


async def test_without_keepalive_no_call_meets_a_closing_connection(tmp_path: Path) -> None:
    """GATEWAY_UPSTREAM_KEEPALIVE=false: an upstream that hangs up after each answer without a word costs no call."""
    async with (
        wire(saying(answer(GOOD))) as upstream,
        running(tmp_path, upstream.url, upstream_keepalive=False) as gateway,
    ):
        statuses = [(await gateway.http.post(GENERATE, json=TEXT)).status_code for _ in range(100)]
    assert ([200] * 100, 100) == (statuses, upstream.connections)
