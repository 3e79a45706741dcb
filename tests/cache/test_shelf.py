"""What is in the store, for how long, and what if a value there is wrong?"""

import asyncio
import os
import time

import pytest
import uvloop
from redis import Redis

from gateway.cache import Flight
from gateway.cache.kept import Kept
from gateway.cache.key import name_of
from gateway.cache.shelf import Claim
from gateway.call import Call
from tests.cache.asking import Upstream, Worker, asking, call, client, said, stream, worker
from tests.support.valkey import Valkey, cluster, until

NAME = "gw:cache:client:design:{00}"
MEBIBYTE = 1024 * 1024


def kept(body: bytes = b"{}", *, age: float = 0) -> Kept:
    """An answer made so many seconds ago."""
    return Kept(content_type="application/json", chunks=(body,), tokens=1, created=time.time() - age)


async def test_one_script_finds_or_claims(one: Worker, other: Worker, state: Valkey) -> None:
    """C7: of two that miss together one gets the claim; the other none, until there is an answer or no claim."""
    claim = await one.shelf.find_or_claim(NAME, 0)
    assert isinstance(claim, Claim)
    assert await other.shelf.find_or_claim(NAME, 0) is None
    assert 9000 < state.ask("PTTL", claim.key) <= 10000

    claim.release()
    await until(lambda: not state.ask("EXISTS", claim.key))
    assert isinstance(await other.shelf.find_or_claim(NAME, 0), Claim)

    assert await one.shelf.put(NAME, kept(), 60)
    assert isinstance(await one.shelf.find_or_claim(NAME, 0), Kept)


async def test_a_claim_ends_with_its_lease_unless_renewed(state: Valkey) -> None:
    """C7: a leader that is alive keeps its claim; a dead one's is free within the lease."""
    async with worker(state.url, lease_seconds=0.3) as one:
        claim = await one.shelf.find_or_claim(NAME, 0)
        assert isinstance(claim, Claim)
        claim.keep()
        await asyncio.sleep(0.7)
        assert await one.shelf.find_or_claim(NAME, 0) is None
        assert claim._timer is not None
        claim._timer.cancel()  # as when its process dies
        await until(lambda: not state.ask("EXISTS", claim.key), 0.4)


async def test_nobody_gives_up_anothers_claim(one: Worker, state: Valkey) -> None:
    """A leader that lost its claim leaves that of its successor alone."""
    claim = await one.shelf.find_or_claim(NAME, 0)
    assert isinstance(claim, Claim)
    state.ask("SET", claim.key, "another")
    claim.release()
    await one.store.ping()
    assert "another" == state.ask("GET", claim.key)


async def test_a_claim_that_comes_too_late_is_given_back(one: Worker, state: Valkey) -> None:
    """C7: a caller who leaves while looking leaves no claim behind that others would wait for."""
    state.freeze()
    looking = asyncio.create_task(one.shelf.find_or_claim(NAME, 0))
    await asyncio.sleep(0.05)
    looking.cancel()
    state.thaw()
    assert isinstance((await asyncio.gather(looking, return_exceptions=True))[0], asyncio.CancelledError)
    await until(lambda: not state.ask("KEYS", "gw:claim:*"))
    await one.store.ping()


@pytest.mark.parametrize("damage", ["flip", "cut", "swap", "junk"])
async def test_a_damaged_value_is_a_miss_and_is_replaced(damage: str, one: Worker, state: Valkey) -> None:
    """R7: what fails its check is never served; the next answer takes its place."""
    ask, mine, theirs = Upstream(), call(body=b"1"), call(client("facts"), body=b"1")
    for each in (mine, theirs):
        await one.get(each, ask)
    await one.at_rest()
    name, foreign = await name_of(mine), await name_of(theirs)
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
    assert 99_000 < state.ask("PTTL", await name_of(asked)) <= 100_000

    await one.shelf.put(await name_of(asked), kept(age=50), 100)
    assert "hit" == (await one.get(asked, ask))[0]
    assert "miss" == (await one.get(call(client(cache_ttl_seconds=49)), ask))[0]


async def test_what_is_too_large_is_passed_on_and_not_kept(state: Valkey) -> None:
    """C5: an answer above the cap is refused by the cache and reaches its caller whole."""
    async with worker(state.url, value_bytes=10) as one:
        assert ("miss", said(call(), 1)) == await one.get(call(), Upstream())
        await one.at_rest()
        assert {("design", "refused"): 1} == one.counted
        assert [] == state.ask("KEYS", "*")


async def test_what_is_being_stored_at_the_end_is_stored(one: Worker, state: Valkey) -> None:
    """X1: a worker that ends right after an answer keeps it: it has been paid for."""

    class Large(Upstream):
        async def __call__(self, _: Call, flight: Flight) -> None:
            await flight.whole(200, "application/json", bytes(2 * MEBIBYTE))
            flight.judge(storable=True, tokens=1)

    await one.get(call(), Large())
    assert [] == state.ask("KEYS", "gw:cache:*")
    await one.cache.aclose()
    assert 2 * MEBIBYTE < state.ask("STRLEN", await name_of(call()))


async def test_clocks_that_differ(one: Worker, state: Valkey) -> None:
    """C9: an answer of a replica whose clock is ahead is new, not older than nothing, and ends by the store's clock."""
    await one.shelf.put(await name_of(call()), kept(age=-30), 100)
    result, headers, _ = await one.told(call(), Upstream())
    assert ("hit", "0", "tokenhot-gateway; hit; ttl=3600") == (result, headers["age"], headers["cache-status"])
    assert state.ask("PTTL", await name_of(call())) <= 100_000


def test_megabytes_do_not_stall_the_loop(state: Valkey) -> None:
    """D9: keeping and finding an 8 MiB picture, and hashing as large a body, stalls the loop for at most 20 ms."""

    async def longest_stall() -> float:
        body, stalls = os.urandom(8 * MEBIBYTE), [0.0]

        async def watch() -> None:
            while True:
                before = time.perf_counter()
                await asyncio.sleep(0.001)
                stalls.append(time.perf_counter() - before - 0.001)

        async with worker(state.url) as one:
            watcher = asyncio.create_task(watch())
            name = await name_of(call(body=body))
            assert await one.shelf.put(name, kept(body), 60)
            found = await one.shelf.find(name, 0)
            watcher.cancel()
        assert found is not None
        assert body == bytes(found.chunks[0])
        return max(stalls)

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


async def test_streams_come_back_in_their_chunks(one: Worker, other: Worker) -> None:
    """A kept stream has the bytes, the chunks and the type that it had."""
    ask, asked = Upstream(pieces=5), stream()
    await one.get(asked, ask)
    await one.at_rest()
    async with await other.cache.open(asking(asked), ask) as found:
        assert found.flight is not None
        assert [said(asked, 1, piece) for piece in range(5)] == [bytes(chunk) async for chunk in found.flight.play()]
        assert ("hit", "text/event-stream") == (found.result, found.flight.content_type)
