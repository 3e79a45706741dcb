"""Calls that wait for another's answer, in whole gateways: how they are counted, and what becomes of them."""

import asyncio
import contextlib
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.caching import PRIVATE, status, waiting
from tests.support.gateway import GENERATE, STREAM, TEXT, Gateway, Upstream, running, saying
from tests.support.served import Served
from tests.support.valkey import Valkey
from tests.support.waiting import until
from tests.support.wire import answer, wire
from tests.support.wire import saying as saying_late


def said(finish: str = "STOP") -> bytes:
    """A whole answer."""
    candidate = {"content": {"parts": [{"text": "hi"}]}, "finishReason": finish}
    return json.dumps({"candidates": [candidate], "usageMetadata": {"totalTokenCount": 6}}).encode()


@contextlib.asynccontextmanager
async def pair(tmp_path: Path, upstream: str, state: Valkey, **settings: Any) -> AsyncIterator[tuple[Gateway, Gateway]]:
    """Two gateways of one store."""
    terms: dict[str, Any] = {"clients": {"design": PRIVATE}, "redis_url": state.url, **settings}
    for name in "ab":
        (tmp_path / name).mkdir()
    async with running(tmp_path / "a", upstream, **terms) as one, running(tmp_path / "b", upstream, **terms) as other:
        yield one, other


async def test_followers_who_do_not_wait_for_the_end(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """M1 M2: who times out or leaves is counted as collapsed and told so, and the waiting is not the gateway's time."""
    body = saying("slowly sandbox-fault: slow=2 ")
    async with pair(tmp_path, upstream.url, state) as (one, other):
        leader = asyncio.create_task(one.http.post(GENERATE, json=body))
        await until(lambda: 1 == one.metric("gateway_cache_requests_total", result="miss"))
        short = {"x-server-timeout": "1"}
        leaves = asyncio.create_task(one.http.post(GENERATE, json=body))
        late = [asyncio.create_task(each.http.post(GENERATE, json=body, headers=short)) for each in (one, other)]
        await asyncio.sleep(0.5)  # it waits for so long, which must not be counted as the gateway's own time
        leaves.cancel()
        for response in await asyncio.gather(*late):
            assert (504, "fwd=miss; collapsed") == (response.status_code, status(response))
        await leader
        entries = [*await one.entries(3), *await other.entries(1)]
        assert ["client_gone", "upstream_timeout", "ok", "upstream_timeout"] == [each["outcome"] for each in entries]
        assert ["collapsed", "collapsed", "miss", "collapsed"] == [each["cache"] for each in entries]
        assert all(each["overhead_ms"] < 250 < each["upstream_ms"] for each in entries)
        assert 3 == sum(each.metric("gateway_cache_requests_total", result="collapsed") for each in (one, other))


async def test_who_waits_and_then_leads(tmp_path: Path, state: Valkey) -> None:
    """M2: another worker's answer that may not be kept was waited for in vain; that is not the gateway's time either."""
    slow = saying_late(answer(said("SAFETY")), before=0.8, close=False)
    async with wire(slow) as heard, pair(tmp_path, heard.url, state) as (one, other):
        leader = asyncio.create_task(one.http.post(GENERATE, json=TEXT))
        await until(lambda: heard.heads)
        assert "fwd=miss" == status(await other.http.post(GENERATE, json=TEXT))
        await leader
        entry = await other.entry()
        assert ("ok", "miss", True) == (entry["outcome"], entry["cache"], entry["overhead_ms"] < 250)
        assert entry["upstream_ms"] > 1200


@pytest.mark.parametrize("path", [GENERATE, STREAM], ids=["unary", "stream"])
async def test_a_leader_who_leaves_others_elsewhere(
    path: str, tmp_path: Path, upstream: Upstream, state: Valkey
) -> None:
    """C7: a stream's leader hangs up, a unary one's runs out of time; the other gateway's caller has the one answer."""
    body = saying("slowly sandbox-fault: slow=2 " if path == GENERATE else "count sandbox-gap: 0.4 ")
    async with pair(tmp_path, upstream.url, state) as (one, other):
        leader = asyncio.create_task(one.http.post(path, json=body, headers={"x-server-timeout": "1"}))
        await until(lambda: 1 == one.metric("gateway_cache_requests_total", result="miss"))
        follower = asyncio.create_task(other.http.post(path, json=body))
        await until(lambda: waiting(other) == 1)
        if path == STREAM:
            leader.cancel()
        response = await follower
        assert (200, "fwd=miss; collapsed") == (response.status_code, status(response))
        await asyncio.gather(leader, return_exceptions=True)
        assert ["complete"] == [record["end"] for record in await upstream.log()]


def connected(pids: list[int], port: int) -> int:
    """Which of the processes has a connection to this port of ours."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    sockets = {f"socket:[{row[9]}]" for row in rows if row[2].endswith(f":{port:04X}") and row[3] == "01"}
    (found,) = [pid for pid in pids if sockets & {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}]
    return found


def in_flight(served: Served) -> float:
    """How many calls are in flight in all workers."""
    found = re.findall(r"^gateway_in_flight_requests\{.*\} (\S+)$", served.metrics(), re.MULTILINE)
    return sum(map(float, found))


async def test_a_leader_worker_that_is_killed(tmp_path: Path) -> None:
    """C7: of two real workers the one that leads is killed; all who wait in the other have an answer within its lease."""

    async def respond(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(heard.heads) == 1:
            await reader.read()  # until they who asked are gone
        writer.write(answer(said()))
        await writer.drain()

    async with wire(respond) as heard, httpx.AsyncClient(timeout=30, trust_env=False) as http:
        with await asyncio.to_thread(Served, tmp_path, upstream=heard.url) as served:
            key = (await asyncio.to_thread(served.run, "clients", "add", "cached", "--cache", "private")).strip()
            headers = {"x-goog-api-key": key, "connection": "close"}
            await asyncio.to_thread(served.wait_for, "reloaded", 2)  # both workers have read the new key
            calls = [http.post(served.url + GENERATE, json=TEXT, headers=headers) for _ in range(40)]
            tasks = []
            for call in calls:
                tasks.append(asyncio.create_task(call))
                await asyncio.sleep(0.02)  # a worker takes all that wait at once, and both are to have some
            await until(lambda: heard.heads)
            await until(lambda: in_flight(served) == len(tasks))
            assert 1 == len(heard.heads)
            began = time.monotonic()
            os.kill(connected(served.workers(), int(heard.url.rpartition(":")[2])), signal.SIGKILL)
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert time.monotonic() - began < 13
    answers = [end for end in ends if isinstance(end, httpx.Response)]
    assert 0 < len(answers) < 40
    assert {(200, said())} == {(each.status_code, each.content) for each in answers}
    assert 2 == len(heard.heads)
