"""Faults of the upstream, on the wire, and what the caller is told: status, reason, outcome, attempts."""

import asyncio
import gzip
from pathlib import Path

import httpx
import pytest
from msgspec import structs

from gateway.errors import UpstreamError
from gateway.upstream.request import Requests
from tests.support.asking import client
from tests.support.calls import call_for
from tests.support.gateway import GENERATE, STREAM, TEXT, Gateway, Upstream, running
from tests.support.gateway import saying as asking
from tests.support.wire import Play, answer, chunked, saying, wire

GOOD = b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}],"usageMetadata":{"totalTokenCount":3}}'
EVENT = b"data: " + GOOD + b"\n\n"
HALF = b'data: {"candidates":[{"content":{"parts":[{"text":"h"}]}}],"usageMetadata":{"totalTokenCount":2}}\n\n'

FAULTS: list[tuple[str, Play, int, str, str]] = [
    ("U3 cut body", saying(answer(GOOD)[:-10]), 502, "UPSTREAM_BROKE", "upstream_broke"),
    ("U3 cut head", saying(b"HTTP/1.1 200 OK\r\ncontent-"), 502, "UPSTREAM_BROKE", "upstream_broke"),
    ("U4 cut without length", saying(b"HTTP/1.1 200 OK\r\n\r\n" + GOOD[:40]), 502, "UPSTREAM_BROKE", "upstream_broke"),
    ("U6 two lengths", saying(answer(GOOD, more="content-length: 5\r\n")), 502, "UPSTREAM_BROKE", "upstream_broke"),
    ("U7 huge head", saying(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 4_000_000), 502, "UPSTREAM_BROKE", "upstream_broke"),
    ("U8 bomb", saying(answer(gzip.compress(b" " * 20_000_000), more="content-encoding: gzip\r\n")), 502, "UPSTREAM_BROKE", "upstream_broke"),
    ("U8 coding", saying(answer(GOOD, more="content-encoding: br\r\n")), 502, "UPSTREAM_BROKE", "upstream_broke"),
    ("U10 redirect", saying(answer(b"", status="302 Found", more="location: http://127.0.0.1:1/\r\n")), 502, "UPSTREAM_ERROR", "upstream_error"),
    ("U11 html", saying(answer(b"<html>", content_type="text/html")), 502, "UPSTREAM_BROKE", "upstream_broke"),
    ("U11 empty", saying(answer(b"")), 502, "UPSTREAM_BROKE", "upstream_broke"),
    ("U11 not json", saying(answer(b'{"a": ')), 502, "UPSTREAM_BROKE", "upstream_broke"),
    ("U11 garbage", saying(b"garbage\r\n\r\n"), 502, "UPSTREAM_BROKE", "upstream_broke"),
    ("U12 key", saying(answer(b'{"error":{"code":401}}', status="401 No")), 502, "UPSTREAM_KEY_REFUSED", "upstream_error"),
    ("U1 silence", saying(b"", pause=30), 504, "UPSTREAM_TIMEOUT", "upstream_timeout"),
    ("U2 drip", saying(*[bytes([byte]) for byte in answer(GOOD)], pause=0.05), 504, "UPSTREAM_TIMEOUT", "upstream_timeout"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("play", "status", "reason", "outcome"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
async def test_faults_before_the_answer(tmp_path: Path, play: Play, status: int, reason: str, outcome: str) -> None:
    """U1-U12: a fault before anything is passed on is a clean error, sent once, and is counted as what it was."""
    async with wire(play) as upstream, running(tmp_path, upstream.url, call_timeout_seconds=1) as gateway:
        response = await gateway.http.post(GENERATE, json=TEXT)
        entry = await gateway.entry()

    error = response.json()["error"]
    assert (status, status, reason) == (response.status_code, error["code"], error["details"][0]["reason"])
    assert (outcome, status, 1) == (entry["outcome"], entry["status"], entry["attempts"])
    assert "sk-canary" not in response.text


async def test_nothing_listens(tmp_path: Path) -> None:
    """U16: a connection that was never made is tried again, at most three times, and costs nothing."""
    async with wire(saying(b"")) as gone:
        url = gone.url
    async with running(tmp_path, url) as gateway:
        response = await gateway.http.post(GENERATE, json=TEXT)
        entry = await gateway.entry()
    assert (502, "UPSTREAM_UNREACHABLE") == (response.status_code, response.json()["error"]["details"][0]["reason"])
    assert (3, "none") == (entry["attempts"], entry["usage"])


@pytest.mark.parametrize(
    ("fault", "status", "attempts"),
    [("503*1", 200, 2), ("429*2", 200, 3), ("503", 503, 3), ("503=9", 503, 1), ("500", 500, 1), ("google=400", 400, 1)],
)
async def test_what_is_tried_again(
    gateway: Gateway, upstream: Upstream, fault: str, status: int, attempts: int
) -> None:
    """U9: overload is tried again within limits, a wait over 5 s is the caller's, anything else passes at once."""
    response = await gateway.http.post(GENERATE, json=asking(f"sandbox-fault: {fault} "))
    entry = await gateway.entry()
    assert (status, attempts) == (response.status_code, entry["attempts"])
    assert attempts == len(await upstream.log())
    if "=9" in fault:
        assert "9" == response.headers["retry-after"]


async def test_an_unknown_model_is_not_tried_again(gateway: Gateway) -> None:
    """U19: the vendor answers 503 for a model that it does not have; that is no overload, and the caller gets a 404."""
    response = await gateway.http.post("/v1beta/models/no-such-model:generateContent", json=TEXT)
    entry = await gateway.entry()
    error = response.json()["error"]
    assert (404, 1) == (response.status_code, entry["attempts"])
    assert "model_not_found" == error["details"][0]["metadata"]["upstream_code"]
    assert 1 == gateway.metric("gateway_requests_total", model="other", outcome="upstream_error")


async def obeyed(refused: httpx.Response) -> None:
    """Wait for as long as a caller is told to."""
    await asyncio.sleep(int(refused.headers["retry-after"]))  # that it is enough is what is tested


async def test_a_storm_opens_the_breaker(gateway: Gateway, upstream: Upstream) -> None:
    """U9: retries stay within their budget, the breaker opens, refuses with a wait, and closes again after it."""
    calls = 60
    for _ in range(calls):
        await gateway.http.post(GENERATE, json=asking("sandbox-fault: 503 "))
    refused = await gateway.http.post(GENERATE, json=TEXT)
    seen = len(await upstream.log())
    assert "BREAKER_OPEN" == refused.json()["error"]["details"][0]["reason"]
    assert seen <= calls * 1.1
    assert 1 == gateway.metric("gateway_breaker_open")

    await obeyed(refused)
    assert 200 == (await gateway.http.post(GENERATE, json=TEXT)).status_code
    assert 0 == gateway.metric("gateway_breaker_open")


async def test_models_that_share_a_label_share_its_breakers(gateway: Gateway) -> None:
    """M1 U9: the gauge of `other` says whether any model is left alone that has no label of its own."""
    paths = [GENERATE.replace("gemini-2.5-flash", name) for name in ("stranger-1", "stranger-2")]
    for path in paths:
        for _ in range(25):
            refused = await gateway.http.post(path, json=asking("sandbox-fault: cut "))
    assert "BREAKER_OPEN" == refused.json()["error"]["details"][0]["reason"]
    for still_open, path in ((1, paths[0]), (0, paths[1])):
        await obeyed(refused)
        await gateway.http.post(path, json=TEXT)
        assert still_open == gateway.metric("gateway_breaker_open", model="other")


@pytest.mark.parametrize("terms", ["", 'cache = "private"'], ids=["asked by the call", "asked by a flight"])
async def test_whose_patience_ended(tmp_path: Path, upstream: Upstream, terms: str) -> None:
    """U9: only our own deadline speaks against the upstream, not a caller's shorter one, nor one who hangs up."""
    async with running(tmp_path, upstream.url, call_timeout_seconds=2, clients={"design": terms}) as gateway:

        def attempts(outcome: str) -> float:
            return gateway.metric("gateway_upstream_attempts_total", outcome=outcome)

        hanging = asking("sandbox-fault: hang ")
        assert 504 == (await gateway.http.post(GENERATE, json=hanging)).status_code
        await gateway.at_rest()
        assert (1, 0) == (attempts("upstream_timeout"), attempts("cancelled"))
        assert 504 == (await gateway.http.post(GENERATE, json=hanging, headers={"x-server-timeout": "1"})).status_code
        await gateway.at_rest()
        assert (1, 1) == (attempts("upstream_timeout"), attempts("cancelled"))
        with pytest.raises(httpx.ReadTimeout):
            await gateway.http.post(STREAM, json=hanging, timeout=0.3)
        await gateway.at_rest()
        assert (1, 2) == (attempts("upstream_timeout"), attempts("cancelled"))


STREAM_BREAKS: list[tuple[str, tuple[bytes, ...]]] = [
    ("U3 cut", chunked(HALF, end=False)),
    ("U4 ends cleanly but early", chunked(HALF)),
    ("U11 not json", chunked(HALF, b"data: {nope\n\n")),
]


@pytest.mark.parametrize("pieces", [pieces for _, pieces in STREAM_BREAKS], ids=[name for name, _ in STREAM_BREAKS])
async def test_a_stream_that_breaks_never_looks_whole(tmp_path: Path, pieces: tuple[bytes, ...]) -> None:
    """U3 U4: what came is passed on, then one error event, and the connection is cut without a clean end."""
    async with wire(saying(*pieces, pause=0.01)) as upstream, running(tmp_path, upstream.url) as gateway:
        received = await raw(gateway, STREAM)
        entry = await gateway.entry()
    assert HALF in received
    assert b'data: {"error": {"code": 502' in received
    assert not received.endswith(b"0\r\n\r\n")
    assert ("upstream_broke", 200, "estimated") == (entry["outcome"], entry["status"], entry["usage"])


async def test_events_pass_and_noise_does_not(tmp_path: Path) -> None:
    """Streams: events pass unchanged; comments, names, ids and [DONE] do not; the last one gets its empty line."""
    noise = b": PING\n\nevent: x\nid: 7\n" + HALF + b"data: [DONE]\n\n" + EVENT.rstrip(b"\n")
    async with wire(saying(*chunked(noise[:50], noise[50:]))) as upstream, running(tmp_path, upstream.url) as gateway:
        events = await gateway.http.post(STREAM, json=TEXT)
        array = await gateway.http.post(STREAM.partition("?")[0], json=TEXT)
    assert HALF + EVENT == events.content
    assert "text/event-stream" == events.headers["content-type"]
    assert ("application/json", 2) == (array.headers["content-type"], len(array.json()))


async def test_the_first_byte_comes_at_once(tmp_path: Path) -> None:
    """Streams: an event is passed on before the next one exists; silence after it has a deadline of its own."""
    pieces = chunked(HALF, end=False)

    async def play(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying(*pieces, close=False)(head, reader, writer)
        await reader.read()  # until they hang up

    async with wire(play) as upstream, running(tmp_path, upstream.url, idle_timeout_seconds=0.3) as gateway:
        received = await raw(gateway, STREAM)
        entry = await gateway.entry()
    assert HALF in received
    assert b'"code": 504' in received
    assert "upstream_timeout" == entry["outcome"]
    assert entry["first_byte_ms"] < 250


async def test_a_stream_that_ends_too_early_in_good_order(tmp_path: Path) -> None:
    """U3: a clean end without a last event is no answer: without any event a 502, else an error and a cut."""
    async with wire(saying(*chunked())) as upstream, running(tmp_path, upstream.url) as gateway:
        empty = await gateway.http.post(STREAM, json=TEXT)
    async with wire(saying(*chunked(HALF))) as upstream, running(tmp_path, upstream.url) as gateway:
        half = await raw(gateway, STREAM)
        entries = await gateway.entries(2)
    assert (502, "UPSTREAM_BROKE") == (empty.status_code, empty.json()["error"]["details"][0]["reason"])
    assert b"UPSTREAM_BROKE" in half
    assert not half.endswith(b"0\r\n\r\n")
    assert ["upstream_broke"] * 2 == [entry["outcome"] for entry in entries]


@pytest.mark.parametrize("target", ["@elsewhere/v1beta/models", ":81/v1beta/models", "v1beta/models", ".elsewhere/x"])
def test_the_key_leaves_for_no_other_place(target: str) -> None:
    """S7: a target that would change host or port is refused, since the upstream's key goes with it."""
    call = call_for(client())
    away = structs.replace(call, upstream=structs.replace(call.upstream, target=target))
    with pytest.raises(UpstreamError, match="would leave the upstream"):
        Requests("http://upstream", lambda: "sk-canary").of(away)


async def test_an_error_in_the_last_unfinished_line(tmp_path: Path) -> None:
    """U17: an error that the upstream's end cuts short of its line's end is still that error."""
    said = HALF + b'data: {"error":{"code":429,"message":"slow down","status":"RESOURCE_EXHAUSTED"}}'
    async with wire(saying(*chunked(said))) as upstream, running(tmp_path, upstream.url) as gateway:
        received = await raw(gateway, STREAM)
        entry = await gateway.entry()
    assert b"slow down" in received
    assert "upstream_error" == entry["outcome"]


async def raw(gateway: Gateway, path: str) -> bytes:
    """The answer as it stands on the wire, to its very end."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nx-goog-api-key: {gateway.key}\r\ncontent-length: 2\r\n\r\n{{}}"
    writer.write(head.encode())
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()
