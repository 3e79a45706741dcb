"""What may a caller do with one connection: be idle on it, close half of it, send its next request early?"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.gateway import GENERATE, STREAM, Gateway, running
from tests.support.served import Served, memory
from tests.support.waiting import until
from tests.support.wire import Wire, answer, chunked, saying, wire

GOOD = b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}],"usageMetadata":{"totalTokenCount":3}}'
EVENT = b'data: {"candidates":[{"content":{"parts":[{"text":"h"}]}}],"usageMetadata":{"totalTokenCount":2}}\n\n'
PROBE = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"data: " + GOOD + b"\n\n"
WHOLE = STREAM.replace("flash", "pro")  # a stream that ends
IDLE = 500


def call(gateway: Gateway, path: str, name: str) -> bytes:
    """One request as it stands on the wire."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nx-goog-api-key: {gateway.key}\r\nx-request-id: {name}\r\n"
    return head.encode() + b"content-length: 2\r\n\r\n{}"


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.fixture
async def slow() -> AsyncIterator[Wire]:
    """An upstream that takes a moment, and says one event of a stream and then nothing."""

    async def play(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if WHOLE.encode() in head:
            await saying(*chunked(LAST), close=False)(head, reader, writer)
        elif b":stream" in head:
            await saying(*chunked(EVENT, end=False), close=False)(head, reader, writer)
            await reader.read()
            upstream.hung_up += 1
            writer.close()
        else:
            await saying(answer(GOOD), before=0.1, close=False)(head, reader, writer)

    async with wire(play) as upstream:
        yield upstream


async def test_half_a_close_is_a_whole_one(tmp_path: Path, slow: Wire) -> None:
    """D13: who closes their sending half behind a request counts as gone, once, and is sent nothing."""
    async with running(tmp_path, slow.url) as gateway, connected(gateway.url) as (reader, writer):
        writer.write(call(gateway, GENERATE, "half"))
        writer.write_eof()
        assert b"" == await reader.read()
        entry = await gateway.entry()
        assert ("half", "client_gone", 499, 0) == tuple(
            entry[n] for n in ("request_id", "outcome", "status", "bytes_out")
        )
        await gateway.at_rest()
    assert 1 == sum(line["event"] == "call" for line in gateway.lines())


async def test_requests_sent_early_are_answered_in_order(tmp_path: Path, slow: Wire) -> None:
    """D12: a slow call, a probe and another call in one piece get their answers one behind the other."""
    async with running(tmp_path, slow.url) as gateway, connected(gateway.url) as (reader, writer):
        writer.write(call(gateway, GENERATE, "first") + PROBE + call(gateway, GENERATE, "third"))
        for name, end in ((b"first", GOOD), (b"", b'"}'), (b"third", GOOD)):
            received = await reader.readuntil(end)
            assert received.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"x-request-id: " + name in received
    assert ["first", "third"] == [line["request_id"] for line in gateway.lines() if line["event"] == "call"]


async def test_who_leaves_in_the_second_of_three(tmp_path: Path, slow: Wire, caplog: pytest.LogCaptureFixture) -> None:
    """D5 D12: the stream under way ends at once, what was sent behind it is never asked, and nothing is an error."""
    async with running(tmp_path, slow.url) as gateway:
        async with connected(gateway.url) as (reader, writer):
            writer.write(b"".join([call(gateway, path, "x") for path in (WHOLE, STREAM, GENERATE)]))
            await reader.readuntil(EVENT)
        outcomes = [entry["outcome"] for entry in await gateway.entries(2)]
        await gateway.at_rest()
        await until(lambda: slow.hung_up)
    assert (["ok", "client_gone"], 1) == (outcomes, slow.hung_up)
    assert 2 == len(slow.heads)
    assert [] == [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]


async def test_idle_connections_are_cheap(tmp_path: Path) -> None:
    """D12: 500 callers who stay connected after a probe cost a worker 20 KiB each at most, and the next is served."""
    with Served(tmp_path, workers="1") as served:
        (worker,) = served.workers()
        async with contextlib.AsyncExitStack() as stack:

            async def stay() -> None:
                reader, writer = await stack.enter_async_context(connected(served.url))
                writer.write(PROBE)
                assert b"200 OK" in await reader.readuntil(b'"}')

            for _ in range(50):
                await stay()
            base = memory(worker, "VmRSS")
            for _ in range(IDLE):
                await stay()
            each = (memory(worker, "VmRSS") - base) / IDLE
            async with connected(served.url) as (reader, writer):
                writer.write(PROBE)
                assert b"200 OK" in await reader.readuntil(b'"}')
    assert each <= 20 * 1024, each
