"""Every call is settled once, also where the store refuses, is half unavailable, or the gateway closes."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest

from gateway.limits import settlements
from gateway.limits.client_limits import key
from tests.support.gate import Gate, client, gate, leases, records, state, used
from tests.support.valkey import Valkey, valkey
from tests.support.waiting import turns, until
from tests.unit.limits.test_leases import expire


@pytest.fixture
def guarded() -> Iterator[Valkey]:
    """A server whose user `gw` may do what a test lets it."""
    with valkey() as server:
        server.ask("ACL", "SETUSER", "gw", "on", ">s", "~*", "+@all")
        yield server


@pytest.mark.parametrize("denied", ["xadd", "zadd"])
async def test_an_error_reply_loses_nothing(guarded: Valkey, denied: str) -> None:
    """A2: where the store refuses a part of a script, calls and the heartbeat go on, and the record comes when it may."""
    design = client(tokens_per_day=10**6)
    async with gate(guarded.url.replace("unix://", "unix://gw:s@"), lease_seconds=0.5, timeout=5) as one:
        running = asyncio.create_task(one.limits.run())
        permit = await one.admit(design)
        guarded.ask("ACL", "SETUSER", "gw", f"-{denied}")
        await permit.settle(used(7), "ok")
        alone = await one.admit(design)
        await alone.settle(used(7), "ok")
        await asyncio.sleep(0.3)  # heartbeats in which it is sent again
        assert not running.done()
        assert [] == records(guarded)
        guarded.ask("ACL", "SETUSER", "gw", f"+{denied}")
        await until(lambda: len(records(guarded)) == 2)
        running.cancel()

        assert 0 == one.dropped_records == one.late_settlements
        assert [False, True] == one.changes  # a store that takes no settlements is given no admissions
    assert {permit.id: "ok", alone.id: "ok"} == {record["call"]: record["outcome"] for record in records(guarded)}
    assert 14 == state(guarded)["tokens_day"]
    assert 0 == leases(guarded)


async def test_what_is_refused_again_waits_for_the_next_beat(server: Valkey) -> None:
    """L9: what the store refuses over and over is sent once per heartbeat, so that leases of other clients are renewed."""
    bystander = client("bystander")
    async with gate(server.url, lease_seconds=0.5, timeout=5) as one:
        permit = await one.admit(client())
        await one.admit(bystander)
        running = asyncio.create_task(one.limits.run())
        server.ask("RENAME", key("design", "limits"), "kept")
        server.ask("SET", key("design", "limits"), "of another kind")
        await permit.settle(used(1), "ok")
        await asyncio.sleep(1)  # two leases, which must have been renewed
        async with gate(server.url, lease_seconds=0.5, timeout=5) as parent:
            await parent.limits.sweep([bystander])
            assert [] == parent.lost_calls
        errors = server.ask("INFO", "errorstats")["errorstat_WRONGTYPE"]["count"]
        assert 5 <= errors <= 60
        server.ask("RENAME", "kept", key("design", "limits"))
        await until(lambda: len(records(server)) == 1)
        running.cancel()


async def test_closing_waits_for_what_is_being_sent(server: Valkey) -> None:
    """A7, L5: admissions that are cancelled as the gateway closes leave no lease."""
    design = client(requests_per_minute=6000)
    async with gate(server.url, timeout=5) as one:
        await (await one.admit(design)).settle(used(1), "ok")
        asked = [asyncio.create_task(one.admit(design)) for _ in range(50)]
        await turns(2)  # they are on their way
        for _ in range(600):
            one.store.command("GET", "x")
        for task in asked:
            task.cancel()
        await asyncio.wait(asked)

        await one.limits.aclose()

        assert 0 == one.dropped_records
    assert 0 == leases(server)
    assert ["ok"] == [record["outcome"] for record in records(server)]


async def test_what_was_received_long_ago_is_not_sent_again(server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """A2: a settlement that the store may have forgotten is dropped and counted; one it never received is sent all the same."""
    design = client()
    async with gate(server.url, timeout=1) as one:
        await (await one.admit(design)).settle(used(0), "ok")  # from now on the server knows the script
        heard, unheard = await one.admit(design), await one.admit(design)
        server.freeze()
        await heard.settle(used(1), "ok")  # it has gone out
        await unheard.settle(used(2), "ok")  # by now the store is known to be unavailable
        server.thaw()
        await until(lambda: one.store.up)
        monkeypatch.setattr(settlements, "REMEMBERED_SECONDS", 0)

        await one.limits.aclose()

        assert 1 == one.dropped_records
    assert [heard.id, unheard.id] == [record["call"] for record in records(server)][1:]


async def test_a_first_telling_that_comes_too_late_is_counted(server: Valkey) -> None:
    """A2: a call that was recorded as lost while its end waited in the queue is one late settlement."""
    design = client()
    async with gate(server.url, timeout=1) as one, gate(server.url, timeout=5) as parent:
        permit = await one.admit(design)
        server.freeze()
        with suppress(Exception):
            await one.store.ping()
        await permit.settle(used(1), "ok")
        server.thaw()
        await until(lambda: one.store.up)
        expire(server)
        await parent.limits.sweep([design])

        await one.limits.aclose()

        assert 1 == one.late_settlements
    assert ["lost"] == [record["outcome"] for record in records(server)]


async def test_lost_calls_are_taken_back_at_once_however_many(one: Gate, server: Valkey) -> None:
    """L9: hundreds of calls of a dead worker take one sweep, not one for each hundred."""
    design = client()
    await asyncio.gather(*(one.admit(design) for _ in range(350)))
    expire(server)
    async with gate(server.url, timeout=5) as parent:
        await parent.limits.sweep([design])
        assert 350 == len(parent.lost_calls)
    assert 0 == leases(server)


async def test_a_removed_clients_calls_are_swept(one: Gate, server: Valkey) -> None:
    """L9, A2: a client that is taken out of the clients file keeps its place in the sweep, also after a restart."""
    await one.admit(client())
    async with gate(server.url, timeout=5) as parent:
        await parent.limits.sweep([client(), client("other")])
    assert 0 < server.ask("PTTL", key("design", "leases"))
    expire(server)

    async with gate(server.url, timeout=5) as parent:
        assert {} == await parent.limits.sweep([client("other")])
        assert [("design", "gemini-2.5-flash", "generateContent")] == parent.lost_calls

    assert ["lost"] == [record["outcome"] for record in records(server)]
    server.ask("ZADD", "gw:clients", 1, "design")
    async with gate(server.url, timeout=5) as parent:
        await parent.limits.sweep([client("other")])
    assert ["other"] == server.ask("ZRANGE", "gw:clients", 0, -1)
