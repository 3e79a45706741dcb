"""What is in the store, for how long, and what if a value there is wrong?"""

import asyncio
import os
import time
from typing import Any

import pytest
import uvloop
from redis import Redis

from gateway.cache.answer import CachedAnswer
from gateway.cache.cache_store import DELETE_IF_SAME
from gateway.cache.key import name_of
from gateway.call import Call
from tests.support.asking import UPSTREAM, Seen, Upstream, Worker, asking, call, client, leaving, said, stream, worker
from tests.support.valkey import Valkey, cluster
from tests.support.waiting import stalls, until

NAME = "gw:cache:client:design:{00}"
MEBIBYTE = 1024 * 1024


def kept(body: bytes = b"{}", *, age: float = 0) -> CachedAnswer:
    """An answer made so many seconds ago."""
    return CachedAnswer(content_type="application/json", chunks=(body,), tokens=1, created=time.time() - age)


@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_damaged_value_is_one_miss_over_all_workers(
    size: int, one: Worker, other: Worker, state: Valkey
) -> None:
    """R7 C7: of all who find it in one moment one asks anew, and the others get that answer."""
    ask, name = Upstream(), await name_of(call(), UPSTREAM)
    await one.cache_store.put(name, kept(bytes(size)), 60)
    state.ask("SETRANGE", name, state.ask("STRLEN", name) - 1, "?")
    ask.open.clear()
    tasks = [asyncio.create_task(each.get(call(), ask)) for each in (one, other) * 10]
    await one.waits(10)
    await other.waits(10)
    await until(lambda: ask.asked)
    ask.open.set()
    assert {said(call(), 1)} == {body for _, body in await asyncio.gather(*tasks)}
    assert 1 == len(ask.asked)


async def test_only_what_is_damaged_is_forgotten(one: Worker, state: Valkey) -> None:
    """R7: an answer that has taken the place of a damaged one meanwhile stays."""
    await one.cache_store.put(NAME, kept(b"good"), 60)
    length = state.ask("STRLEN", NAME)
    for front, size in ((b"0" * 49, length), (b"", length + 1)):
        assert 0 == await one.store.script(DELETE_IF_SAME, (NAME,), (front, size))
    assert await one.cache_store.find(NAME, 0) is not None


@pytest.mark.parametrize("damage", ["flip", "cut", "swap", "junk"])
async def test_a_damaged_value_is_a_miss_and_is_replaced(damage: str, one: Worker, state: Valkey) -> None:
    """R7: what fails its check is never served; the next answer takes its place."""
    ask, mine, theirs = Upstream(), call(body=b"1"), call(client("facts"), body=b"1")
    for each in (mine, theirs):
        await one.get(each, ask)
    await one.at_rest()
    name, foreign = await name_of(mine, UPSTREAM), await name_of(theirs, UPSTREAM)
    with Redis.from_url(state.url) as raw:
        value = raw.get(name)
        raw.set(name, {"flip": value[:-1] + b"?", "cut": value[:-1], "swap": raw.get(foreign), "junk": b"1"}[damage])

    assert ("miss", said(mine, 3)) == await one.get(mine, ask)
    await one.at_rest()
    assert ("hit", said(mine, 3)) == await one.get(mine, ask)


async def test_answers_end_with_their_clients_ttl(one: Worker, state: Valkey) -> None:
    """C9: the store forgets an answer after the client's ttl, and a ttl made shorter since counts at once."""
    ask, asked = Upstream(), call(client(cache_ttl_seconds=100))
    await one.get(asked, ask)
    await one.at_rest()
    assert 99_000 < state.ask("PTTL", await name_of(asked, UPSTREAM)) <= 100_000

    await one.cache_store.put(await name_of(asked, UPSTREAM), kept(age=50), 100)
    assert "hit" == (await one.get(asked, ask))[0]
    assert "miss" == (await one.get(call(client(cache_ttl_seconds=49)), ask))[0]


async def test_what_is_too_large_is_passed_on_and_not_stored(state: Valkey) -> None:
    """C5: an answer above the cap is refused by the cache and reaches its caller whole."""
    async with worker(state.url, value_bytes=10) as one:
        assert ("miss", said(call(), 1)) == await one.get(call(), Upstream())
        await one.at_rest()
        assert {("design", "refused"): 1} == one.counted
        assert [] == state.ask("KEYS", "*")


async def test_what_is_being_stored_at_the_end_is_stored(one: Worker, state: Valkey) -> None:
    """X1: a worker that ends right after an answer keeps it: it has been paid for."""

    class Large(Upstream):
        async def __call__(self, one: Call, _: Any, flight: Any) -> Any:
            await flight.whole(200, "application/json", bytes(2 * MEBIBYTE))
            return Seen(storable=True)

    await one.get(call(), Large())
    assert [] == state.ask("KEYS", "gw:cache:*")
    await one.cache.aclose()
    assert 2 * MEBIBYTE < state.ask("STRLEN", await name_of(call(), UPSTREAM))


async def test_clocks_that_differ(one: Worker, state: Valkey) -> None:
    """C9: an answer of a replica whose clock is ahead is new, not older than nothing, and ends by the store's clock."""
    await one.cache_store.put(await name_of(call(), UPSTREAM), kept(age=-30), 3600)
    result, headers, _ = await one.answer_of(call(), Upstream())
    assert ("hit", "0", "tokenhot-gateway; hit; ttl=3600") == (result, headers["age"], headers["cache-status"])
    assert state.ask("PTTL", await name_of(call(), UPSTREAM)) <= 3_600_000


def test_megabytes_do_not_stall_the_loop(state: Valkey) -> None:
    """D9: keeping and finding an 8 MiB picture, and hashing as large a body, stalls the loop for at most 20 ms."""

    async def longest_stall() -> float:
        body = os.urandom(8 * MEBIBYTE)
        async with worker(state.url) as one, stalls() as seconds:
            name = await name_of(call(body=body), UPSTREAM)
            assert await one.cache_store.put(name, kept(body), 60)
            found = await one.cache_store.find(name, 0)
        assert found is not None
        assert body == bytes(found.chunks[0])
        return max(seconds)

    assert min(uvloop.run(longest_stall()) for _ in range(3)) < 0.02  # the machine may be busy for a moment


async def test_a_cluster_keeps_answer_and_claim_together() -> None:
    """On a cluster both keys of an answer live in one slot, whichever server that is on."""
    with cluster() as ports:
        async with worker(f"redis+cluster://127.0.0.1:{ports[0]}", timeout=5) as one:
            ask = Upstream()
            for number in range(20):
                asked = call(body=str(number).encode())
                await one.get(asked, ask)
                await one.at_rest()
                assert "hit" == (await one.get(asked, ask))[0]
            assert {("design", "stored"): 20} == one.counted


async def test_streams_come_back(one: Worker, other: Worker) -> None:
    """A cached stream has the bytes and the type that it had."""
    ask, asked = Upstream(pieces=5), stream()
    await one.get(asked, ask)
    await one.at_rest()
    with leaving(await other.open(asking(asked), ask)) as found:
        assert found.flight is not None
        whole = b"".join([bytes(chunk) async for chunk in found.flight.play()])
        assert b"".join(said(asked, 1, piece) for piece in range(5)) == whole
        assert ("hit", "text/event-stream") == (found.result, found.flight.content_type)
