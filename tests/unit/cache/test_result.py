"""Which headers does a caller receive, and what is stored for whom?"""

import asyncio
import time
from typing import Any

import pytest

from gateway.cache.answer import CachedAnswer
from gateway.cache.key import name_of
from gateway.errors.tree import NotCached
from tests.support.asking import UPSTREAM, Upstream, Worker, call, client, leaving, said, stream
from tests.support.valkey import Valkey
from tests.support.waiting import until


async def test_the_headers_of_hits_and_misses(one: Worker) -> None:
    """RFC 9211: a miss that will be stored says so, a hit has its time to live and its age."""
    ask, asked = Upstream(), call(client(cache_ttl_seconds=3600))
    assert {"cache-status": "tokenhot-gateway; fwd=miss; stored"} == (await one.answer_of(asked, ask))[1]
    await one.at_rest()
    kept = CachedAnswer(content_type="application/json", chunks=(b"{}",), tokens=9, created=time.time() - 60.5)
    await one.cache_store.put(await name_of(asked, UPSTREAM), kept, 3600)
    assert {"cache-status": "tokenhot-gateway; hit; ttl=3540", "age": "60"} == (await one.answer_of(asked, ask))[1]
    with leaving(await one.open(asked, ask)) as found:
        assert found.hit is not None
        await found.done()  # at once: it owes nothing
        assert (9, 2) == (found.hit.tokens, found.hit.size)


@pytest.mark.parametrize(
    ("asked", "ask", "status"),
    [
        (call(), {"storable": False}, "fwd=miss"),
        (stream(), {}, "fwd=miss"),
        (call(cache_control="no-cache"), {}, "fwd=request"),
    ],
    ids=["not to be kept", "stream", "no-cache"],
)
async def test_the_header_of_other_misses(asked: Any, ask: dict[str, Any], status: str, one: Worker) -> None:
    """RFC 9211, to the letter of the interface."""
    assert {"cache-status": f"tokenhot-gateway; {status}"} == (await one.answer_of(asked, Upstream(**ask)))[1]


@pytest.mark.parametrize(
    "asked",
    [
        call(client(cache="off")),
        call(cache_control="no-store"),
        call(method="countTokens"),
        call(method="embedContent"),
    ],
    ids=["off", "no-store", "countTokens", "embedContent"],
)
async def test_what_never_reads_the_cache(asked: Any, one: Worker, state: Valkey) -> None:
    """C10: off unless configured, and only for what generates; the store is not even asked."""
    with leaving(await one.open(asked, Upstream())) as found:
        assert ("bypass", None) == (found.result, found.flight)
        assert [(b"cache-status", b"tokenhot-gateway; fwd=bypass")] == found.headers()
    assert [] == state.ask("KEYS", "*")


async def test_followers_see_that_they_followed(one: Worker) -> None:
    """RFC 9211: `collapsed` says that another's upstream call brought the answer."""
    ask = Upstream()
    ask.open.clear()
    leader, follower = (asyncio.create_task(one.answer_of(call(), ask)) for _ in range(2))
    await until(lambda: ask.asked)
    ask.open.set()
    assert "tokenhot-gateway; fwd=miss; collapsed" == (await follower)[1]["cache-status"]
    assert "tokenhot-gateway; fwd=miss; stored" == (await leader)[1]["cache-status"]


async def test_answers_are_private_unless_both_share(one: Worker, other: Worker) -> None:
    """C1: the same body of two clients is two answers, and one where both chose to share."""
    ask = Upstream()
    for name, cache in [("a", "private"), ("b", "private"), ("c", "shared")]:
        await one.get(call(client(name, cache=cache)), ask)
    await one.at_rest()
    got = {
        name: await other.get(call(client(name, cache=cache)), ask)
        for name, cache in [("a", "private"), ("b", "private"), ("d", "shared")]
    }
    assert {
        "a": ("hit", said(call(client("a")), 1)),
        "b": ("hit", said(call(client("b")), 2)),
        "d": ("hit", said(call(client("c")), 3)),
    } == got


async def test_the_ttl_is_that_of_the_answer(one: Worker) -> None:
    """RFC 9211: a shared answer that another client stored for less has that shorter time to live for every caller."""
    ask, brief = Upstream(), call(client("a", cache="shared", cache_ttl_seconds=5))
    await one.get(brief, ask)
    await one.at_rest()
    long = call(client("b", cache="shared", cache_ttl_seconds=3600))
    assert "tokenhot-gateway; hit; ttl=5" == (await one.answer_of(long, ask))[1]["cache-status"]


async def test_only_if_cached_may_ask_for_a_young_one(one: Worker) -> None:
    """C9: a cached answer older than the caller's max-age is not used, and the upstream is not asked."""
    ask = Upstream()
    old = CachedAnswer(content_type="application/json", chunks=(b"old",), tokens=1, created=time.time() - 100)
    await one.cache_store.put(await name_of(call(), UPSTREAM), old, 3600)
    with pytest.raises(NotCached):
        await one.get(call(cache_control="only-if-cached, max-age=50"), ask)
    assert ("hit", b"old") == await one.get(call(cache_control="only-if-cached, max-age=200"), ask)
    assert [] == ask.asked


async def test_max_age_asks_for_a_younger_answer_and_keeps_it(one: Worker, other: Worker) -> None:
    """C9: an answer too old for one caller is fetched anew, once, and stays good for others until then."""
    ask = Upstream()
    old = CachedAnswer(content_type="application/json", chunks=(b"old",), tokens=1, created=time.time() - 100)
    await one.cache_store.put(await name_of(call(), UPSTREAM), old, 3600)
    assert ("hit", b"old") == await one.get(call(cache_control="max-age=200"), ask)

    ask.open.clear()
    strict = [asyncio.create_task(each.get(call(cache_control="max-age=50"), ask)) for each in (one, other, one)]
    await until(lambda: ask.asked)
    assert ("hit", b"old") == await other.get(call(), ask)
    ask.open.set()
    assert [said(call(), 1)] * 3 == [body for _, body in await asyncio.gather(*strict)]
    await one.at_rest()
    assert ("hit", said(call(), 1)) == await other.get(call(), ask)
    assert 1 == len(ask.asked)


async def test_no_cache_replaces_what_is_stored(one: Worker) -> None:
    """C9: the fresh answer is the one that others get from then on."""
    ask = Upstream()
    await one.get(call(), ask)
    await one.at_rest()
    assert ("miss", said(call(), 2)) == await one.get(call(cache_control="no-cache"), ask)
    await one.at_rest()
    assert ("hit", said(call(), 2)) == await one.get(call(), ask)
    assert {("design", "stored"): 2} == one.counted


async def test_no_store_leaves_no_trace(one: Worker, state: Valkey) -> None:
    """C9: neither read nor written; nothing of the call reaches the store."""
    ask = Upstream()
    await one.get(call(), ask)
    await one.at_rest()
    before = state.ask("KEYS", "*")
    with leaving(await one.open(call(cache_control="no-store"), ask)) as found:
        assert found.flight is None
    assert before == state.ask("KEYS", "*")
