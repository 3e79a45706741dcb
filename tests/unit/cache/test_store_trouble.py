"""What if the store is full, unavailable, or behind a slow link?  Calls go on, and what can be stored is."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from gateway.cache.answer import CachedAnswer
from tests.support.asking import Upstream, Worker, call, said, worker
from tests.support.valkey import Valkey, valkey
from tests.support.waiting import until

MEBIBYTE = 1024 * 1024


def kept(body: bytes) -> CachedAnswer:
    """An answer."""
    return CachedAnswer(content_type="application/json", chunks=(body,), tokens=1, created=time.time())


async def test_a_full_store_still_gives_and_takes_nothing() -> None:
    """R6: with noeviction and no memory left, hits stay hits, misses go on, and nobody sees an error."""
    with valkey(maxmemory="8mb", maxmemory_policy="noeviction") as full:
        async with worker(full.url) as one:
            ask = Upstream()
            await one.get(call(), ask)
            await one.at_rest()
            full.ask("CONFIG", "SET", "maxmemory", "1")
            assert ("hit", said(call(), 1)) == await one.get(call(), ask)
            assert ("miss", said(call(body=b"new"), 2)) == await one.get(call(body=b"new"), ask)
            await one.at_rest()
            assert {("design", "stored"): 1, ("design", "refused"): 1} == one.counted
            assert one.store.up


async def test_old_answers_make_room() -> None:
    """A cache with LRU that is full forgets its oldest and takes the newest."""
    with valkey(maxmemory="8mb", maxmemory_policy="allkeys-lru") as small:
        async with worker(small.url) as one:
            for number in range(20):
                assert await one.cache_store.put(f"gw:cache:client:a:{{{number}}}", kept(b"x" * MEBIBYTE), 60)
            assert await one.cache_store.find("gw:cache:client:a:{19}", 0) is not None
            assert await one.cache_store.find("gw:cache:client:a:{0}", 0) is None


@pytest.mark.parametrize("fault", ["dead", "frozen"])
async def test_a_store_that_is_unavailable_changes_no_answer(fault: str) -> None:
    """R6: the first calls wait for the store's patience, later ones not at all; every answer is the upstream's."""
    with valkey() as server:
        async with worker(server.url, timeout=0.2) as one:
            ask = Upstream()
            await one.get(call(), ask)
            await one.at_rest()
            getattr(server, {"dead": "kill", "frozen": "freeze"}[fault])()
            began = time.monotonic()
            assert ("miss", said(call(), 2)) == await one.get(call(), ask)
            assert time.monotonic() - began < 0.4
            began = time.monotonic()
            for number in range(3, 103):
                assert ("miss", said(call(), number)) == await one.get(call(), ask)
            assert time.monotonic() - began < 1  # a hundred times the store's patience would be 20
            assert "miss" == (await one.get(call(cache_control="no-cache"), ask))[0]
            headers = (await one.answer_of(call(), ask))[1]
            assert {"cache-status": "tokenhot-gateway; fwd=miss"} == headers, "it is not marked as stored"
            getattr(server, {"dead": "start", "frozen": "thaw"}[fault])()
            await until(lambda: one.store.up)
            await one.get(call(body=b"again"), ask)
            await one.at_rest()
            assert "hit" == (await one.get(call(body=b"again"), ask))[0]


@contextlib.asynccontextmanager
async def thin_link(store: Valkey, bytes_per_second: float) -> AsyncIterator[str]:
    """A way to the store over which all connections together get so many bytes; the value is its URL."""
    loop, free, open_ones = asyncio.get_running_loop(), [0.0], set[asyncio.Task[None]]()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(16384):
                free[0] = max(free[0], loop.time()) + len(data) / bytes_per_second
                await asyncio.sleep(free[0] - loop.time())  # slow on purpose: a thin link
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs = await asyncio.open_unix_connection(store.socket)
        for way in ((reader, theirs[1]), (theirs[0], writer)):
            task = asyncio.create_task(pass_on(*way))
            open_ones.add(task)
            task.add_done_callback(open_ones.discard)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await until(lambda: not open_ones)


async def test_many_pictures_at_once_do_not_make_the_store_unavailable(one: Worker, state: Valkey) -> None:
    """R6: hits and stores that together take longer than the store's patience wait for each other, and all succeed."""
    names = [f"gw:cache:client:a:{{{number}}}" for number in range(24)]
    for name in names[::2]:
        await one.cache_store.put(name, kept(bytes(MEBIBYTE)), 60)
    async with thin_link(state, 10 * MEBIBYTE) as url, worker(url, timeout=1, value_seconds=1) as far:
        began = time.monotonic()
        found = asyncio.gather(*(far.cache_store.find(name, 0) for name in names[::2]))
        stored = asyncio.gather(*(far.cache_store.put(name, kept(bytes(MEBIBYTE)), 60) for name in names[1::2]))
        assert [MEBIBYTE] * 12 == [each.size for each in await found if each]
        assert all(await stored)
        assert far.store.up
        assert time.monotonic() - began > 1


async def test_a_large_answer_may_take_longer_than_a_get_or_claim(one: Worker, state: Valkey) -> None:
    """R2 R6: what takes longer than the store's timeout to travel is stored and found, and the store stays available."""
    name, large = "gw:cache:client:a:{1}", kept(bytes(6 * MEBIBYTE))
    async with thin_link(state, 12 * MEBIBYTE) as url, worker(url, timeout=0.25, value_seconds=5) as far:
        began = time.monotonic()
        assert await far.cache_store.put(name, large, 60)
        assert await far.cache_store.find(name, 0) is not None
        assert far.store.up
        assert time.monotonic() - began > 0.8
