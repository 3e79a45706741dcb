"""The same limits on a cluster of three servers, where each client's keys live on one of them."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis
from redis.crc import key_slot

from gateway.errors.tree import RateLimited
from gateway.limits.client_limits import key
from tests.support.gate import Headers, client, gate, used
from tests.support.valkey import cluster
from tests.support.waiting import until

NAMES = [f"client-{number}" for number in range(30)]


@pytest.fixture(scope="module")
def ports() -> Iterator[list[int]]:
    """One cluster for all tests here."""
    with cluster() as three:
        yield three


@pytest.fixture
def nodes(ports: list[int]) -> Iterator[list[Any]]:
    """A plain client for each server."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(contextlib.closing(Redis(port=port, decode_responses=True))) for port in ports]


def home(nodes: list[Any], name: str) -> int:
    """Which server holds a client's keys."""
    (at,) = [at for at, node in enumerate(nodes) if key(name, "limits") in node.keys("*")]
    return at


async def test_every_client_has_its_own_server(ports: list[int], nodes: list[Any]) -> None:
    """L1: 30 clients at once, each exact, over all three servers; everything of a client is on one of them."""
    async with gate(f"redis+cluster://127.0.0.1:{ports[0]}", timeout=10) as one:
        clients = [client(name, requests_per_minute=3, tokens_per_day=10**6) for name in NAMES]
        ends = await asyncio.gather(*(one.admit(of) for of in clients for _ in range(5)), return_exceptions=True)
        permits = [end for end in ends if not isinstance(end, BaseException)]
        assert all(isinstance(end, RateLimited) for end in ends if isinstance(end, BaseException))
        await asyncio.gather(*(permit.settle(used(5), "ok") for permit in permits))
        budgets = await one.limits.sweep(clients)

    assert [3] * 30 == [sum(permit.call.client.name == name for permit in permits) for name in NAMES]
    assert {(name, "tokens_per_day"): 15 for name in NAMES} == budgets
    assert {0, 1, 2} == {home(nodes, name) for name in NAMES}
    assert [3] * 30 == [nodes[home(nodes, name)].xlen(key(name, "usage")) for name in NAMES]


async def test_a_slot_that_moves_is_followed(ports: list[int], nodes: list[Any]) -> None:
    """MOVED and ASK are repeated, because nothing ran; while a slot is half moved, only its clients are cut off."""
    mover, slot = client("mover", requests_per_minute=100), key_slot(key("mover", "limits").encode())
    async with gate(f"redis+cluster://127.0.0.1:{ports[0]}", timeout=10) as one:
        await one.admit(mover)
        source = home(nodes, "mover")
        target = (source + 1) % 3
        ids = [node.execute_command("CLUSTER", "MYID") for node in nodes]
        nodes[target].execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        nodes[source].execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        keys = nodes[source].execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10)
        nodes[source].execute_command("MIGRATE", "127.0.0.1", ports[target], "", 0, 5000, "KEYS", *keys)
        assert await one.store.command("HGET", key("mover", "limits"), "state")  # ASK
        assert None is not (await one.admit(mover)).reservation  # TRYAGAIN: a script finds all keys or none
        for at in (target, source, 3 - source - target):
            nodes[at].execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
        headers: Headers = []
        permit = await one.admit(mover, headers)  # MOVED
        await permit.settle(used(1), "ok")

        assert None is permit.reservation
        assert [] == one.changes
    assert 1 == nodes[target].zcard(key("mover", "leases"))
    assert dict(headers)[b"ratelimit"].startswith(b'"requests";r=98;')


async def test_a_silent_server_of_a_cluster_is_a_lost_store(ports: list[int], nodes: list[Any]) -> None:
    """R2: when a client's server does not answer, workers admit their share, and find it again."""
    some = client(NAMES[0], tokens_per_day=10**7)
    async with gate(f"redis+cluster://127.0.0.1:{ports[0]}") as one:
        assert None is (await one.admit(some)).reservation
        nodes[home(nodes, NAMES[0])].execute_command("CLIENT", "PAUSE", 600, "ALL")

        assert None is not (await one.admit(some)).reservation
        await until(lambda: one.store.up, 10)
        assert None is (await one.admit(some)).reservation
        assert [False, True] == one.changes
