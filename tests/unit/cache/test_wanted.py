"""Does a shared call go on for those who wait in another worker, and only for them?"""

import asyncio

import pytest

from gateway.call import Call
from tests.support.asking import Upstream, Worker, call, leaving, said, stream
from tests.support.valkey import Valkey
from tests.support.waiting import until


@pytest.mark.parametrize("asked", [call(), stream()], ids=["unary", "stream"])
async def test_the_leader_leaves_and_the_other_worker_waits(asked: Call, one: Worker, other: Worker) -> None:
    """C7: a leader alone in its worker hangs up; whoever waits elsewhere has the answer of the one upstream call."""
    ask = Upstream()
    ask.open.clear()
    leader = asyncio.create_task(one.get(asked, ask))
    await until(lambda: ask.asked)
    followers = [asyncio.create_task(other.get(asked, ask)) for _ in range(5)]
    await other.waits(5)
    await other.hears("get_or_claim")
    leader.cancel()
    await one.hears("claim", 4)  # twice a second it is asked whether others wait, and each time they still do
    late = asyncio.create_task(one.get(asked, ask))
    await one.waits(1)
    ask.open.set()
    assert [("collapsed", said(asked, 1))] * 6 == await asyncio.gather(*followers, late)
    assert (1, 0) == (len(ask.asked), ask.cancelled)
    await one.at_rest()
    await other.at_rest()


async def test_it_ends_when_they_leave_too(one: Worker, other: Worker, state: Valkey) -> None:
    """C7: the last who waits anywhere leaves; the upstream call is cancelled within two seconds, and nothing is left."""
    ask = Upstream()
    ask.open.clear()
    leader, follower = (asyncio.create_task(each.get(call(), ask)) for each in (one, other))
    await until(lambda: ask.asked)
    await other.hears("get_or_claim")
    leader.cancel()
    await one.hears("claim", 2)
    assert not ask.cancelled
    follower.cancel()
    await until(lambda: ask.cancelled, 2)
    await one.at_rest()
    await until(lambda: not state.ask("KEYS", "gw:*"))


async def test_who_could_not_wait_keeps_nobody(one: Worker, other: Worker, state: Valkey) -> None:
    """C7 C9: callers that wait for nobody (no-store, only-if-cached) do not count as waiting."""
    ask = Upstream()
    ask.open.clear()
    leader = asyncio.create_task(one.get(call(), ask))
    await until(lambda: ask.asked)
    with (
        leaving(await other.open(call(cache_control="no-store"), ask)),
        leaving(await other.open(call(cache_control="only-if-cached"), ask)),
    ):
        assert [] == state.ask("KEYS", "gw:wanted:*")
        leader.cancel()
        await until(lambda: ask.cancelled, 0.3)
