"""How do commands reach a store?  Batches, cancelled callers, and every way to be unavailable."""

import asyncio
import random
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio.connection import Connection

from gateway.store import Store
from gateway.store.command import LARGE, Command, Opening, Part, Script, StoreUnavailable, packed
from tests.support.valkey import Valkey, valkey
from tests.support.waiting import turns, until

ECHO = Script.of("echo", "return {KEYS[1], ARGV[1]}")
MORE_REPLICAS = ("CONFIG", "SET", "min-replicas-to-write", "1")
COUNT = Script.of("count", "return redis.call('INCR', KEYS[1])")


@pytest.fixture
def server() -> Iterator[Valkey]:
    """An empty server."""
    with valkey() as one:
        yield one


class Watched(Store):
    """A store that remembers what it reported."""

    def __init__(self, url: str, **options: Any) -> None:
        self.changes: list[tuple[bool, str]] = []
        self.errors: list[tuple[str, str]] = []
        self.seen: list[str] = []
        self.probes = 0
        super().__init__(
            url,
            on_change=lambda up, why: self.changes.append((up, why)),
            on_error=lambda operation, why: self.errors.append((operation, why)),
            observe=lambda operation, _seconds: self.seen.append(operation),
            **options,
        )

    async def _try(self, key: str | None) -> None:
        try:
            await super()._try(key)
        finally:
            self.probes += 1


@asynccontextmanager
async def store(url: str, **options: Any) -> AsyncIterator[Watched]:
    """A store that is closed in the end."""
    one = Watched(url, **options)
    try:
        yield one
    finally:
        await one.aclose()


async def test_one_turn_of_the_loop_is_one_pipeline(server: Valkey) -> None:
    """What is asked in one turn shares one write to the server, and each caller gets its own reply."""
    async with store(server.url, timeout=5) as one:
        await one.ping()
        before = server.ask("INFO", "stats")["total_reads_processed"]
        replies = await asyncio.gather(*(one.script(ECHO, [f"{{k}}{n}"], [n]) for n in range(100)))
        reads = server.ask("INFO", "stats")["total_reads_processed"] - before

    assert [[f"{{k}}{n}".encode(), str(n).encode()] for n in range(100)] == replies
    assert reads <= 5  # the scripts, their texts since they were unknown, and our own question
    assert ["ping"] + ["echo"] * 100 == one.seen


async def test_what_is_slow_delays_nothing_quick(server: Valkey) -> None:
    """R2: a command that may take longer is waited for, on a connection of its own; all others are answered at once."""
    async with store(server.url) as one:
        await one.ping()
        slow = one.command("BLPOP", "nothing", 0.5, timeout=1)
        await turns()  # commands of one turn go out together; the next is to come behind it
        began = time.monotonic()
        await one.ping()
        assert time.monotonic() - began < 0.2
        assert await slow is None
        assert one.up


@pytest.mark.parametrize("connections", [1, 4])
async def test_cancelled_callers_leave_no_answer_behind(server: Valkey, connections: int) -> None:
    """R4: with half of the callers leaving at any moment, no caller ever gets the reply of another."""
    chance = random.Random(7)
    async with store(server.url, timeout=10, connections=connections) as one:

        async def caller(number: int) -> int:
            reply = await one.script(ECHO, [f"k{number}"], [number])
            assert [f"k{number}".encode(), str(number).encode()] == reply
            return 1

        right = 0
        for step in range(40):
            tasks = [asyncio.create_task(caller(100 * step + n)) for n in range(50)]
            for task in tasks:
                if chance.random() < 0.5:
                    asyncio.get_running_loop().call_later(chance.random() / 200, task.cancel)
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(end, asyncio.CancelledError) for end in ends if isinstance(end, BaseException))
            right += sum(end == 1 for end in ends)

    assert 500 < right
    assert [] == one.changes


async def test_a_large_value_goes_and_comes_whole(server: Valkey) -> None:
    """Pictures pass unchanged, beside small commands of the same turn."""
    picture = random.Random(1).randbytes(3_000_000)
    async with store(server.url, timeout=10, connections=2) as one:
        await asyncio.gather(one.command("SET", "p", picture), one.command("SET", "q", "ü", "PX", 60_000))
        replies = await asyncio.gather(one.command("GET", "p"), one.command("GET", "q"))
    assert [picture, "ü".encode()] == list(replies)


PARTS = st.lists(
    st.integers() | st.text(max_size=20) | st.binary(max_size=20) | st.just(b"x" * (LARGE + 1)), max_size=5
)


@given(st.lists(st.tuples(PARTS, PARTS), max_size=4))
def test_packing_is_what_redis_py_would_send(commands: list[tuple[list[Part], list[Part]]]) -> None:
    """Our packing, partly done beforehand, and the client library's are the same bytes."""
    loop = asyncio.new_event_loop()
    ours = [
        Command("get", "", Opening.of("GET", *known), rest, None, 0, 1, loop.create_future())
        for known, rest in commands
    ]
    loop.close()
    theirs = Connection().pack_commands([["GET", *known, *rest] for known, rest in commands])
    assert b"".join(theirs) == b"".join(packed(ours))


async def test_scripts_are_known_again_after_a_restart() -> None:
    """R3: NOSCRIPT is repeated with the text, and the script has run exactly once."""
    with valkey(appendonly="yes", appendfsync="always") as server:
        async with store(server.url, timeout=5) as one:
            assert [1, 2, 3] == await asyncio.gather(*(one.script(COUNT, ["n"], []) for _ in range(3)))
            server.ask("SCRIPT", "FLUSH")
            assert [4, 5] == await asyncio.gather(*(one.script(COUNT, ["n"], []) for _ in range(2)))
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.start)
            assert 6 == await one.script(COUNT, ["n"], [])
            assert [] == one.changes  # the dead connection was noticed before anything was sent on it


async def test_a_frozen_store_costs_the_first_callers_250_ms(server: Valkey) -> None:
    """R2, R5, R10: whoever asks first waits, later ones do not; one change down, one up."""
    async with store(server.url) as one:
        await one.ping()
        server.freeze()
        began = time.monotonic()
        first = await asyncio.gather(*(one.command("GET", "k") for _ in range(400)), return_exceptions=True)
        waited = time.monotonic() - began
        later = await asyncio.gather(*(one.command("GET", "k") for _ in range(400)), return_exceptions=True)
        then = time.monotonic() - began - waited
        server.thaw()
        await until(lambda: one.up, 2)
        assert None is await one.command("GET", "k")

    assert [StoreUnavailable] * 800 == [type(end) for end in (*first, *later)]
    assert isinstance(first[0], StoreUnavailable)
    assert first[0].sent
    assert not any(end.sent for end in later if isinstance(end, StoreUnavailable))
    assert 0.2 < waited < 2
    assert then < 0.2
    assert [(False, "no reply in time"), (True, "")] == one.changes


async def test_a_store_that_was_never_there_is_found_when_it_comes() -> None:
    """R1: refused at start, found within a second of its coming; nothing but two changes is reported."""
    with valkey() as server:
        server.kill()
        async with store(server.url) as one:
            with pytest.raises(StoreUnavailable):
                await one.ping()
            server.start()
            await until(lambda: one.up, 2)
            await one.ping()
        assert [False, True] == [up for up, _ in one.changes]


@pytest.mark.parametrize(
    ("break_it", "mend", "code"),
    [
        (("SETRANGE", "ballast", 8_000_000, "x"), ("DEL", "ballast"), "full (OOM)"),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "read only, as a replica is (READONLY)"),
        (
            ("CONFIG", "SET", "min-replicas-to-write", "1"),
            ("CONFIG", "SET", "min-replicas-to-write", "0"),
            "NOREPLICAS",
        ),
        (("ACL", "SETUSER", "default", "-set"), ("ACL", "SETUSER", "default", "+set"), "may not run"),
        (("ACL", "SETUSER", "default", "-evalsha"), ("ACL", "SETUSER", "default", "+evalsha"), "may not run EVALSHA"),
        (("ACL", "SETUSER", "default", "-eval"), ("ACL", "SETUSER", "default", "+eval"), "may not run EVAL"),
    ],
    ids=["full", "read-only", "no-replicas", "forbidden", "no-scripts", "no-new-scripts"],
)
async def test_a_store_that_takes_no_writes_is_unavailable(break_it: Any, mend: Any, code: str) -> None:
    """R6: full, read-only and the like answer pings and reads, and are unavailable until a script may write."""
    with valkey(maxmemory="6mb") as server:
        async with store(server.url, probe_seconds=0.02) as one:
            await one.ping()
            server.ask(*break_it)
            with pytest.raises(StoreUnavailable):
                await asyncio.gather(one.command("SET", "k", "v"), one.script(COUNT, ["n"], []))
            await until(lambda: one.probes >= 3)
            assert not one.up
            server.ask(*mend)
            await until(lambda: one.up, 2)
            await one.script(COUNT, ["n"], [])
        assert [False, True] == [up for up, _ in one.changes]
        assert code in one.changes[0][1]


async def test_an_endless_script_is_no_endless_wait(server: Valkey) -> None:
    """R6: BUSY is unavailable like all others."""
    server.ask("CONFIG", "SET", "busy-reply-threshold", "10")
    async with store(server.url) as one, store(server.url) as other:
        with pytest.raises(StoreUnavailable):
            await one.script(Script.of("endless", "while true do end"), ["k"], [])
        with pytest.raises(StoreUnavailable) as busy:
            await other.ping()
        assert "(BUSY)" in str(busy.value)
        server.ask("SCRIPT", "KILL")
        await until(lambda: one.up and other.up, 2)


async def test_a_full_cache_is_still_a_cache() -> None:
    """R6: where a full store is of use, a refused write is an error of that write alone, reported once."""
    with valkey(maxmemory="6mb") as server:
        async with store(server.url, full_is_unavailable=False) as one:
            server.ask("SETRANGE", "ballast", 7_999_999, "x")
            for _ in range(3):
                with pytest.raises(StoreUnavailable):
                    await one.command("SET", "k", "v")
            assert 8_000_000 == await one.command("STRLEN", "ballast")
            await until(lambda: one.errors)
        assert [] == one.changes
        assert ["set"] == [operation for operation, _ in one.errors]


async def test_a_mistake_in_a_script_does_not_make_the_store_unavailable(server: Valkey) -> None:
    """R9: a bug fails its own command, which may have done half of its work; it is reported, and all others go on."""
    async with store(server.url) as one:
        wrong, right = one.script(Script.of("wrong", "return nothing.at.all"), ["k"], []), one.command("SET", "k", "v")
        with pytest.raises(StoreUnavailable) as failed:
            await wrong
        assert failed.value.sent
        assert b"OK" == await right
        await until(lambda: one.errors)
        assert [] == one.changes
        assert [("wrong", str(failed.value))] == one.errors


async def test_nothing_is_left_when_a_store_is_closed(server: Valkey) -> None:
    """R5: what was in flight fails, no task and no connection remains."""
    before = asyncio.all_tasks()
    one = Watched(server.url)
    await one.ping()
    server.freeze()
    waiting = [asyncio.ensure_future(one.command("GET", "k")) for _ in range(5)]
    await asyncio.sleep(0.01)  # until they have been sent: a frozen store cannot say so
    waiting += [asyncio.ensure_future(one.command("GET", "k")) for _ in range(5)]
    await one.aclose()
    server.thaw()

    ends = await asyncio.gather(*waiting, return_exceptions=True)

    assert [StoreUnavailable] * 10 == [type(end) for end in ends]
    assert before == asyncio.all_tasks()
    assert [] == one.changes
    await until(lambda: server.ask("INFO", "clients")["connected_clients"] == 1)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no Redis here")
async def test_redis_itself_will_do() -> None:
    """The same commands and scripts run on Redis 7."""
    with valkey(shutil.which("redis-server") or "") as server:
        async with store(server.url, timeout=5) as one:
            assert [b"k", b"7"] == await one.script(ECHO, ["k"], [7])
