"""A store whose user may not do all that calls need: it is unavailable, the log names what is missing, and no call counts twice."""

import asyncio
import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.app import PROBES
from gateway.commands.usage import records as read_records
from gateway.limits.client_limits import CLIENTS, PROBE, key
from gateway.store import Store
from gateway.store.command import StoreUnavailable
from tests.support.gate import client, gate, leases, records, state, used
from tests.support.valkey import Valkey, valkey
from tests.support.waiting import until
from tests.unit.limits.test_leases import expire

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "operations.md").read_text()
(ALLOWED,) = re.findall(r"~gw:\* -@all ((?:[^`]|\\\n)*)", GUIDE)
NEEDED = frozenset(word.removeprefix("+") for word in ALLOWED.replace("\\\n", " ").split())
BY_LIMITS = sorted(
    "time hget hset hdel zadd zcard zscore zrange zrangebyscore zrem zremrangebyscore xadd xtrim pttl pexpire set "  # noqa: SIM905
    "eval evalsha get".split()
)
BY_CACHE = sorted("get getrange strlen unlink set pexpire eval evalsha".split())  # noqa: SIM905
SETTLING = ("xadd", "zadd", "hset", "hdel", "zrem", "hget", "evalsha", "time")


@pytest.fixture(scope="module")
def guarded() -> Iterator[Valkey]:
    """A server whose user `gw` may do exactly what the guide says."""
    with valkey() as server:
        yield server


@pytest.fixture(autouse=True)
def allow(guarded: Valkey) -> None:
    """As the guide says, and nothing stored."""
    guarded.ask("ACL", "SETUSER", "gw", "reset", "on", ">s", "~gw:*", "-@all", *(f"+{word}" for word in NEEDED))
    guarded.ask("FLUSHALL")
    guarded.ask("SCRIPT", "FLUSH")


def as_gw(server: Valkey) -> str:
    """How that user reaches it."""
    return server.url.replace("unix://", "unix://gw:s@")


def forbid(server: Valkey, command: str) -> None:
    """Forbid one command."""
    server.ask("ACL", "SETUSER", "gw", f"-{command}")


def permit_again(server: Valkey, command: str) -> None:
    """Give it again."""
    server.ask("ACL", "SETUSER", "gw", f"+{command}")


def test_the_guide_and_the_shipped_store_agree() -> None:
    """R8: the ACL of the guide is the one that the shipped stores have, and everything that a probe tries is in it."""
    shipped = (ROOT / "deploy" / "valkey" / "start.sh").read_text()
    (words,) = re.findall(r"-@all \\\n((?:\+[^\n]*\n)+)", shipped)
    assert {word.removeprefix("+") for word in words.replace("\\", " ").split()} == NEEDED | {"ping", "hmget"}
    tried = {word.lower() for probe in PROBES.values() for word in re.findall(r'try\("([A-Z]+)"', probe.script.source)}
    assert NEEDED == (tried | {"eval", "evalsha"} | {"info", "scan", "xrange"})


def test_probes_try_all_that_scripts_do() -> None:
    """R6: no script has a command that its probe does not try."""
    for role in ("limits", "cache"):
        folder = ROOT / "gateway" / role / "lua"
        lua = {file.name: file.read_text() for file in folder.glob("*.lua")}
        probe = PROBES["state" if role == "limits" else "cache"].script.source
        called = {command for text in lua.values() for command in re.findall(r'redis\.p?call\("([A-Z]+)"', text)}
        assert called and called <= set(re.findall(r'try\("([A-Z]+)"', probe)), role


async def test_everything_works_with_exactly_these_commands(guarded: Valkey) -> None:
    """R8: limits, leases, records, reports and answers need no command but those of the guide, and no other key."""
    design = client(concurrent=3, tokens_per_day=10**6, requests_per_minute=600)
    async with gate(as_gw(guarded), timeout=5) as one:
        await one.store.verify()
        permits = [await one.admit(design) for _ in range(3)]
        await one.limits.sweep([design])
        await permits[0].settle(used(7), "ok")
        expire(guarded)
        async with gate(as_gw(guarded), timeout=5) as parent:
            await parent.limits.sweep([design, client("other")])
            assert 2 == len(parent.lost_calls)
        assert 3 == len([record async for record in read_records(one.store, "design", 0)])
        assert {b"design", b"other"} == set(await one.store.command("ZRANGE", CLIENTS, 0, -1))
        assert 0 <= await one.store.fullness([key("design", "limits")])
        assert [] == one.changes
    cache = Store(as_gw(guarded), probe=PROBES["cache"], timeout=5)
    await cache.verify()
    await cache.aclose()
    await until(lambda: not [name for name in guarded.ask("KEYS", "*") if "probe" in name])  # it leaves nothing behind


@pytest.mark.parametrize("denied", BY_LIMITS)
async def test_a_missing_permission_is_named(guarded: Valkey, denied: str) -> None:
    """R6: each forbidden command alone makes the state store unavailable, by its name, until it is allowed again."""
    forbid(guarded, denied)
    outages: list[tuple[bool, str]] = []
    store = Store(as_gw(guarded), probe=PROBE, timeout=2, on_change=lambda up, why: outages.append((up, why)))
    with pytest.raises(StoreUnavailable, match=f"may not run .*{denied.upper()}"):
        await store.verify()
    assert denied.upper() in store.why
    permit_again(guarded, denied)
    await until(lambda: store.up)
    await store.aclose()
    assert [False, True] == [up for up, _ in outages]


@pytest.mark.parametrize("denied", BY_CACHE)
async def test_a_missing_permission_for_answers_is_named(guarded: Valkey, denied: str) -> None:
    """R6: the same of the cache's store, which needs less."""
    forbid(guarded, denied)
    store = Store(as_gw(guarded), probe=PROBES["cache"], full_is_unavailable=False, timeout=2)
    with pytest.raises(StoreUnavailable, match=f"may not run .*{denied.upper()}"):
        await store.verify()
    await store.aclose()


@pytest.mark.parametrize("pattern", ["~gw:{d*", "~other:*", "%R~gw:*"])
async def test_missing_keys_are_named(guarded: Valkey, pattern: str) -> None:
    """R6: so are keys that the user may not use, or may only read."""
    guarded.ask("ACL", "SETUSER", "gw", "resetkeys", pattern)
    store = Store(as_gw(guarded), probe=PROBE, timeout=2)
    with pytest.raises(StoreUnavailable, match="may not"):
        await store.verify()
    await store.aclose()


@pytest.mark.parametrize("denied", SETTLING)
async def test_no_call_counts_twice_and_no_place_is_lost(guarded: Valkey, denied: str) -> None:
    """A2 A7: a command is forbidden while calls are in flight; their settlements wait, the client goes on, all count once."""
    design = client(concurrent=4, tokens_per_day=10**6)
    async with (
        gate(as_gw(guarded), lease_seconds=1, timeout=2) as one,
        gate(as_gw(guarded), lease_seconds=1, timeout=2, worker="parent") as parent,
    ):
        running = asyncio.create_task(one.limits.run())
        before = [await one.admit(design) for _ in range(3)]
        forbid(guarded, denied)
        await asyncio.gather(*(permit.settle(used(7), "ok") for permit in before))
        await until(lambda: not one.store.up)
        meanwhile = []
        for _ in range(4):  # one after another, as a client does that has so few places
            meanwhile.append(await one.admit(design))
            await meanwhile[-1].settle(used(7), "ok")
        for _ in range(8):
            await parent.limits.sweep([design])
            await asyncio.sleep(0.2)  # past the end of every lease
        permit_again(guarded, denied)
        await until(lambda: one.store.up and parent.store.up)
        await until(lambda: len(records(guarded)) == 7)
        await parent.limits.sweep([design])
        await (await one.admit(design)).settle(used(7), "ok")
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        assert [] == parent.lost_calls == one.lost_calls
        assert 0 == one.dropped_records == one.late_settlements
        assert [False, True] == one.changes
    assert {permit.id for permit in before + meanwhile} < {record["call"] for record in records(guarded)}
    assert ["ok"] * 8 == [record["outcome"] for record in records(guarded)]
    assert 56 == state(guarded)["tokens_day"]
    assert 0 == leases(guarded)


@pytest.mark.parametrize("denied", ["zrem", "hdel", "xadd", "zadd", "hset"])
async def test_calls_of_a_dead_worker_are_lost_once(guarded: Valkey, denied: str) -> None:
    """A2 L9: where a sweep is refused half way nothing is recorded twice, and the places come back afterwards."""
    design = client(concurrent=3)
    async with gate(as_gw(guarded), timeout=2) as dead:
        calls = [await dead.admit(design) for _ in range(3)]
    expire(guarded)
    async with gate(as_gw(guarded), timeout=2) as parent:
        forbid(guarded, denied)
        for _ in range(3):
            await parent.limits.sweep([design])
        permit_again(guarded, denied)
        async with asyncio.timeout(20):
            while not parent.lost_calls:  # whatever the store still thinks of what was refused
                await until(lambda: parent.store.up)
                expire(guarded)
                await parent.limits.sweep([design])
        assert 3 == len(parent.lost_calls)
    assert sorted((permit.id, "lost") for permit in calls) == sorted(
        (record["call"], record["outcome"]) for record in records(guarded)
    )
    assert 0 == leases(guarded)


async def test_what_was_recorded_is_not_recorded_again(guarded: Valkey) -> None:
    """A2: a settlement of which only the place could not be given back is finished by whoever comes by, without a record."""
    design = client(concurrent=1, tokens_per_day=10**6)
    async with gate(as_gw(guarded), timeout=2) as one:
        permit = await one.admit(design)
        guarded.ask("ZADD", key("design", "settled"), 2**41, permit.id)  # as if it had ended there
        expire(guarded)
        async with gate(as_gw(guarded), timeout=2) as parent:
            await parent.limits.sweep([design])
            assert [] == parent.lost_calls
        await (await one.admit(design)).settle(used(1), "ok")
    assert [["ok"]] == [[record["outcome"] for record in records(guarded)]]
    assert 0 == leases(guarded)
