"""Streams that share an answer: live for the leader, whole or an error for all others."""

import asyncio

import pytest

from gateway.errors.tree import UpstreamBroke
from tests.support.asking import Upstream, Worker, leaving, said, stream
from tests.support.valkey import Valkey
from tests.support.waiting import until


async def test_the_leaders_stream_is_live_and_followers_replay_it(one: Worker, other: Worker) -> None:
    """Streams: the leader has each chunk as it comes; followers in both workers wait for the end, then replay it."""
    ask = Upstream(pieces=3)
    ask.open.clear()
    with leaving(await one.open(stream(), ask)) as leader:
        assert leader.flight is not None
        playing = leader.flight.play()
        assert said(stream(), 1, 0) == await anext(playing)
        followers = [asyncio.create_task(each.get(stream(), ask)) for each in (one, other)]
        await one.waits(2)
        await other.waits(1)
        await other.hears("get_or_claim")
        assert not any(task.done() for task in followers)
        ask.open.set()
        replayed = await asyncio.gather(*followers)
        rest = [chunk async for chunk in playing]  # a slow reader: it has ended meanwhile
    whole = b"".join([said(stream(), 1, 0), *map(bytes, rest)])
    assert [("collapsed", whole)] * 2 == replayed
    assert 3 == whole.count(b"\n")


async def test_a_stream_goes_on_for_its_followers(one: Worker) -> None:
    """C7: the leader of a stream hangs up in its middle; the follower has it whole."""
    ask = Upstream(pieces=3)
    ask.open.clear()
    leader = asyncio.create_task(one.get(stream(), ask))
    await until(lambda: ask.asked)
    follower = asyncio.create_task(one.get(stream(), ask))
    await one.waits(2)
    leader.cancel()
    await asyncio.wait([leader])
    ask.open.set()
    assert ("collapsed", b"".join(said(stream(), 1, piece) for piece in range(3))) == await follower


async def test_a_stream_that_breaks_is_an_error_after_what_came(one: Worker, state: Valkey) -> None:
    """U3, C5: a broken stream ends with its error for the leader, is only the error for others, and is not stored."""
    ask = Upstream(pieces=2, error=UpstreamBroke())
    with leaving(await one.open(stream(), ask)) as leader:
        assert leader.flight is not None
        playing = leader.flight.play()
        assert said(stream(), 1, 0) == await anext(playing)
        assert said(stream(), 1, 1) == await anext(playing)
        with pytest.raises(UpstreamBroke):
            await anext(playing)
    await until(lambda: not state.ask("KEYS", "gw:*"))
