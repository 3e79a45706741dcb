"""The state store is unavailable: refused, frozen, restarted, full, read-only.  No call hangs or counts twice."""

import asyncio
import contextlib
import os
import sys
import time
from typing import Any

import pytest

from gateway.config.clients import Client
from gateway.errors.tree import BudgetSpent, RateLimited, StateLost
from gateway.limits.client_limits import ClientLimits
from gateway.limits.limits import LEVELS, PACKED
from gateway.store.embedded import STATE
from tests.support.gate import Gate, Headers, client, gate, leases, records, state, used
from tests.support.valkey import Valkey, valkey
from tests.support.waiting import until

KILLS = int(os.environ.get("TEST_STORE_KILLS", "3"))
FULL = {"maxmemory": "6mb", "maxmemory_policy": "noeviction"}


async def admitted(one: Gate, of: Client, calls: int) -> int:
    """How many of so many calls, one after the other, are admitted; none of them ends."""
    count = 0
    for _ in range(calls):
        with contextlib.suppress(RateLimited):
            await one.admit(of)
            count += 1
    return count


def _fill(server: Valkey) -> None:
    server.ask("SETRANGE", "ballast", 8_000_000, "x")


@pytest.mark.parametrize(
    ("lose", "find"),
    [
        (Valkey.kill, Valkey.start),
        (Valkey.freeze, Valkey.thaw),
        (_fill, lambda server: server.ask("DEL", "ballast")),
        (lambda server: server.ask("REPLICAOF", "127.0.0.1", "1"), lambda server: server.ask("REPLICAOF", "NO", "ONE")),
    ],
    ids=["dead", "frozen", "full", "read-only"],
)
async def test_each_worker_admits_its_share_and_settles_later(lose: Any, find: Any) -> None:
    """R2, R3, R6, L4: the first call waits 250 ms at most, later ones not at all; records are written on return."""
    design = client(requests_per_minute=60, tokens_per_day=10**7)
    with valkey(**FULL, appendonly="yes") as server:
        async with gate(server.url, replicas=2, workers=2, worker="w2") as one:
            running = asyncio.create_task(one.limits.run())
            before = await one.admit(design)
            lose(server)

            began = time.monotonic()
            permits = [await one.admit(design)]
            first = time.monotonic() - began
            permits += [await one.admit(design) for _ in range(14)]
            rest = time.monotonic() - began - first
            headers: Headers = []
            with pytest.raises(RateLimited):
                await one.admit(design, headers)
            await asyncio.gather(*(permit.settle(used(10), "ok") for permit in [before, *permits]))

            assert first < 0.4
            assert rest < 0.2
            assert [] == headers
            assert [False] == one.changes
            find(server)
            await until(lambda: len(records(server)) == 16)
            assert [False, True] == one.changes
            running.cancel()
        assert {permit.id for permit in [before, *permits]} == {record["call"] for record in records(server)}
        assert 160 == state(server)["tokens_day"]
        assert 0 == leases(server)
        assert 0 == one.late_settlements == one.dropped_records


async def test_closed_mode_refuses(server: Valkey) -> None:
    """L4: an operator may choose 503 instead of a guess; the state stays as it was."""
    design = client(requests_per_minute=60, tokens_per_day=10**6)
    async with gate(server.url, state_lost="closed") as one:
        server.freeze()
        refused = [await one.refusal(design) for _ in range(3)]
        server.thaw()
        await until(lambda: one.store.up)
        await one.limits.aclose()

    assert [StateLost] * 3 == [type(error) for error in refused]
    assert (503, 2) == (refused[0].code, refused[0].retry_after)
    assert 0 == leases(server)
    assert 0 == state(server)["tokens_day"]
    assert [] == records(server)


async def test_pulses_count_nothing_twice(server: Valkey) -> None:
    """L5: admissions cut short by 100 ms of silence are charged once or not at all, and recorded once."""
    design = client(requests_per_minute=6000, tokens_per_day=10**9)
    async with gate(server.url, timeout=0.05, workers=1) as one:
        running = asyncio.create_task(one.limits.run())
        permits = []
        for _ in range(5):
            server.freeze()
            pulse = [asyncio.create_task(one.admit(design)) for _ in range(10)]
            await asyncio.wait(pulse)
            server.thaw()
            await until(lambda: one.store.up)
            permits += [task.result() for task in pulse]
            await asyncio.gather(*(task.result().settle(used(3), "ok") for task in pulse))
        await until(lambda: len(records(server)) == 50)
        running.cancel()

    assert {permit.id for permit in permits} == {record["call"] for record in records(server)}
    assert 150 == state(server)["tokens_day"]
    assert 0 == leases(server)


async def test_a_settlement_that_arrives_twice_counts_once(server: Valkey) -> None:
    """A2: one that a frozen store took all the same is sent again, and that changes nothing."""
    design = client(tokens_per_day=10**6)
    async with gate(server.url, timeout=0.05) as one:
        await (await one.admit(design)).settle(used(3), "ok")  # from now on the server knows the script
        permits = [await one.admit(design) for _ in range(5)]
        server.freeze()
        await asyncio.gather(*(permit.settle(used(3), "ok") for permit in permits))
        server.thaw()
        await until(lambda: one.store.up)
        await one.limits.aclose()

        assert 0 == one.late_settlements == one.dropped_records
    assert ["ok"] * 6 == [record["outcome"] for record in records(server)]
    assert 18 == state(server)["tokens_day"]


async def test_an_admission_that_arrives_after_its_end_takes_nothing(server: Valkey) -> None:
    """L5: a call that was settled by its id cannot be admitted by an older message."""
    design = client(requests_per_minute=5)
    async with gate(server.url, timeout=5) as one:
        permit = await one.admit(design)
        await permit.settle(used(1), "ok")
        before = state(server)

        older = PACKED((permit.id, {"requests": 1, "tokens": 50}, "w1", "m", "generateContent", "r"))
        reply = await one.store.run(ClientLimits.of(design, 10_000, set()).admit, older)

    assert "" == LEVELS(reply).refused
    assert before == state(server)
    assert 0 == leases(server)


async def test_the_share_of_every_limit_is_held_in_memory() -> None:
    """L4: requests, tokens, budgets and concurrency are each cut to this worker's part, and refused by name."""
    async with gate("unix:///nowhere/at/all", replicas=2, workers=5) as one:
        assert 6 == await admitted(one, client("a", requests_per_minute=60), 20)
        assert 3 == await admitted(one, client("b", requests_per_minute=600, burst=30), 20)
        assert 2 == await admitted(one, client("c", tokens_per_minute=20_480 + 9), 20)
        assert 2 == await admitted(one, client("d", tokens_per_day=20_480), 20)
        assert 1 == await admitted(one, client("e", concurrent=8), 20)
        assert 1 == await admitted(one, client("f", requests_per_minute=1, tokens_per_minute=60_000), 20)
        assert 20 == await admitted(one, client("g"), 20)

        spent = await one.refusal(client("d", tokens_per_day=20_480))

        assert isinstance(spent, BudgetSpent)
        assert [False] == one.changes
    limits = {("a", "requests_per_minute"), ("b", "requests_per_minute"), ("c", "tokens_per_minute")}
    assert limits | {("d", "tokens_per_day"), ("e", "concurrent"), ("f", "requests_per_minute")} <= set(one.limited_by)


async def test_records_beyond_the_queue_are_counted() -> None:
    """R9: the queue is bounded; what does not fit is dropped with a count, and so is what is left at the end."""
    async with gate("unix:///nowhere/at/all", queue=3) as one:
        for permit in [await one.admit(client()) for _ in range(5)]:
            await permit.settle(used(1), "ok")
        await until(lambda: one.dropped_records == 2)

        await one.limits.aclose()

        assert 5 == one.dropped_records


@pytest.mark.parametrize(
    "appendonly", ["yes", "no"]
)  # "yes" is the embedded store: its log reaches the disk each second
async def test_killing_the_store_under_load(appendonly: str) -> None:
    """R3, A5: no call hangs; over-admission per loss is at most a burst without a log, and none with one."""
    burst, admissions, waits = 20, 0, [0.0]
    design = client(requests_per_minute=burst)

    async def caller(one: Gate) -> None:
        nonlocal admissions
        while True:
            began = time.monotonic()
            with contextlib.suppress(RateLimited, StateLost):
                await one.admit(design)
                admissions += 1
            waits.append(time.monotonic() - began)
            await asyncio.sleep(0.001)  # those who are refused leave the processor to the others

    with valkey(appendonly=appendonly, appendfsync=STATE["appendfsync"]) as server:
        async with gate(server.url, state_lost="closed") as one:
            started = time.monotonic()
            load = asyncio.gather(*(caller(one) for _ in range(8)))
            for kill in range(1 + KILLS):
                if kill:
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)
                    await until(lambda: one.store.up)
                await asyncio.sleep(0.05)  # the load goes on for a moment between two kills
            load.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await load

    losses = 0 if appendonly == "yes" else KILLS
    sys.stdout.write(f"appendonly {appendonly}: {admissions} admitted, longest wait {max(waits) * 1000:.0f} ms\n")
    assert max(waits) < 0.5
    assert burst <= admissions <= burst * (1 + losses) + (time.monotonic() - started) * burst / 60


async def test_a_flapping_store_gives_no_fresh_start(server: Valkey) -> None:
    """L4: what a worker admitted while the store was unavailable still counts in its next outage."""
    design = client(requests_per_minute=10)
    async with gate(server.url, timeout=0.05) as one:
        for _ in range(3):
            server.freeze()
            await admitted(one, design, 20)
            server.thaw()
            await until(lambda: one.store.up)
        limited = len(one.limited_by)
    assert 50 == limited
