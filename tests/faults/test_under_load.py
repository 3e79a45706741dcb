"""What do callers notice when the gateway is told to stop, or a worker is killed, while it is busy?"""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import GENERATE, STREAM, TEXT
from tests.support.served import Served
from tests.support.waiting import until
from tests.support.wire import Wire, answer, chunked, saying, wire

GOOD = b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}],"usageMetadata":{"totalTokenCount":3}}'
HALF = b'data: {"candidates":[{"content":{"parts":[{"text":"h"}]}}]}\n\n'
LAST = b"data: " + GOOD + b"\n\n"
CALLERS = 16


@pytest.fixture
async def slow() -> AsyncIterator[Wire]:
    """An upstream that takes 50 to 500 ms for an answer and 600 ms for a stream."""
    chance = random.Random(4711)

    async def play(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b":stream" in head:
            await saying(*chunked(HALF, HALF, LAST), pause=0.15, close=False)(head, reader, writer)
        else:
            await saying(answer(GOOD), before=chance.uniform(0.05, 0.5), close=False)(head, reader, writer)

    async with wire(play) as upstream:
        yield upstream


@dataclass
class Load:
    """Callers that ask again and again, each on a connection that it keeps while it is allowed to."""

    served: Served
    done: asyncio.Event = field(default_factory=asyncio.Event)
    ended: Counter[str] = field(default_factory=Counter)  # statuses, and names of what was raised

    latest: float = 0.0  # when the last good answer came

    async def call(self, path: str) -> None:
        """One caller; whoever is refused a connection has come too late."""
        headers = {"x-goog-api-key": self.served.key}
        async with httpx.AsyncClient(base_url=self.served.url, headers=headers, timeout=20, trust_env=False) as http:
            while not self.done.is_set():
                self.ended[how := await self._end(http, path)] += 1
                if how in {"refused", "401"}:
                    await asyncio.sleep(0.02)  # sixteen who ask without a pause would take the processor

    async def _end(self, http: httpx.AsyncClient, path: str) -> str:
        try:
            response = await http.post(path, json=TEXT)
        except httpx.ConnectError:
            return "refused"
        except httpx.TransportError as error:
            return type(error).__name__
        if response.status_code == 401:
            return "401"
        self.latest = time.monotonic()
        whole = response.content == (HALF + HALF + LAST if path == STREAM else GOOD)
        return str(response.status_code) if whole else "cut"

    async def until(self, count: int) -> None:
        """Wait for as many good answers as there are now and `count` more."""
        goal = self.ended["200"] + count
        await until(lambda: self.ended["200"] >= goal, 20, tell=lambda: self.ended)


@contextlib.asynccontextmanager
async def busy(served: Served) -> AsyncIterator[Load]:
    """Sixteen callers, a quarter of them of streams."""
    load = Load(served)
    callers = [asyncio.create_task(load.call(GENERATE if number % 4 else STREAM)) for number in range(CALLERS)]
    await load.until(2 * CALLERS)
    yield load
    load.done.set()
    await asyncio.gather(*callers)


async def test_told_to_stop_it_loses_no_call(tmp_path: Path, slow: Wire) -> None:
    """X1: on SIGTERM every call that was let in is answered whole; who comes later is refused a connection, no more."""
    with Served(tmp_path, upstream=slow.url, notice=0.5) as served:
        async with busy(served) as load:
            served.process.send_signal(signal.SIGTERM)
            await until(lambda: load.ended["refused"] >= CALLERS, 20)
        assert 0 == await asyncio.to_thread(served.process.wait, 20)
    assert {"200", "refused"} == set(load.ended), load.ended
    assert load.ended["200"] == len(slow.heads) == len(served.events("call"))
    assert [] == [line for line in served.log.read_text().splitlines() if '"level":"error"' in line]


async def test_a_killed_worker_takes_only_its_own_calls(tmp_path: Path, slow: Wire) -> None:
    """X2: after kill -9 of one of two workers only calls in flight there are broken, and soon both serve again."""
    with Served(tmp_path, upstream=slow.url) as served:
        async with busy(served) as load:
            killed, _ = served.workers()
            os.kill(killed, signal.SIGKILL)
            await load.until(2 * CALLERS)
            broken = load.ended.total() - load.ended["200"]
            await load.until(2 * CALLERS)
            await until(lambda: len(served.workers()) == 2)
        assert broken == load.ended.total() - load.ended["200"], "nothing breaks later"
        assert broken <= CALLERS, load.ended
        assert killed not in served.workers()
        assert 2 == len(served.workers())
    assert {"200", "RemoteProtocolError", "ReadError"} >= set(load.ended), load.ended
    (died,) = served.events("worker_died")
    assert (killed, -9) == (died["pid"], died["status"])


async def test_a_revoked_key_is_refused_by_all_workers(tmp_path: Path, slow: Wire) -> None:
    """K8: from `clients revoke` on, every worker refuses new calls within a second, and what is under way ends well."""
    with Served(tmp_path, upstream=slow.url) as served:
        async with busy(served) as load:
            await asyncio.to_thread(served.run, "clients", "revoke", "design")
            revoked = time.monotonic()
            await until(lambda: time.monotonic() - load.latest > 1, 10)
        assert load.latest - revoked < 2, "a second, and what was let in before"
    assert {"200", "401"} == set(load.ended), load.ended
