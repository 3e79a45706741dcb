"""How does one answer reach all who asked, without any of them stalling the others?"""

import asyncio
import sys
import time
from collections import Counter

from gateway.cache import SingleFlight
from gateway.cache.answer import CachedAnswer
from gateway.cache.single_flight import CHUNK_BYTES, joined
from gateway.memory.budget import MemoryBudget
from tests.support.caching import kept
from tests.support.gateway import STREAM, TEXT, Gateway
from tests.support.valkey import Valkey
from tests.support.waiting import stalls, turns

ASK = """
import sys, urllib.request
headers = {"x-goog-api-key": sys.argv[2], "content-type": "application/json"}
request = urllib.request.Request(sys.argv[1], sys.argv[3].encode(), headers)
print(len(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request).read()))
"""


async def test_followers_go_on_one_after_the_other() -> None:
    """D9: of hundreds who wait for one end no two go on in the same turn of the loop, which would be a stall."""
    flight, turn, went_on = SingleFlight(MemoryBudget(2**20).lease()), 0, Counter[int]()
    flight.join()

    async def follow() -> None:
        assert await flight.wait_for_leader()
        went_on[turn] += 1

    followers = [asyncio.create_task(follow()) for _ in range(200)]
    await turns()  # in which all of them begin to wait
    await flight.whole(200, "application/json", b"{}")
    flight.finish()
    while not all(each.done() for each in followers):
        await turns()
        turn += 1
    assert (200, True) == (went_on.total(), max(went_on.values()) <= 2)


def test_small_chunks_are_joined_and_large_ones_not_copied() -> None:
    """D9: the same bytes in few pieces; what is large passes as the view that it is."""
    large = memoryview(bytes(CHUNK_BYTES + 1))
    chunks = [b"a" * 300] * 1000 + [large] + [b"b"] * 3
    pieces = list(joined(chunks))
    assert b"".join(chunks) == b"".join(pieces)
    assert 7 >= len(pieces)
    assert any(piece is large for piece in pieces)
    assert [] == list(joined([]))


async def test_a_stream_of_many_chunks_is_replayed_without_a_stall(caching: Gateway, state: Valkey) -> None:
    """D9: 10 000 cached chunks reach a caller whole, and the loop stands still for less than 20 ms meanwhile."""
    assert 200 == (await caching.http.post(STREAM, json=TEXT)).status_code
    await kept(state, 1)
    (name,) = state.ask("KEYS", "gw:cache:*")
    chunks = [b"data: %s\n\n" % (b"x" * 292)] * 10_000
    long = CachedAnswer(content_type="text/event-stream", chunks=chunks, tokens=1, created=time.time())
    assert await caching.app.parts.cache._store.put(name, long, 600)
    body = caching.http.build_request("POST", STREAM, json=TEXT).content.decode()

    async def longest_stall() -> float:
        async with stalls() as found:
            asking = await asyncio.create_subprocess_exec(
                sys.executable, "-c", ASK, caching.url + STREAM, caching.key, body, stdout=asyncio.subprocess.PIPE
            )
            stdout, _ = await asking.communicate()
        assert 3_000_000 == int(stdout)
        return max(found)

    assert min([await longest_stall() for _ in range(3)]) < 0.02  # the machine may be busy for a moment
    assert 3 == caching.metric("gateway_cache_requests_total", result="hit")
