"""Concurrency counts live leases: those of dead workers come back, those of live ones are never taken away."""

import asyncio
import contextlib

from gateway.errors.tree import RateLimited
from gateway.limits.client_limits import key
from tests.support.gate import Gate, client, gate, leases, records, state, used
from tests.support.valkey import Valkey
from tests.support.waiting import until

LEASE = 0.5  # seconds, instead of ten


def expire(server: Valkey, by_ms: int = 20_000) -> None:
    """As if no lease had been renewed for so long, while somebody else came by."""
    for call in server.ask("ZRANGE", key("design", "leases"), 0, -1):
        server.ask("ZINCRBY", key("design", "leases"), -by_ms, call)
    seconds, microseconds = server.ask("TIME")
    server.ask("HSET", key("design", "limits"), "seen", seconds * 1000 + microseconds // 1000)


async def test_a_dead_workers_calls_come_back_as_lost(one: Gate, server: Valkey) -> None:
    """L9, A2, A7: the next heartbeat of any other worker finds them, frees their places, and writes one record for each."""
    design = client(concurrent=3, tokens_per_day=10**6)
    dead = [await one.admit(design) for _ in range(3)]
    expire(server)

    async with gate(server.url) as other:
        await other.limits.sweep([design])
        permit = await other.admit(design)
        await permit.settle(used(1), "ok")

        assert [("design", "gemini-2.5-flash", "generateContent")] * 3 == other.lost_calls
    assert {call.id: "lost" for call in dead} | {permit.id: "ok"} == {r["call"]: r["outcome"] for r in records(server)}
    assert {("1024", "estimated")} == {(r["tokens"], r["usage"]) for r in records(server) if r["outcome"] == "lost"}
    assert 3 * 1024 + 1 == state(server)["tokens_day"]
    assert 0 == leases(server)


async def test_a_quiet_clients_lost_calls_are_swept(one: Gate, server: Valkey) -> None:
    """L9: the parent's sweep finds them, and returns the usage of each budget."""
    design, other = client(tokens_per_day=10**6, images_per_day=7), client("other", tokens_per_day=5)
    await one.admit(design, image_output=True)
    expire(server)

    async with gate(server.url) as parent:
        used_now = await parent.limits.sweep([design, other])

        assert 1 == len(parent.lost_calls)
    expected = {("design", "tokens_per_day"): 1024, ("design", "images_per_day"): 1, ("other", "tokens_per_day"): 0}
    assert expected == used_now
    assert ["lost"] == [record["outcome"] for record in records(server)]


async def test_settling_a_lost_call_changes_nothing(one: Gate, server: Valkey) -> None:
    """A2: a worker that was only slow finds its call recorded; that is counted, and nothing else happens."""
    design = client(tokens_per_day=10**6)
    permit = await one.admit(design)
    expire(server)
    async with gate(server.url) as parent:
        await parent.limits.sweep([design])

    await permit.settle(used(5), "ok")

    assert ["lost"] == [record["outcome"] for record in records(server)]
    assert 1024 == state(server)["tokens_day"]
    assert 1 == one.late_settlements


async def test_a_live_workers_leases_are_renewed(server: Valkey) -> None:
    """A7: a call that lasts many times its lease is still in flight."""
    design = client(concurrent=1)
    async with (
        gate(server.url, lease_seconds=LEASE, timeout=5) as worker,
        gate(server.url, lease_seconds=LEASE) as other,
    ):
        running = asyncio.create_task(worker.limits.run())
        permit = await worker.admit(design)
        first = server.ask("ZSCORE", key("design", "leases"), permit.id)
        await until(lambda: server.ask("ZSCORE", key("design", "leases"), permit.id) > first + 3000 * LEASE)

        assert isinstance(await other.refusal(design), RateLimited)
        await permit.settle(used(1), "ok")
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert ["ok"] == [record["outcome"] for record in records(server)]


async def test_a_store_that_stood_still_ages_no_lease(server: Valkey) -> None:
    """R2, A7: after a freeze longer than a lease, live calls are not taken for lost."""
    design = client(concurrent=4)
    async with gate(server.url, lease_seconds=LEASE, timeout=0.1) as worker:
        permits = [await worker.admit(design) for _ in range(4)]
        await server.freeze_for(2 * LEASE)
        async with gate(server.url, lease_seconds=LEASE, timeout=5) as other:
            await other.limits.sweep([design])
            assert [] == other.lost_calls
        await asyncio.gather(*(permit.settle(used(1), "ok") for permit in permits))
    assert ["ok"] * 4 == [record["outcome"] for record in records(server)]


async def test_a_heartbeat_tidies_up(one: Gate, server: Valkey) -> None:
    """Settled ids are forgotten after an hour, records after 90 days, and all of a client that has no calls."""
    design = client()
    await (await one.admit(design)).settle(used(1), "ok")
    server.ask("ZADD", key("design", "settled"), 5, "long-ago")
    server.ask("DEL", key("design", "usage"))
    for old in range(300):  # trimming is by whole nodes of the stream
        server.ask("XADD", key("design", "usage"), f"{old + 1}-0", "call", "old")
    server.ask("XADD", key("design", "usage"), "*", "call", "new")

    await one.limits.sweep([design])

    assert None is server.ask("ZSCORE", key("design", "settled"), "long-ago")
    assert 1 == server.ask("ZCARD", key("design", "settled"))
    assert len(records(server)) <= 101
    for name in ("limits", "settled", "usage"):
        if server.ask("EXISTS", key("design", name)):
            assert 7_689_600_000 < server.ask("PTTL", key("design", name)) <= 7_776_000_000
