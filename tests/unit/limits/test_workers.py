"""Several worker processes on one store: exact under concurrency, and honest after a kill."""

import asyncio
import multiprocessing as mp
import os
import signal
import time
from itertools import combinations
from multiprocessing.synchronize import Barrier
from typing import Any

from gateway.errors.tree import RateLimited
from tests.support.gate import Gate, client, gate, leases, records, used
from tests.support.valkey import Valkey
from tests.support.waiting import until

ROUNDS = int(os.environ.get("TEST_LIMIT_ROUNDS", "20"))
WORKERS = 4
SPAWN = mp.get_context("spawn")


def _rounds(url: str, start: Barrier, counts: Any) -> None:
    """In each round, 50 calls at once of a client that is new."""

    async def run() -> None:
        async with gate(url, timeout=10, worker=str(os.getpid())) as one:
            await one.store.ping()
            admitted = []
            for number in range(ROUNDS):
                design = client(f"round-{number}", requests_per_minute=10)
                start.wait(30)
                ends = await asyncio.gather(*(one.admit(design) for _ in range(50)), return_exceptions=True)
                assert all(isinstance(end, RateLimited) for end in ends if isinstance(end, BaseException))
                admitted.append(sum(not isinstance(end, BaseException) for end in ends))
            counts.put(admitted)

    asyncio.run(run())


def test_four_workers_admit_exactly_the_limit(server: Valkey) -> None:
    """L1: a limit of 10 and 200 calls at once over four processes: exactly 10, in every round."""
    start, counts = SPAWN.Barrier(WORKERS), SPAWN.Queue()
    workers = [SPAWN.Process(target=_rounds, args=(server.url, start, counts), daemon=True) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()

    admitted = [counts.get(timeout=50 + ROUNDS / 10) for _ in workers]

    for worker in workers:
        worker.join(10)
    assert [10] * ROUNDS == [sum(together) for together in zip(*admitted, strict=True)]


def _hammer(url: str, seconds: float) -> None:
    """Call without a pause, and end each call at once."""
    design = client(requests_per_minute=6000, burst=20)

    async def caller(one: Gate, until_when: float) -> None:
        while time.monotonic() < until_when:
            try:
                permit = await one.admit(design)
            except RateLimited:
                await asyncio.sleep(0.002)  # those who are refused leave the processor to the others
            else:
                await permit.settle(used(1), "ok")

    async def run() -> None:
        async with gate(url, timeout=10, worker=str(os.getpid())) as one:
            await asyncio.gather(*(caller(one, time.monotonic() + seconds) for _ in range(8)))

    asyncio.run(run())


def test_no_window_of_the_ledger_is_over_its_bound(server: Valkey) -> None:
    """L2, A5: within any window, no more than the burst and what flows in."""
    workers = [SPAWN.Process(target=_hammer, args=(server.url, 1.5), daemon=True) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)

    times = sorted(int(record["at"]) for record in records(server))

    for (first, begun), (last, ended) in combinations(enumerate(times), 2):
        assert last - first + 1 <= 20 + (ended - begun + 1) / 10
    assert len(times) > 20, "more than the burst, so that the rate was at work"


def _hold(url: str, ready: Any) -> None:
    """Take every place, and never give one back."""
    design = client(concurrent=50)

    async def run() -> None:
        async with gate(url, lease_seconds=1, worker="victim") as one:
            await asyncio.gather(*(one.admit(design) for _ in range(50)))
            ready.set()
            await one.limits.run()

    asyncio.run(run())


async def test_a_killed_workers_places_come_back(server: Valkey) -> None:
    """L9, A2: after kill -9 with 50 calls in flight, all 50 places are back and all 50 calls are recorded as lost."""
    design, ready = client(concurrent=50), SPAWN.Event()
    worker = SPAWN.Process(target=_hold, args=(server.url, ready), daemon=True)
    worker.start()
    async with gate(server.url, lease_seconds=1) as parent:
        await until(ready.is_set, 30)
        await parent.limits.sweep([design])
        assert 50 == leases(server)

        os.kill(worker.pid or 0, signal.SIGKILL)
        worker.join(10)

        async def all_back() -> bool:
            await parent.limits.sweep([design])
            return not leases(server)

        await until(all_back, every_ms=100)
        assert 50 == len(parent.lost_calls)
        await parent.admit(design)
    assert ["lost"] * 50 == [record["outcome"] for record in records(server)]
    assert 50 == len({record["call"] for record in records(server)})
