"""How much of an answer is taken that is larger than the gateway takes?  No more than the cap, whatever it is."""

import asyncio
import gzip
from pathlib import Path

import pytest

from tests.support.gateway import GENERATE, STREAM, TEXT, running
from tests.support.valkey import Valkey
from tests.support.waiting import until
from tests.support.wire import Wire, wire

CAP, SIZE = 100_000, 64 * 2**20
PIECE = b" " * 2**16
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
LISTS = "/v1beta/models"

# Of each: path, head of the answer, and whether its body is in chunks.
LARGE = {
    "declared": (GENERATE, b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % SIZE),
    "chunked": (GENERATE, b"HTTP/1.1 200 OK\r\n" + CHUNKED),
    "until it closes": (GENERATE, b"HTTP/1.1 200 OK\r\n\r\n"),
    "an error": (GENERATE, b"HTTP/1.1 400 Bad\r\n" + CHUNKED),
    "a declared error": (GENERATE, b"HTTP/1.1 500 Bad\r\ncontent-length: %d\r\n\r\n" % SIZE),
    "a list": (LISTS, b"HTTP/1.1 200 OK\r\n" + CHUNKED),
    "a declared list": (LISTS, b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % SIZE),
    "an error instead of a stream": (STREAM, b"HTTP/1.1 429 Slow\r\n" + CHUNKED),
    "an event": (STREAM, b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n" + CHUNKED + b"6\r\ndata: \r\n"),
    "a declared stream": (STREAM, b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % SIZE),
}  # fmt: skip


class Flood:
    """An upstream that sends on for as long as it is read."""

    def __init__(self, head: bytes) -> None:
        self.sent = 0
        self._head = head

    async def play(self, _: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._head)
        piece = b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if CHUNKED in self._head else PIECE
        while self.sent < SIZE:
            writer.write(piece)
            await writer.drain()
            self.sent += len(PIECE)


@pytest.mark.parametrize("kind", LARGE)
async def test_no_more_than_the_cap_is_taken(tmp_path: Path, state: Valkey, kind: str) -> None:
    """U7, U8: the answer is cut while it arrives, the caller gets a 502, and the connection is not used again."""
    path, head = LARGE[kind]
    flood = Flood(head)
    async with wire(flood.play) as upstream, running(
        tmp_path, upstream.url, redis_url=state.url, max_answer_bytes=CAP
    ) as gateway:  # fmt: skip
        response = await (gateway.http.get(path) if path == LISTS else gateway.http.post(path, json=TEXT))
        entry = await gateway.entry()
        await gateway.at_rest()
    assert (502, "upstream_error") == (response.status_code, entry["outcome"])
    assert "larger than the gateway takes" in response.json()["error"]["message"]
    assert flood.sent < 16 * 2**20, "what the sockets between us hold"


async def test_a_cap_that_is_just_met(tmp_path: Path, state: Valkey) -> None:
    """U7: an answer of exactly the cap passes, in one piece and in many, and one byte more does not."""
    frame = b'{"candidates":[{"content":{"parts":[{"text":"%b"}]},"finishReason":"STOP"}]}'
    for more, status in ((0, 200), (1, 502)):
        body = frame % (b"x" * (CAP + more - len(frame) + 2))
        for declared in (True, False):
            heads = b"content-length: %d\r\n\r\n" % len(body) if declared else CHUNKED

            async def play(
                _: bytes,
                __: asyncio.StreamReader,
                writer: asyncio.StreamWriter,
                heads: bytes = heads,
                body: bytes = body,
            ) -> None:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + heads)
                for begin in range(0, len(body), 30_000):
                    piece = body[begin : begin + 30_000]
                    writer.write(piece if heads != CHUNKED else b"%x\r\n%b\r\n" % (len(piece), piece))
                    await writer.drain()
                writer.write(b"0\r\n\r\n" if heads == CHUNKED else b"")

            async with wire(play) as upstream, running(
                tmp_path, upstream.url, redis_url=state.url, max_answer_bytes=CAP
            ) as gateway:  # fmt: skip
                response = await gateway.http.post(GENERATE, json=TEXT)
            assert status == response.status_code, (more, declared)
            assert status == 502 or body == response.content


async def test_the_bytes_of_an_answer_count_while_they_come(tmp_path: Path, state: Valkey) -> None:
    """D8: what has arrived of an answer is in the budget before the answer is whole."""
    room = asyncio.Event()

    async def play(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 3000000\r\n\r\n{" + b" " * 1_999_999)
        await writer.drain()
        await room.wait()
        writer.write(b" " * 999_999 + b"}")

    async with wire(play) as upstream, running(tmp_path, upstream.url, redis_url=state.url) as gateway:
        call = asyncio.create_task(gateway.http.post(GENERATE, json=TEXT))
        await until(lambda: 2_000_000 <= gateway.app.parts.memory_budget.held < 2_100_000)
        room.set()
        await call
        await gateway.at_rest()


@pytest.mark.parametrize("coding", ["br", "zstd", "snappy", "gzip, gzip"])
@pytest.mark.parametrize("path", [GENERATE, STREAM], ids=["unary", "stream"])
async def test_a_coding_nobody_knows_leaves_no_connection(
    tmp_path: Path, state: Valkey, path: str, coding: str
) -> None:
    """U8: an answer in a coding that was not asked for is a 502, and its connection is closed at once."""
    closed = asyncio.Event()

    async def play(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: %b\r\n%b5\r\nhello\r\n" % (coding.encode(), CHUNKED))
        await writer.drain()
        await reader.read()
        closed.set()

    heard: Wire
    async with wire(play) as heard, running(tmp_path, heard.url, redis_url=state.url) as gateway:
        response = await gateway.http.post(path, json=TEXT)
        async with asyncio.timeout(2):
            await closed.wait()
    assert 502 == response.status_code


async def test_a_coded_stream_counts_what_it_becomes(tmp_path: Path, state: Valkey) -> None:
    """U8: the cap is on the bytes as they were before any coding."""
    packed = gzip.compress(b"data: " + b"x" * 90 * CAP)

    async def play(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(packed) + packed)

    async with wire(play) as upstream, running(
        tmp_path, upstream.url, redis_url=state.url, max_answer_bytes=CAP
    ) as gateway:  # fmt: skip
        assert 502 == (await gateway.http.post(STREAM, json=TEXT)).status_code
        await gateway.at_rest()
