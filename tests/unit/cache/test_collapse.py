"""Do identical calls become one upstream call, and does every caller still get an answer of their own?"""

import asyncio
import time

import pytest

from gateway.errors.tree import NotCached, UpstreamBroke, UpstreamTimeout
from tests.support.asking import Upstream, Worker, call, client, leaving, said, worker
from tests.support.valkey import Valkey
from tests.support.waiting import turns, until

CALLERS = 200


def callers(workers: list[Worker], ask: Upstream, count: int = CALLERS) -> list[asyncio.Task[tuple[str, bytes]]]:
    """So many who ask the same at once, spread over the workers."""
    return [asyncio.create_task(workers[number % len(workers)].get(call(), ask)) for number in range(count)]


async def test_many_at_once_are_one_upstream_call_though_the_leader_leaves(one: Worker, other: Worker) -> None:
    """C7: of 200 calls over two workers, the leader hung up, 199 get the answer of exactly one upstream call."""
    ask = Upstream()
    ask.open.clear()
    leader = asyncio.create_task(one.get(call(), ask))
    await until(lambda: ask.asked)
    others = callers([other, one], ask, CALLERS - 1)
    await one.waits(CALLERS // 2)
    await other.waits(CALLERS // 2)
    await other.hears("get_or_claim", 3)  # they look again and again
    leader.cancel()
    await asyncio.wait([leader])
    ask.open.set()

    assert [("collapsed", said(call(), 1))] * (CALLERS - 1) == await asyncio.gather(*others)
    assert (1, 0) == (len(ask.asked), ask.cancelled)


async def test_a_stampede_has_one_leader(one: Worker, other: Worker) -> None:
    """C7: 200 who come in one moment, none before the others, are one upstream call; later ones hit."""
    ask = Upstream()
    ways = [way for way, _ in await asyncio.gather(*callers([one, other], ask))]
    assert (1, 1) == (len(ask.asked), ways.count("miss"))
    assert {"miss", "collapsed", "hit"} >= set(ways)
    await one.at_rest()
    await other.at_rest()
    assert ("hit", said(call(), 1)) == await other.get(call(), ask)


async def test_a_leader_that_nobody_waits_for_is_cancelled(one: Worker, state: Valkey) -> None:
    """C7: when the last caller leaves, the upstream call ends, and the next one asks anew at once."""
    ask = Upstream()
    ask.open.clear()
    tasks = callers([one], ask, 3)
    await until(lambda: ask.asked)
    for task in tasks:
        task.cancel()
        await asyncio.wait([task])
    await until(lambda: ask.cancelled)
    await until(lambda: not state.ask("KEYS", "gw:claim:*"))
    ask.open.set()
    began = time.monotonic()
    assert ("miss", said(call(), 2)) == await one.get(call(), ask)
    assert time.monotonic() - began < 0.5


async def test_a_caller_cancelled_at_once_leaves_nothing_behind(one: Worker, state: Valkey) -> None:
    """C7: whenever a lone caller leaves, within microseconds or milliseconds, the next one gets an answer at once."""
    for turn in range(30):
        asked, ask = call(body=str(turn).encode()), Upstream()
        task = asyncio.create_task(one.get(asked, ask))
        await turns(turn)  # in any of them the caller may leave
        task.cancel()
        async with asyncio.timeout(1):
            assert said(asked, len(ask.asked) or 1)[:70] == (await one.get(asked, ask))[1][:70]
    await one.at_rest()
    await until(lambda: not state.ask("KEYS", "gw:claim:*"))


async def test_nobody_joins_a_flight_that_is_being_cancelled(one: Worker) -> None:
    """C7: whoever asks while the last caller's upstream call is being cancelled starts anew instead of ending with it."""
    for later in range(8):
        asked, ask = call(body=str(later).encode()), Upstream()
        ask.open.clear()
        leader = asyncio.create_task(one.get(asked, ask))
        await until(lambda ask=ask: ask.asked)
        leader.cancel()
        await turns(later)  # in any of them the next may come
        ask.open.set()
        assert said(asked, len(ask.asked))[:70] == (await one.get(asked, ask))[1][:70]


async def test_a_worker_that_dies_frees_the_others_within_the_lease(state: Valkey) -> None:
    """C7: followers in another worker have a new leader when the lease of the dead one has ended."""
    async with worker(state.url, lease_seconds=0.4) as dead, worker(state.url, lease_seconds=0.4) as alive:
        ask, never = Upstream(), Upstream()
        never.open.clear()
        leader = asyncio.create_task(dead.get(call(), never))
        await until(lambda: never.asked)
        followers = callers([alive], ask, 20)
        await alive.waits(20)
        await alive.hears("get_or_claim")
        await dead.store.aclose()  # it can neither renew nor release any more
        began = time.monotonic()
        assert [said(call(), 1)] * 20 == [body for _, body in await asyncio.gather(*followers)]
        assert (1, True) == (len(ask.asked), time.monotonic() - began < 0.8)
        leader.cancel()


async def test_an_error_goes_to_all_followers(one: Worker) -> None:
    """C7: the leader's error reaches all callers, and nothing is stored."""
    ask = Upstream(error=UpstreamBroke())
    ask.open.clear()
    tasks = callers([one], ask, 10)
    await until(lambda: ask.asked)
    ask.open.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [UpstreamBroke] * 10 == [type(result) for result in results]
    assert (1, 0) == (len(ask.asked), len(one.counted))


async def test_what_may_not_be_stored_is_shared_in_its_worker_only(one: Worker, other: Worker, state: Valkey) -> None:
    """C5: an answer that is not storable reaches those who waited; in the other worker one follower leads."""
    ask = Upstream(storable=False)
    ask.open.clear()
    tasks = callers([one], ask, 10)
    await until(lambda: ask.asked)
    tasks += callers([other], ask, 10)
    await other.waits(10)
    await other.hears("get_or_claim")
    ask.open.set()
    bodies = [body for _, body in await asyncio.gather(*tasks)]
    assert [said(call(), 1)] * 10 + [said(call(), 2)] * 10 == bodies
    assert "miss" == (await one.get(call(), ask))[0]
    await until(lambda: not state.ask("KEYS", "gw:*"))


async def test_each_waiter_has_their_own_deadline(one: Worker) -> None:
    """The shared call runs on the gateway's deadline; a leader or a follower who waits less leaves alone."""
    ask = Upstream()
    ask.open.clear()
    impatient = [asyncio.create_task(asyncio.wait_for(one.get(call(), ask), 0.1)) for _ in range(2)]
    patient = callers([one], ask, 2)
    assert [TimeoutError] * 2 == [type(each) for each in await asyncio.gather(*impatient, return_exceptions=True)]
    assert ask.asked[0].deadline > asyncio.get_running_loop().time() + 20
    ask.open.set()
    assert [said(call(), 1)] * 2 == [body for _, body in await asyncio.gather(*patient)]


async def test_the_follower_who_polls_for_its_worker_may_leave(one: Worker, other: Worker) -> None:
    """C7: the follower who polls for another worker's answer runs out of time; the next one polls on."""
    ask = Upstream()
    ask.open.clear()
    leader = callers([one], ask, 1)
    await until(lambda: ask.asked)
    impatient = [asyncio.create_task(asyncio.wait_for(other.get(call(), ask), wait)) for wait in (0.1, 0.15)]
    patient = callers([other], ask, 3)
    assert [TimeoutError] * 2 == [type(each) for each in await asyncio.gather(*impatient, return_exceptions=True)]
    ask.open.set()
    assert [("collapsed", said(call(), 1))] * 3 == await asyncio.gather(*patient)
    assert [("miss", said(call(), 1))] == await asyncio.gather(*leader)
    assert 1 == len(ask.asked)


async def test_what_is_too_large_to_keep_is_shared_all_the_same(state: Valkey) -> None:
    """C5 C7: above the cap followers get the answer, nobody else does."""
    async with worker(state.url, value_bytes=10) as one:
        ask = Upstream()
        ask.open.clear()
        tasks = callers([one], ask, 10)
        await until(lambda: ask.asked)
        ask.open.set()
        assert {said(call(), 1)} == {body for _, body in await asyncio.gather(*tasks)}
        await one.at_rest()
        assert (1, {("design", "refused"): 1}) == (len(ask.asked), one.counted)
        assert "miss" == (await one.get(call(), ask))[0]


async def test_the_shared_call_has_the_gateways_deadline(state: Valkey) -> None:
    """U1: an upstream that never answers ends for everybody as a timeout."""
    async with worker(state.url, call_seconds=0.1) as one:
        ask = Upstream()
        ask.open.clear()
        results = await asyncio.gather(*callers([one], ask, 3), return_exceptions=True)
        assert [UpstreamTimeout] * 3 == [type(result) for result in results]


async def test_a_leader_who_leaves_can_wait_for_the_bill(one: Worker) -> None:
    """A3: what the shared call costs is known to its leader also after the leader's caller has gone."""
    ask = Upstream()
    ask.open.clear()
    with leaving(await one.open(call(), ask)) as leader:
        follower = asyncio.create_task(one.get(call(), ask))
        await one.waits(2)
    landed = asyncio.create_task(leader.done())
    await one.store.ping()  # meanwhile it could end
    assert not landed.done()
    ask.open.set()
    await asyncio.gather(landed, follower)


@pytest.mark.parametrize("directives", ["no-store", "no-cache"])
async def test_calls_that_want_their_own_answer_are_not_collapsed(directives: str, one: Worker) -> None:
    """C9: who could not have been answered from the cache waits for nobody else."""
    ask = Upstream()
    ask.open.clear()
    tasks = callers([one], ask, 1)
    await until(lambda: ask.asked)
    with leaving(await one.open(call(cache_control=directives), ask)) as found:
        assert {"no-store": "bypass", "no-cache": "miss"}[directives] == found.result
        assert (directives == "no-store") == (found.flight is None)
        ask.open.set()
    await asyncio.gather(*tasks)


async def test_only_if_cached_waits_for_nobody(one: Worker) -> None:
    """C9: it is answered from the store or not at all, also while the same is being asked."""
    ask, asked = Upstream(), call(cache_control="only-if-cached")
    with pytest.raises(NotCached):
        await one.get(asked, ask)
    with pytest.raises(NotCached):
        await one.get(call(client(cache="off"), cache_control="only-if-cached"), ask)
    with pytest.raises(NotCached):
        await one.get(call(cache_control="only-if-cached, no-store"), ask)
    await one.get(call(), ask)
    await one.at_rest()
    assert ("hit", said(call(), 1)) == await one.get(asked, ask)
    assert 1 == len(ask.asked)
