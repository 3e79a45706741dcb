"""Failover: servers start, stop, swap roles or do not know their slots yet, and the store finds the right one."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.crc import key_slot

from gateway.store import Store
from gateway.store.command import StoreUnavailable
from tests.support.valkey import cluster, free_port, member, valkey
from tests.support.waiting import until
from tests.unit.store.test_store import store


async def test_a_server_that_still_loads_is_unavailable() -> None:
    """R3, R6: while a server loads its log it is unavailable, by its own reply, and then it recovers."""
    with valkey(appendonly="yes", appendfsync="no", key_load_delay="500") as server:
        for number in range(2500):  # it answers commands after every 1024 that it loads
            server.ask("SET", number, number)
        async with store(server.url, timeout=5) as one:
            await one.ping()
            await asyncio.to_thread(server.kill)
            starting = asyncio.create_task(asyncio.to_thread(server.start))
            await until(server.socket.exists)
            with pytest.raises(StoreUnavailable):
                await one.command("SET", "k", "v")
            assert not one.up
            await starting
            await until(lambda: one.up, 2)
            assert b"OK" == await one.command("SET", "k", "v")
        assert [False, True] == [up for up, _ in one.changes]
        assert "(LOADING)" in one.changes[0][1]


async def test_whoever_answers_at_an_address_by_now_is_asked(tmp_path: Path) -> None:
    """R6: when a primary is demoted and its address leads to another, connections to the old one are given up."""
    with valkey() as old, valkey() as new:
        address = tmp_path / "s"
        address.symlink_to(old.socket)
        async with store(f"unix://{address}") as one:
            await one.command("SET", "k", "v")
            address.unlink()
            address.symlink_to(new.socket)
            old.ask("REPLICAOF", "127.0.0.1", "1")
            with pytest.raises(StoreUnavailable):
                await one.command("SET", "k", "v")
            await until(lambda: one.up, 2)
            await one.command("SET", "k", "new")
        assert [False, True] == [up for up, _ in one.changes]
        assert "new" == new.ask("GET", "k")


@pytest.mark.parametrize("lost_before", [False, True], ids=["first", "found"])
async def test_a_cluster_without_slots_is_unavailable_until_it_has_some(tmp_path: Path, lost_before: bool) -> None:
    """R1: servers that are not a cluster yet, met by the first command or by a probe, make no caller wait; then it recovers."""
    port = free_port()
    async with store(f"redis+cluster://127.0.0.1:{port}", timeout=1, probe_seconds=0.02) as one:
        if lost_before:
            await _refused(one)
        with member(tmp_path, port) as node:
            for _ in range(2):
                await _refused(one)
                probed = one.probes
                await until(lambda probed=probed: one.probes >= probed + 2)
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            await until(lambda: one.up)
            assert b"OK" == await one.command("SET", "k", "v")
    assert [False, True] == [up for up, _ in one.changes]


async def test_a_slot_that_no_server_holds_makes_the_store_unavailable() -> None:
    """R2: whoever asks for a key that has no home fails at once, and so do those who ask beside it, until it has one."""
    with cluster() as ports:
        nodes: list[Any] = [Redis(port=port) for port in ports]
        slot = key_slot(b"lone")
        for node in nodes:
            node.execute_command("CONFIG", "SET", "cluster-require-full-coverage", "no")
            node.execute_command("CLUSTER", "DELSLOTS", slot)
        async with store(f"redis+cluster://127.0.0.1:{ports[0]}", timeout=5) as one:
            asked = [one.command("SET", key, "v") for key in ("other", "lone", "third")]
            done, _ = await asyncio.wait(asked, timeout=2)
            assert 3 == len(done)
            assert "no server has the slot" in str(asked[1].exception())
            with pytest.raises(StoreUnavailable):
                await one.fullness(["lone"])
            nodes[0].execute_command("CLUSTER", "ADDSLOTS", slot)
            await until(lambda: one.up)
            assert b"OK" == await one.command("SET", "lone", "v")
            [ends.exception() for ends in asked]
        for node in nodes:
            node.close()


async def _refused(one: Store) -> None:
    with pytest.raises(StoreUnavailable):
        async with asyncio.timeout(3):
            await one.command("SET", "k", "v")
