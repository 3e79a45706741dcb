"""Who may get an answer that is not there, and for how long do others wait for them?"""

import asyncio

import pytest

from gateway.cache.answer import CachedAnswer
from gateway.cache.claim import Claim
from tests.support.asking import Upstream, Worker, call, said, worker
from tests.support.valkey import Valkey
from tests.support.waiting import until
from tests.unit.cache.test_cache_store import NAME, kept


async def claimed(by: Worker) -> Claim:
    """The claim that nobody else holds."""
    claim = await by.cache_store.find_or_claim(NAME, 0)
    assert isinstance(claim, Claim)
    return claim


async def test_one_script_finds_or_claims(one: Worker, other: Worker, state: Valkey) -> None:
    """C7: of two that miss together one gets the claim; the other none, until there is an answer or no claim."""
    claim = await claimed(one)
    assert await other.cache_store.find_or_claim(NAME, 0) is None
    assert 9000 < state.ask("PTTL", claim.keys[0]) <= 10000

    await claim.release()
    assert not state.ask("EXISTS", claim.keys[0])
    await claimed(other)

    assert await one.cache_store.put(NAME, kept(), 60)
    assert isinstance(await one.cache_store.find_or_claim(NAME, 0), CachedAnswer)


async def test_a_claim_ends_with_its_lease_unless_renewed(state: Valkey) -> None:
    """C7: each renewal lasts for a lease; the claim of a dead leader is free within one."""
    async with worker(state.url, lease_seconds=0.3) as one:
        claim = await claimed(one)
        state.ask("PERSIST", claim.keys[0])
        await claim.renew()
        assert 200 < state.ask("PTTL", claim.keys[0]) <= 300
        assert await one.cache_store.find_or_claim(NAME, 0) is None
        await until(lambda: not state.ask("EXISTS", claim.keys[0]), 0.4)


async def test_a_leader_that_takes_longer_than_a_lease_is_waited_for(state: Valkey) -> None:
    """C7: its worker renews its claim, and the other worker's callers get its answer."""
    async with worker(state.url, lease_seconds=0.3) as one, worker(state.url, lease_seconds=0.3) as other:
        ask = Upstream()
        ask.open.clear()
        tasks = [asyncio.create_task(each.get(call(), ask)) for each in (one, other, one, other)]
        await one.waits(2)
        await other.waits(2)
        await until(lambda: one.replies["claim"] + other.replies["claim"] >= 5)  # renewed every third of a lease
        ask.open.set()
        assert [said(call(), 1)] * 4 == [body for _, body in await asyncio.gather(*tasks)]
        assert 1 == len(ask.asked)


async def test_nobody_touches_anothers_claim(one: Worker, state: Valkey) -> None:
    """A leader that lost its claim neither renews nor releases that of its successor, and no one waits for it."""
    claim = await claimed(one)
    state.ask("SET", claim.keys[0], "another")
    state.ask("SET", claim.keys[1], 1)
    assert not await claim.renew()
    await claim.release()
    assert ("another", -1) == (state.ask("GET", claim.keys[0]), state.ask("PTTL", claim.keys[0]))


async def test_a_lost_claim_is_taken_again(state: Valkey) -> None:
    """C7 R3: in a store that lost everything a living leader renews its claim in time; others then wait for it again."""
    async with worker(state.url, lease_seconds=0.3) as one, worker(state.url) as other:
        ask = Upstream()
        ask.open.clear()
        leader = asyncio.create_task(one.get(call(), ask))
        await until(lambda: state.ask("KEYS", "gw:claim:*"))
        state.ask("FLUSHALL")
        await until(lambda: state.ask("KEYS", "gw:claim:*"), 0.3)
        follower = asyncio.create_task(other.get(call(), ask))
        await other.hears("get_or_claim")
        ask.open.set()
        assert [said(call(), 1)] * 2 == [body for _, body in await asyncio.gather(leader, follower)]
        assert 1 == len(ask.asked)


async def test_a_claim_that_comes_too_late_is_given_back(one: Worker, state: Valkey) -> None:
    """C7: a caller who disconnects while asking leaves no claim behind that others would wait for."""
    state.freeze()
    looking = asyncio.create_task(one.cache_store.find_or_claim(NAME, 0))
    await asyncio.sleep(0.05)  # until it has been sent: a frozen store cannot say so
    looking.cancel()
    state.thaw()
    assert isinstance((await asyncio.gather(looking, return_exceptions=True))[0], asyncio.CancelledError)
    await until(lambda: not state.ask("KEYS", "gw:claim:*"))
    await one.store.ping()


@pytest.mark.parametrize("ends", ["answered", "cancelled"])
@pytest.mark.parametrize("claims", ["before", "during"])
async def test_no_claim_outlives_a_freeze_of_the_store(ends: str, claims: str, state: Valkey) -> None:
    """C7 R6: a claim granted before, or by a store that was frozen when asked, is free soon after the thaw."""
    async with worker(state.url, timeout=0.1) as one:
        ask = Upstream()
        ask.open.clear()
        await one.store.ping()
        if claims == "during":
            state.freeze()
        leader = asyncio.create_task(one.get(call(), ask))
        await until(lambda: ask.asked)
        state.freeze()
        if ends == "cancelled":
            leader.cancel()
        ask.open.set()
        await asyncio.gather(leader, return_exceptions=True)
        await until(lambda: not one.store.up)  # whatever was sent has not been replied to in time
        state.thaw()
        async with asyncio.timeout(2):
            await until(lambda: one.store.up)
            assert said(call(), 1)[:70] == (await one.get(call(), ask))[1][:70]
        await one.at_rest()
        await until(lambda: not state.ask("KEYS", "gw:claim:*"))


async def test_a_claim_that_was_never_sent_is_not_given_up(one: Worker, state: Valkey) -> None:
    """R6: while the store is unavailable no call leaves a claim to be released later."""
    state.kill()
    await one.get(call(), Upstream())
    await until(lambda: not one.store.up)
    for number in range(50):
        await one.get(call(body=str(number).encode()), Upstream())
    await until(lambda: not one.cache._background._tasks, 0.5)
    state.start()
