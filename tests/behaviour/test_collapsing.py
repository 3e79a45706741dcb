"""Calls that share an answer on its way, and how they end, through whole gateways on real sockets."""

import asyncio
import gc
import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.caching import ARRAY, PRIVATE, kept, status, waiting
from tests.support.gateway import GENERATE, STREAM, TEXT, Gateway, Upstream, running, saying
from tests.support.valkey import Valkey
from tests.support.waiting import until
from tests.support.wire import answer, wire

CALLERS = 200
SAID = (
    b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}],'
    b'"usageMetadata":{"promptTokenCount":2,"candidatesTokenCount":4,"totalTokenCount":6}}'
)


async def test_identical_calls_under_way_are_one(tmp_path: Path, state: Valkey) -> None:
    """C7 A3: 200 at once over two gateways, the leader hung up: one upstream call, 199 right answers, one bill."""
    opened = asyncio.Event()

    async def when_opened(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await opened.wait()
        writer.write(answer(SAID))
        await writer.drain()

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    terms: dict[str, Any] = {"clients": {"design": PRIVATE}, "redis_url": state.url}
    async with (
        wire(when_opened) as heard,
        running(tmp_path / "a", heard.url, **terms) as one,
        running(tmp_path / "b", heard.url, **terms) as other,
        httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=60, trust_env=False) as http,
    ):

        def ask(gateway: Gateway) -> asyncio.Task[httpx.Response]:
            headers = {"x-goog-api-key": gateway.key}
            return asyncio.create_task(http.post(gateway.url + GENERATE, json=TEXT, headers=headers))

        leader = ask(one)
        await until(lambda: heard.heads)
        others = [ask(gateway) for gateway in ([one, other] * CALLERS)[1:CALLERS]]
        await until(lambda: CALLERS == waiting(one) + waiting(other))
        leader.cancel()
        await until(lambda: one.app.parts.pipeline._orphaned.count)
        opened.set()
        answers = await asyncio.gather(*others)
        await one.at_rest()
        await other.at_rest()
        assert {(200, SAID)} == {(each.status_code, each.content) for each in answers}
        entries = [*await one.entries(CALLERS // 2), *await other.entries(CALLERS // 2)]
    assert 1 == len(heard.heads)
    outcomes = Counter(entry["outcome"] for entry in entries)
    assert {"client_gone", "collapsed"} <= set(outcomes) <= {"client_gone", "collapsed", "cache_hit"}
    (paid,) = [entry for entry in entries if entry["outcome"] == "client_gone"]
    assert ("reported", 1) == (paid["usage"], paid["attempts"])
    assert 6 == sum(entry["tokens_in"] + entry["tokens_out"] for entry in entries)


async def test_a_unary_caller_who_leaves_alone(caching: Gateway, upstream: Upstream, state: Valkey) -> None:
    """D4: what is paid for anyway is waited for, kept, and given to the next who asks."""
    body = saying("slowly sandbox-fault: slow=0.6 ")
    asking = asyncio.create_task(caching.http.post(GENERATE, json=body))
    await until(lambda: 1 == caching.metric("gateway_cache_requests_total", result="miss"))
    asking.cancel()
    await kept(state, 1)
    assert "hit" in status(await caching.http.post(GENERATE, json=body))
    gone, hit = await caching.entries(2)
    assert ("client_gone", "reported", "cache_hit") == (gone["outcome"], gone["usage"], hit["outcome"])
    assert 1 == len(await upstream.log())


async def test_a_streams_caller_who_leaves_alone(caching: Gateway, upstream: Upstream, state: Valkey) -> None:
    """D5 C5: the upstream's stream is cancelled at once, flagged, and nothing of it is kept."""
    async with caching.http.stream("POST", STREAM, json=saying("count sandbox-gap: 5 ")) as response:
        await anext(response.aiter_bytes())
    entry = await caching.entry()
    assert ("client_gone", "estimated") == (entry["outcome"], entry["usage"])
    async with asyncio.timeout(2):
        while "cancelled" not in [record["end"] for record in await upstream.log()]:
            pass
    assert [] == state.ask("KEYS", "gw:cache:*")


async def test_a_leader_with_little_time_leaves_its_followers_theirs(caching: Gateway, upstream: Upstream) -> None:
    """C7: the shared call runs on the gateway's deadline; one who waits less is told 504, the other has the answer."""
    body = saying("slowly sandbox-fault: slow=1.6 ")
    short = asyncio.create_task(caching.http.post(GENERATE, json=body, headers={"x-server-timeout": "1"}))
    await until(lambda: 1 == caching.metric("gateway_cache_requests_total", result="miss"))
    patient = await caching.http.post(GENERATE, json=body)
    assert (504, 200, "fwd=miss; collapsed") == ((await short).status_code, patient.status_code, status(patient))
    assert 1 == len(await upstream.log())
    outcomes = {entry["outcome"]: entry["usage"] for entry in await caching.entries(2)}
    assert {"upstream_timeout": "reported", "collapsed": "none"} == outcomes


async def test_an_error_is_everybodys(caching: Gateway, upstream: Upstream) -> None:
    """C7: followers are told what the leader is told, and each is counted as what it was."""
    body = saying("slowly sandbox-fault: cut ")
    responses = await asyncio.gather(*(caching.http.post(GENERATE, json=body) for _ in range(5)))
    assert {(502, "UPSTREAM_BROKE")} == {
        (each.status_code, each.json()["error"]["details"][0]["reason"]) for each in responses
    }
    entries = await caching.entries(5)
    assert Counter(upstream_broke=5) == Counter(entry["outcome"] for entry in entries)
    assert len(await upstream.log()) == sum(entry["attempts"] for entry in entries)


Slow = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def asking_slowly(gateway: Gateway, path: str, body: bytes, more: str = "") -> Slow:
    """A caller who sends a call and, until they go on, reads nothing of its answer beyond two kilobytes."""
    port = int(gateway.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: x\r\nx-goog-api-key: {gateway.key}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
    )
    writer.write(head.encode() + body)
    await writer.drain()
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    return reader, writer


@pytest.mark.parametrize("path", [GENERATE, STREAM], ids=["unary", "stream"])
async def test_what_is_passed_on_from_the_cache_is_held(caching: Gateway, state: Valkey, path: str) -> None:
    """D8 L11: bytes of hits and of followers' answers count as held while they are sent, each answer once."""
    size, held = 8_000_000, caching.app.parts.memory_budget
    body = json.dumps(saying(f"large sandbox-size: {size} ")).encode()
    followers = await asyncio.gather(*(asking_slowly(caching, path, body) for _ in range(5)))
    await until(lambda: size < held.held < 1.5 * size)
    for _, each in followers:
        each.transport.abort()
    await caching.at_rest()
    await kept(state, 1)
    hits = [await asking_slowly(caching, path, body) for _ in range(2)]
    await until(lambda: 2 * size < held.held < 2.5 * size)
    for _, each in hits:
        each.transport.abort()
    await caching.at_rest()
    entries = await caching.entries(7)
    assert {"miss": 1, "collapsed": 4, "hit": 2} == Counter(entry["cache"] for entry in entries)
    assert {"client_gone"} == {entry["outcome"] for entry in entries}
    assert 0 == caching.metric("gateway_cache_saved_tokens_total"), "nobody was saved anything"


async def test_a_slow_reader_gets_what_is_there(caching: Gateway, state: Valkey) -> None:
    """D3: no deadline counts once the answer is there, or a stream has begun: who reads slowly gets it all."""

    def body(wish: str) -> bytes:
        return json.dumps(saying(f"{wish} sandbox-size: 8000000 ")).encode()

    async def read_late(path: str, wish: str) -> bytes:
        more = f"x-server-timeout: 4\r\nconnection: close\r\ncache-control: {wish}\r\n"
        reader, writer = await asking_slowly(caching, path, body(wish), more)
        await asyncio.sleep(4.5)  # past the deadline: the time itself is what is tested
        rest = await reader.read(-1)
        writer.close()
        return rest

    told = {"no-store": b"fwd=bypass", "no-cache": b"fwd=request", "max-age=60": b"hit"}
    await asyncio.gather(*(caching.http.post(path, content=body("max-age=60")) for path in (GENERATE, STREAM, ARRAY)))
    await kept(state, 3)
    cases = [(path, wish) for path in (GENERATE, STREAM, ARRAY) for wish in told]
    for (path, wish), rest in zip(cases, await asyncio.gather(*(read_late(*case) for case in cases)), strict=True):
        assert told[wish] in rest[:1024]
        assert len(rest) > 8_000_000
        assert b"UPSTREAM_TIMEOUT" not in rest
        assert (path == GENERATE) != rest.endswith(b"0\r\n\r\n")


async def test_a_follower_who_leaves_is_not_waited_for(caching: Gateway) -> None:
    """D4: nothing was sent for it, so its place is free at once, and what it waited for goes on for the others."""
    body = saying("slowly sandbox-fault: slow=1.5 ")
    leader = asyncio.create_task(caching.http.post(GENERATE, json=body))
    await until(lambda: 1 == caching.metric("gateway_cache_requests_total", result="miss"))
    follower = asyncio.create_task(caching.http.post(GENERATE, json=body))
    await until(lambda: 2 == caching.metric("gateway_in_flight_requests"))
    follower.cancel()
    gone = await caching.entry()
    assert ("client_gone", "none", 0) == (gone["outcome"], gone["usage"], gone["attempts"])
    assert 1 == caching.metric("gateway_in_flight_requests")
    assert 200 == (await leader).status_code


async def test_a_worker_that_ends_tells_all_who_wait(
    tmp_path: Path, upstream: Upstream, state: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    """X1 A1: a leader who has left and its followers end with the drain, are told so, counted, and no error is logged."""
    body = saying("for ever sandbox-fault: hang ")
    terms: dict[str, Any] = {"clients": {"design": PRIVATE}, "redis_url": state.url}
    async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
        async with running(tmp_path, upstream.url, **terms) as gateway:
            url, headers = gateway.url + GENERATE, {"x-goog-api-key": gateway.key}
            leader = asyncio.create_task(http.post(url, json=body, headers={**headers, "x-server-timeout": "1"}))
            await until(lambda: 1 == gateway.metric("gateway_cache_requests_total", result="miss"))
            followers = [asyncio.create_task(http.post(url, json=body, headers=headers)) for _ in range(3)]
            assert 504 == (await leader).status_code
            assert 4 == gateway.metric("gateway_in_flight_requests")
        assert [503] * 3 == [(await each).status_code for each in followers]
    entries = await gateway.entries(4)
    assert Counter(upstream_timeout=1, overloaded=3) == Counter(entry["outcome"] for entry in entries)
    assert ["estimated"] == [entry["usage"] for entry in entries if entry["outcome"] == "upstream_timeout"]
    assert "Exception in ASGI application" not in caplog.text


class Broken(httpx.AsyncBaseTransport):
    """A way to the upstream that has a defect, which shows when it is opened."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def handle_async_request(self, _: httpx.Request) -> httpx.Response:
        await self.opened.wait()
        raise RuntimeError("canary-4711")


@pytest.mark.parametrize("path", [GENERATE, STREAM], ids=["unary", "stream"])
async def test_a_defect_is_everybodys_500(
    path: str, tmp_path: Path, upstream: Upstream, state: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that nobody foresaw reaches all who wait as ours, is logged by class and place, and is lost nowhere."""
    terms: dict[str, Any] = {"clients": {"design": PRIVATE}, "redis_url": state.url, "transport": (broken := Broken())}
    async with running(tmp_path, upstream.url, **terms) as gateway:
        calls = [asyncio.create_task(gateway.http.post(path, json=TEXT)) for _ in range(5)]
        await until(lambda: waiting(gateway) == 5)
        broken.opened.set()
        responses = await asyncio.gather(*calls)
        await gateway.entries(5)
        assert ["INTERNAL"] * 5 == [each.json()["error"]["status"] for each in responses]
        defects = [line for line in gateway.lines() if line["event"] == "defect"]
        assert {("RuntimeError", True)} == {
            (line["exception"], line["at"][-1].endswith("handle_async_request")) for line in defects
        }
    gc.collect()
    assert (5, "", False) == (len(defects), caplog.text, "canary" in gateway.log_file.read_text())
