"""What ends a call that takes long, and do record, metrics and access line say the same of every end?"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.asgi.protocol import GatewayProtocol
from gateway.pipeline.relay import Waits
from tests.support.gateway import GENERATE, STREAM, TEXT, Gateway, running
from tests.support.valkey import Valkey
from tests.support.waiting import until
from tests.support.wire import Play, answer, chunked, saying, wire

ARRAY = STREAM.partition("?")[0]
USAGE = b'"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":2,"totalTokenCount":3}'
GOOD = b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}],%b}' % USAGE
LARGE = GOOD.replace(b"hi", b"x" * 8_000_000)
HALF = b'data: {"candidates":[{"content":{"parts":[{"text":"h"}]}}]}\n\n'
DONE = b'data: {"candidates":[{"content":{"parts":[{"text":"i"}]},"finishReason":"STOP"}]}\n\n'
LAST = b"data: " + GOOD + b"\n\n"
SHORT = "x-server-timeout: 1\r\n"
Slow = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def asking(gateway: Gateway, path: str, more: str = "") -> Slow:
    """A caller who reads nothing beyond two kilobytes of the answer until they go on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]), limit=1024)
    body = json.dumps(TEXT)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nx-goog-api-key: {gateway.key}\r\nconnection: close\r\n{more}"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
    return reader, writer


def outcomes(gateway: Gateway, state: Valkey) -> tuple[set[str], list[str]]:
    """How calls ended by the metrics, and by the records in the store."""
    counted = {
        sample.labels["outcome"]
        for metric in gateway.registry.collect()
        for sample in metric.samples
        if sample.name == "gateway_requests_total" and sample.value
    }
    kept = state.ask("XRANGE", "gw:{design}:usage", "-", "+")
    return counted, [record["outcome"] for _, record in kept]


async def test_a_whole_answer_has_no_deadline(tmp_path: Path, state: Valkey) -> None:
    """D3, A2: who reads a paid answer slowly gets all of it past the deadline, and it counts as answered everywhere."""
    async with wire(saying(answer(LARGE))) as upstream, running(
        tmp_path, upstream.url, redis_url=state.url, call_timeout_seconds=1
    ) as gateway:  # fmt: skip
        reader, writer = await asking(gateway, GENERATE)
        await asyncio.sleep(1.3)  # past the deadline: the time itself is what is tested
        received = await reader.read(-1)
        writer.close()
        entry = await gateway.entry()
        await until(lambda: len(outcomes(gateway, state)[1]) == 1)
        assert received.endswith(LARGE)
        assert ("ok", 200, "reported", None) == tuple(entry[name] for name in ("outcome", "status", "usage", "reason"))
        assert ({"ok"}, ["ok"]) == outcomes(gateway, state)


async def test_who_leaves_within_an_answer_has_left(tmp_path: Path, state: Valkey) -> None:
    """A2, D4: a caller who hangs up in the middle of a whole answer has left for all three; its tokens are exact."""
    async with wire(saying(answer(LARGE))) as upstream, running(
        tmp_path, upstream.url, redis_url=state.url
    ) as gateway:  # fmt: skip
        reader, writer = await asking(gateway, GENERATE)
        await reader.readline()
        writer.transport.abort()
        entry = await gateway.entry()
        await until(lambda: len(outcomes(gateway, state)[1]) == 1)
        assert ("client_gone", 499, "reported", 3) == (
            entry["outcome"], entry["status"], entry["usage"], entry["tokens_in"] + entry["tokens_out"],
        )  # fmt: skip
        assert ({"client_gone"}, ["client_gone"]) == outcomes(gateway, state)


class Impatient(GatewayProtocol):
    """Waits for a caller to read for a fraction of a second."""

    stall_seconds = 0.3


async def test_who_stops_reading_has_left(tmp_path: Path, state: Valkey) -> None:
    """A2, D3: so has who is cut off because nothing is read any more."""
    async with wire(saying(answer(LARGE))) as upstream, running(
        tmp_path, upstream.url, redis_url=state.url, http=Impatient
    ) as gateway:  # fmt: skip
        _, writer = await asking(gateway, GENERATE)
        entry = await gateway.entry()
        writer.close()
        await until(lambda: len(outcomes(gateway, state)[1]) == 1)
        assert "client_gone" == entry["outcome"]
        assert ({"client_gone"}, ["client_gone"]) == outcomes(gateway, state)


@pytest.mark.parametrize("path", [STREAM, ARRAY], ids=["events", "array"])
async def test_a_stream_that_has_begun_goes_on(tmp_path: Path, state: Valkey, path: str) -> None:
    """U2: the call's deadline, the caller's too, is for the first event; a stream may go on for longer."""
    async with wire(saying(*chunked(HALF, HALF, HALF, LAST), pause=0.5)) as upstream, running(
        tmp_path, upstream.url, redis_url=state.url, call_timeout_seconds=1.2
    ) as gateway:  # fmt: skip
        response = await gateway.http.post(path, json=TEXT, headers={"x-server-timeout": "1"})
        assert ("ok", 200) == ((entry := await gateway.entry())["outcome"], entry["status"])
    assert 3 == response.text.count('"text":"h"')


@pytest.mark.parametrize("quiet", [b"", b": PING\n\n"], ids=["silent", "comments"])
async def test_a_stream_must_begin(tmp_path: Path, state: Valkey, quiet: bytes) -> None:
    """U2: without an event the deadline ends a stream with a 504, whatever else it sends."""
    pings = [b"%x\r\n%b\r\n" % (len(quiet), quiet)] * 30 if quiet else [b""] * 30
    async with wire(saying(chunked(end=False)[0], *pings, pause=0.1)) as upstream, running(
        tmp_path, upstream.url, redis_url=state.url, call_timeout_seconds=0.6
    ) as gateway:  # fmt: skip
        response = await gateway.http.post(STREAM, json=TEXT)
        entry = await gateway.entry()
    assert (504, "upstream_timeout", "UPSTREAM_TIMEOUT") == (response.status_code, entry["outcome"], entry["reason"])


async def test_a_stream_has_a_cap(tmp_path: Path, state: Valkey) -> None:
    """U2: one that never ends is ended, with an error as its last event."""
    async with wire(saying(*chunked(*[HALF] * 50), pause=0.1)) as upstream, running(
        tmp_path, upstream.url, redis_url=state.url, stream_timeout_seconds=0.5
    ) as gateway:  # fmt: skip
        reader, writer = await asking(gateway, STREAM)
        received = await reader.read(-1)
        writer.close()
        entry = await gateway.entry()
    assert b'data: {"error"' in received
    assert not received.endswith(b"\r\n0\r\n\r\n")
    assert ("upstream_timeout", 200, 200) == (entry["outcome"], entry["status"], entry["upstream_status"])


@pytest.fixture
async def late(tmp_path: Path, state: Valkey) -> AsyncIterator[Gateway]:
    """A gateway that sends a stream's head after 0.2 s, to a private client, in front of an upstream with pauses."""
    async with wire(saying(*chunked(b": PING\n\n", b": PING\n\n", HALF, LAST), pause=0.3)) as upstream, running(
        tmp_path, upstream.url, redis_url=state.url, clients={"design": 'cache = "private"'}
    ) as gateway:  # fmt: skip
        gateway.app.parts.pipeline.relay.waits = Waits(120, head=0.2)
        yield gateway


@pytest.mark.parametrize("path", [STREAM, ARRAY], ids=["events", "array"])
@pytest.mark.parametrize("cache", ["no-store", "no-cache", "max-age=9"])
async def test_the_head_of_a_slow_stream_does_not_wait(late: Gateway, path: str, cache: str) -> None:
    """Callers behind a proxy that waits 60 s for a head get one in time; the events follow, and comments never."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with late.http.stream("POST", path, json=TEXT, headers={"cache-control": cache}) as response:
        head = loop.time() - began
        text = (await response.aread()).decode()
    body = loop.time() - began
    assert 200 == response.status_code
    assert head + 0.3 < body
    assert "PING" not in text
    assert ("chunked", None) == (response.headers["transfer-encoding"], response.headers.get("connection"))
    assert path == ARRAY or (HALF + LAST).decode() == text
    assert path == STREAM or 2 == len(json.loads(text))


async def test_followers_of_a_slow_stream_get_a_head_too(late: Gateway) -> None:
    """C7: who shares another's stream gets it whole; a stream that began late counts once."""
    texts = await asyncio.gather(*(late.http.post(STREAM, json=TEXT) for _ in range(3)))
    assert {(HALF + LAST).decode()} == {response.text for response in texts}
    assert ["collapsed", "collapsed", "miss"] == sorted(entry["cache"] for entry in await late.entries(3))


async def test_an_error_behind_an_early_head(tmp_path: Path, state: Valkey) -> None:
    """U17: what would have been a plain error is an event, once the head has gone."""
    head_seen = asyncio.Event()

    async def play(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(chunked(end=False)[0])
        await head_seen.wait()
        error = b'data: {"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}\n\n'
        writer.write(chunked(error)[1] + b"0\r\n\r\n")

    async with wire(play) as upstream, running(tmp_path, upstream.url, redis_url=state.url) as gateway:
        gateway.app.parts.pipeline.relay.waits = Waits(120, head=0.1)
        reader, writer = await asking(gateway, STREAM)
        await reader.readuntil(b"\r\n\r\n")
        head_seen.set()
        received = await reader.read(-1)
        writer.close()
        entry = await gateway.entry()
    assert b"slow down" in received
    assert not received.endswith(b"\r\n0\r\n\r\n")
    assert ("upstream_error", 200, "none") == (entry["outcome"], entry["status"], entry["usage"])


def and_then(how: str, *pieces: bytes) -> Play:
    """An upstream that sends these chunks and then says nothing, resets, or ends without its last chunk."""

    async def play(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in chunked(*pieces, end=False):
            writer.write(piece)
        await writer.drain()
        if how == "silence":
            await reader.read()
        elif how == "reset":
            await asyncio.sleep(0.1)  # slow on purpose: a reset discards what has not been read yet
            writer.transport.abort()
        else:
            writer.close()

    return play


@pytest.mark.parametrize("how", ["silence", "reset", "end"])
@pytest.mark.parametrize("pieces", [(HALF, LAST), (LAST,), (LAST, LAST), (HALF, DONE, LAST), (LAST, b": PING\n\n")])
async def test_a_complete_answer_is_not_taken_back(
    tmp_path: Path, state: Valkey, how: str, pieces: tuple[bytes, ...]
) -> None:
    """U3, A4: behind the last event and its usage neither silence nor a reset is an error, and the tokens are known."""
    async with wire(and_then(how, *pieces)) as upstream, running(
        tmp_path, upstream.url, redis_url=state.url
    ) as gateway:  # fmt: skip
        gateway.app.parts.pipeline.relay.waits = Waits(120, linger=0.3)
        response = await gateway.http.post(STREAM, json=TEXT)
        entry = await gateway.entry()
    assert b"".join(piece for piece in pieces if not piece.startswith(b":")) == response.content
    assert ("ok", "reported", 3) == (entry["outcome"], entry["usage"], entry["tokens_in"] + entry["tokens_out"])


async def test_silence_behind_an_end_without_usage_is_no_error(tmp_path: Path, state: Valkey) -> None:
    """U3, A4: who has the whole text would pay for it twice; what it cost is estimated."""
    async with wire(and_then("silence", DONE)) as upstream, running(
        tmp_path, upstream.url, redis_url=state.url
    ) as gateway:  # fmt: skip
        gateway.app.parts.pipeline.relay.waits = Waits(120, linger=0.3)
        response = await gateway.http.post(STREAM, json=TEXT)
        entry = await gateway.entry()
    assert DONE == response.content
    assert ("ok", "estimated") == (entry["outcome"], entry["usage"])


@pytest.mark.parametrize(
    ("pieces", "how"),
    [
        (pieces, how)
        for pieces in ((HALF,), (HALF, HALF), (DONE,), (LAST, b"data: {"), (LAST, LAST[:-3]))
        for how in ("silence", "reset", "end")
        if (pieces, how) != ((DONE,), "silence")
    ],
)
async def test_what_is_not_complete_is_cut(tmp_path: Path, state: Valkey, how: str, pieces: tuple[bytes, ...]) -> None:
    """U3: without an end, without its usage, or in the middle of one more event, the stream is broken."""
    async with wire(and_then(how, *pieces)) as upstream, running(
        tmp_path, upstream.url, redis_url=state.url, idle_timeout_seconds=0.5
    ) as gateway:  # fmt: skip
        reader, writer = await asking(gateway, STREAM)
        received = await reader.read(-1)
        writer.close()
        entry = await gateway.entry()
    assert b'data: {"error"' in received
    assert not received.endswith(b"\r\n0\r\n\r\n")
    assert ("upstream_timeout" if how == "silence" else "upstream_broke") == entry["outcome"]


async def test_estimates_are_the_same_everywhere(tmp_path: Path, state: Valkey) -> None:
    """A4, A13: of an answer without usage, line, metrics and record say the same estimate, and that it is one."""
    silent = GOOD.replace(USAGE, b'"x":0')
    for path, said in ((GENERATE, saying(answer(silent))), (STREAM, saying(*chunked(b"data: " + silent + b"\n\n")))):
        state.ask("FLUSHALL")
        async with wire(said) as upstream, running(tmp_path, upstream.url, redis_url=state.url) as gateway:
            await gateway.http.post(path, json=TEXT)
            entry = await gateway.entry()
            await until(lambda: len(outcomes(gateway, state)[1]) == 1)
            ((_, record),) = state.ask("XRANGE", "gw:{design}:usage", "-", "+")
            assert ("estimated", "estimated") == (entry["usage"], record["usage"])
            assert (int(record["in"]), int(record["out"])) == (entry["tokens_in"], entry["tokens_out"])
            assert entry["tokens_out"] > 0
            assert int(record["tokens"]) == gateway.metric("gateway_tokens_total")
            assert 1 == gateway.metric("gateway_usage_missing_total")
