"""Answers that are made to hurt: framing that can be read in two ways, endless heads, bombs."""

import asyncio
import gzip
import zlib
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import STREAM, TEXT, running
from tests.support.served import Served, memory
from tests.support.wire import Play, answer, chunked, saying, wire

GOOD = b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}],"usageMetadata":{"totalTokenCount":3}}'
SIZE = len(GOOD)
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (SIZE, GOOD)
POISON = answer(b'{"candidates":[{"content":{"parts":[{"text":"poison"}]},"finishReason":"STOP"}]}')
OK = b"HTTP/1.1 200 OK\r\n"

# Header lines, body, and whether there is one strict reading of it under which the answer is whole.
FRAMINGS: dict[str, tuple[bytes, bytes, bool]] = {
    "length and chunked": (b"content-length: %d\r\ntransfer-encoding: chunked\r\n" % SIZE, CHUNKED, True),
    "chunked and a short length": (b"transfer-encoding: chunked\r\ncontent-length: 5\r\n", CHUNKED, True),
    "one length twice": (b"content-length: %d\r\ncontent-length: %d\r\n" % (SIZE, SIZE), GOOD, True),
    "a bare LF in the head": (b"x: y\ncontent-length: %d\r\n" % SIZE, GOOD, True),
    "two lengths": (b"content-length: %d\r\ncontent-length: 5\r\n" % SIZE, GOOD, False),
    "two lengths in a list": (b"content-length: %d, 5\r\n" % SIZE, GOOD, False),
    "length with a sign": (b"content-length: +%d\r\n" % SIZE, GOOD, False),
    "negative length": (b"content-length: -1\r\n", GOOD, False),
    "length in words": (b"content-length: abc\r\n", GOOD, False),
    "no number": (b"content-length:\r\n", GOOD, False),
    "length beyond any": (b"content-length: 99999999999999999999999\r\n", GOOD, False),
    "length in hex": (b"content-length: 0x%x\r\n" % SIZE, GOOD, False),
    "another coding": (b"transfer-encoding: xchunked\r\n", CHUNKED, False),
    "chunked not last": (b"transfer-encoding: chunked, identity\r\n", CHUNKED, False),
    "a blank before the colon": (b"transfer-encoding : chunked\r\n", CHUNKED, False),
    "a folded line": (b"x: y\r\n z\r\ncontent-length: %d\r\n" % SIZE, GOOD, False),
    "NUL in a value": (b"x: y\0\r\ncontent-length: %d\r\n" % SIZE, GOOD, False),
    "no colon": (b"xy\r\ncontent-length: %d\r\n" % SIZE, GOOD, False),
    "a chunk size in words": (b"transfer-encoding: chunked\r\n", b"zz\r\n%b\r\n0\r\n\r\n" % GOOD, False),
    "a chunk size with 0x": (b"transfer-encoding: chunked\r\n", b"0x%b" % CHUNKED, False),
    "chunks with bare LF": (b"transfer-encoding: chunked\r\n", CHUNKED.replace(b"\r\n", b"\n"), False),
    "no line end behind a chunk": (b"transfer-encoding: chunked\r\n", CHUNKED.replace(b"}\r\n", b"}XX"), False),
}


def playing(answers: dict[str, bytes]) -> Play:
    """An upstream whose answer is named by the model of the call."""

    async def play(head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = int(head.partition(b"models/m")[2].partition(b":")[0])
        writer.write(list(answers.values())[number])
        await writer.drain()
        if number:
            writer.close()

    return play


def named(number: int) -> str:
    """The path of a call that gets the answer of this number."""
    return f"/v1beta/models/m{number}:generateContent"


async def test_framing_with_two_readings(tmp_path: Path) -> None:
    """U6 A9: ambiguous framing is a 502 or its one strict reading, and what stands behind it reaches nobody."""
    bad = {name: OK + head + b"\r\n" + body + POISON for name, (head, body, _) in FRAMINGS.items()}
    async with wire(playing({"good": answer(GOOD), **bad})) as upstream, running(tmp_path, upstream.url) as gateway:
        for number, (name, (_, _, strict)) in enumerate(FRAMINGS.items(), 1):
            response = await gateway.http.post(named(number), json=TEXT)
            if strict:
                assert (200, GOOD) == (response.status_code, response.content), name
            else:
                assert (502, "UPSTREAM_BROKE") == (
                    response.status_code, response.json()["error"]["details"][0]["reason"],
                ), name  # fmt: skip
            after = await gateway.http.post(named(0), json=TEXT)
            assert (200, GOOD) == (after.status_code, after.content), f"after {name}"
        assert {1} == {entry["attempts"] for entry in await gateway.entries(2 * len(FRAMINGS))}


def floods() -> dict[str, tuple[bytes, set[int]]]:
    """What is said, and what the caller may be told of it."""
    lines = b"".join(b"x-%d: y\r\n" % number for number in range(200_000))
    return {
        "a header of 20 MiB": (OK + b"x: " + b"y" * 20 * 2**20 + b"\r\n\r\n", {502}),
        "200,000 headers": (OK + lines + b"content-length: %d\r\n\r\n" % SIZE + GOOD, {502}),
        "200,000 interim answers": (b"HTTP/1.1 100 Continue\r\n\r\n" * 200_000 + answer(GOOD), {200, 502}),
        "a bomb": (answer(gzip.compress(bytes(200 * 2**20), 6), more="content-encoding: gzip\r\n"), {502}),
    }


async def test_floods_are_cut_short(tmp_path: Path) -> None:
    """U7 U8: endless heads and a bomb of 200 MiB, five at once, end quickly and cost the worker a few MiB."""
    corpus = floods()
    said = {"good": answer(GOOD), **{name: flood for name, (flood, _) in corpus.items()}}
    async with wire(playing(said)) as upstream:
        with Served(tmp_path, upstream=upstream.url, workers="1") as served:
            (worker,) = served.workers()
            headers = {"x-goog-api-key": served.key}
            async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=20, trust_env=False) as http:
                await asyncio.gather(*[http.post(named(0), json=TEXT) for _ in range(10)])
                base = memory(worker, "VmRSS")
                for number, (name, (_, told)) in enumerate(corpus.items(), 1):
                    answers = await asyncio.gather(*[http.post(named(number), json=TEXT) for _ in range(5)])
                    assert told >= {response.status_code for response in answers}, name
                    slowest = max(response.elapsed.total_seconds() for response in answers)
                    assert slowest < 5, (name, slowest)
                peak = memory(worker, "VmHWM")
    assert peak <= base + 20 * 2**20, (base, peak)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_an_answer_that_is_encoded_all_the_same(tmp_path: Path, coding: str) -> None:
    """U8: one that is no bomb passes, decoded."""
    body = gzip.compress(GOOD) if coding == "gzip" else zlib.compress(GOOD)
    encoded = answer(body, more=f"content-encoding: {coding}\r\n")
    async with wire(playing({"it": encoded})) as upstream, running(tmp_path, upstream.url) as gateway:
        response = await gateway.http.post(named(0), json=TEXT)
    assert (200, GOOD) == (response.status_code, response.content)


@pytest.mark.parametrize(
    ("coding", "body"),
    [("gzip", b"no gzip at all"), ("gzip", gzip.compress(GOOD)[:-9]), ("deflate", gzip.compress(GOOD)), ("br", GOOD)],
)
async def test_an_encoding_that_cannot_be_undone(tmp_path: Path, coding: str, body: bytes) -> None:
    """U8: garbage, half of it, and a coding that nobody asked for are a 502: no caller gets bytes it cannot read."""
    encoded = answer(body, more=f"content-encoding: {coding}\r\n")
    async with wire(playing({"it": encoded})) as upstream, running(tmp_path, upstream.url) as gateway:
        response = await gateway.http.post(named(0), json=TEXT)
    assert (502, "UPSTREAM_BROKE") == (response.status_code, response.json()["error"]["details"][0]["reason"])


async def test_an_encoded_stream_passes_byte_by_byte(tmp_path: Path) -> None:
    """U8: bytes that say nothing yet, such as the head of a gzip stream, do not end it."""
    packed = gzip.compress(b"data: %b\n\n" % GOOD)
    head, *pieces = chunked(*(packed[at : at + 1] for at in range(len(packed))))
    head = head[:-2] + b"content-encoding: gzip\r\n\r\n"
    async with wire(saying(head, *pieces, close=False)) as upstream, running(tmp_path, upstream.url) as gateway:
        response = await gateway.http.post(STREAM, json=TEXT)
    assert (200, b"data: %b\n\n" % GOOD) == (response.status_code, response.content)


LONG = b'{"error":{"code":400,"message":"%b","status":"INVALID_ARGUMENT","details":[]}}' % (b"no " * 60_000)


async def test_a_long_error_comes_whole(tmp_path: Path) -> None:
    """U9: the upstream's own words reach the caller to the last byte, also where they take more than one write."""
    long = answer(LONG, status="400 Bad Request")
    async with wire(playing({"it": long})) as upstream, running(tmp_path, upstream.url) as gateway:
        response = await gateway.http.post(named(0), json=TEXT)
    assert (400, LONG) == (response.status_code, response.content)
