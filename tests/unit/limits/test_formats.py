"""State that another version wrote: the one before is read and reads ours, of a later one nothing is lost in silence.

`formats/1` holds the scripts of the version before formats had numbers.
"""

from pathlib import Path
from typing import Any

import pytest

from gateway.commands import check
from gateway.config.settings import Settings
from gateway.limits.client_limits import ADMIT, KEYS, RENEW_AND_REAP, SETTLE, key
from gateway.limits.limits import PACKED, UNREAD
from gateway.limits.quotas import Quotas
from gateway.store.command import Script
from tests.support.gate import Gate, client, gate, leases, records, state, used
from tests.support.gateway import UPSTREAM_KEY, clients_toml
from tests.support.valkey import Valkey
from tests.unit.limits.test_leases import expire

BEFORE = Path(__file__).parent / "formats" / "1"
DESIGN = client(requests_per_minute=60, tokens_per_minute=90_000, tokens_per_day=10**6, images_per_day=9, concurrent=9)
OLD = {
    name: Script.of(name, (BEFORE / "state.lua").read_text() + (BEFORE / f"{name}.lua").read_text())
    for name in ("admit", "settle", "visit")
}
NEW = {"admit": ADMIT, "settle": SETTLE, "visit": RENEW_AND_REAP}


def run(server: Valkey, scripts: dict[str, Script], name: str, *args: Any) -> Any:
    """One script, as either version runs it."""
    keys = [key("design", part) for part in KEYS]
    return server.raw(
        "EVAL", scripts[name].source, len(keys), *keys, PACKED((*Quotas.of(DESIGN), 10_000)), *map(_part, args)
    )


def _part(part: Any) -> Any:
    return PACKED(part) if isinstance(part, tuple) else part


def admit(server: Valkey, scripts: dict[str, Script], call: str) -> None:
    """A call begins."""
    run(server, scripts, "admit", (call, 1000, 1, "w", "m", "generateContent", "r"))


def settle(server: Valkey, scripts: dict[str, Script], call: str) -> None:
    """A call ends."""
    run(server, scripts, "settle", (call, "ok", "reported", 40, 20, 20, 0, "m", "generateContent", "r", 1))


@pytest.mark.parametrize(("first", "then"), [(OLD, NEW), (NEW, OLD), (NEW, NEW)], ids=["upgrade", "rollback", "same"])
def test_one_version_up_and_down(server: Valkey, first: dict[str, Script], then: dict[str, Script]) -> None:
    """Upgrades: calls in flight, budgets and records go over from one version to the other, and nothing is lost."""
    for call in ("a", "b", "c"):
        admit(server, first, call)
    settle(server, first, "a")
    before = state(server)
    assert (2040, 2) == (before["tokens_day"], before["images_day"])
    settle(server, then, "b")
    admit(server, then, "d")
    assert 3 * 1000 + 2 * 40 - 1000 == state(server)["tokens_day"]
    settle(server, first, "d")  # both run beside each other
    settle(server, then, "b")
    run(server, first, "visit", "c")
    run(server, then, "visit", "c")
    expire(server)
    reply = run(server, then, "visit")
    assert [[b"m", b"generateContent"]] == reply[2]
    assert [("a", "ok"), ("b", "ok"), ("d", "ok"), ("c", "lost")] == [
        (record["call"], record["outcome"]) for record in records(server)
    ]
    after = state(server)
    assert (1120, 1) == (after["tokens_day"], after["images_day"])
    assert max(after["requests_held"], after["tokens_held"]) < 1e-9
    assert 0 == leases(server)


LATER = {  # how a later version might write, as Lua that returns the state
    "version first": "return cmsgpack.pack(2, now, day, 5000, 1, {1,0,1,0}, {1,0,1,0})",
    "a map": "return cmsgpack.pack({v=2, at=now, day=day, tokens_day=5000})",
    "words for numbers": "return cmsgpack.pack(now, day, 'many', 1, {1,0,1,0}, {1,0,1,0})",
    "other buckets": "return cmsgpack.pack(now, day, 5000, 1, {level=1}, {level=1})",
    "short buckets": "return cmsgpack.pack(now, day, 5000, 1, {1}, {1, 0})",
    "another packing": "return cjson.encode({v=2, at=now})",
    "nothing": "return ''",
    "not a number": "return cmsgpack.pack(now, day, 0/0, 1, {1,0,1,0}, {1,0,1,0})",
    "cut short": "return string.sub(cmsgpack.pack(now, day, 5000, 1, {1,0,1,0}, {1,0,1,0}), 1, -3)",
}
WRITE = """local clock = redis.call('TIME')
    local now, day = clock[1] * 1000, math.floor(clock[1] / 86400)
    local state = (function() %s end)()
    redis.call('HSET', KEYS[1], 'state', state)"""


@pytest.mark.parametrize("how", LATER)
async def test_a_state_that_cannot_be_read_stops_no_call(one: Gate, server: Valkey, how: str) -> None:
    """Rollbacks: calls go on, what was there is set aside and reported by every sweep until the day after is over."""
    server.ask("EVAL", WRITE % LATER[how], 1, key("design", "limits"))
    (written,) = server.raw("HMGET", key("design", "limits"), "state")
    permit = await one.admit(DESIGN)
    await permit.settle(used(7), "ok")
    await one.limits.sweep([DESIGN])
    assert {"design": UNREAD} == one.limits.formats
    (kept,) = server.raw("HMGET", key("design", "limits"), "unread")
    assert written == kept.partition(b" ")[2]
    assert 7 == state(server)["tokens_day"]
    assert ["ok"] == [record["outcome"] for record in records(server)]

    server.raw("HSET", key("design", "limits"), "unread", b"20000 " + written)
    await one.limits.sweep([DESIGN])
    assert {} == one.limits.formats
    assert not server.ask("HEXISTS", key("design", "limits"), "unread")


async def test_what_a_later_version_adds_is_kept(one: Gate, server: Valkey) -> None:
    """Rollbacks: a later state that begins as ours does is read, its budgets hold, and what it adds stays as it is."""
    design = client(tokens_per_day=6000)
    added = "return cmsgpack.pack(now, day, 5500, 1, {1,0,1,0,'x'}, {1,0,1,0}, 2, 123456, {usd=5})"
    server.ask("EVAL", WRITE % added, 1, key("design", "limits"))
    assert 429 == (await one.refusal(design)).code
    permit = await one.admit(design, max_output_tokens=100)
    await permit.settle(used(50), "ok")
    await one.limits.sweep([design])
    assert {"design": 2} == one.limits.formats
    read = """local it = {cmsgpack.unpack(redis.call('HGET', KEYS[1], 'state'))}
        return {it[3], it[5][5], it[7], it[8], it[9].usd}"""
    assert [5550, "x", 2, 123456, 5] == server.ask("EVAL", read, 1, key("design", "limits"))


@pytest.mark.parametrize(
    "lease",
    [None, b"", b"\x00", b"{}", b"\xff" * 9, PACKED({"v": 2}), PACKED((2, 3)), PACKED(1) * 5 + PACKED(["c", "m", 0])],
)
async def test_a_lease_that_cannot_be_read_is_a_place_all_the_same(
    one: Gate, server: Valkey, lease: bytes | None
) -> None:
    """Rollbacks, L9: it holds its place while it is renewed, ends as lost without a model, and stops no other's end."""
    design = client(concurrent=2)
    known, unknown = await one.admit(design), await one.admit(design)
    if lease is None:
        server.ask("HDEL", key("design", "limits"), unknown.id)
    else:
        server.raw("HSET", key("design", "limits"), unknown.id, lease)
    assert 429 == (await one.refusal(design)).code
    expire(server)
    async with gate(server.url, timeout=5) as parent:
        await parent.limits.sweep([design])
        assert [("design", "", "other"), ("design", "gemini-2.5-flash", "generateContent")] == sorted(parent.lost_calls)
        assert ({} if lease is None else {"design": UNREAD}) == parent.limits.formats
    assert {known.id: "gemini-2.5-flash", unknown.id: ""} == {r["call"]: r["model"] for r in records(server)}
    assert ["lost"] * 2 == [record["outcome"] for record in records(server)]
    assert 0 == server.ask("ZCARD", key("design", "leases"))
    await (await one.admit(design)).settle(used(1), "ok")


async def test_the_end_of_a_call_whose_lease_cannot_be_read_is_recorded(one: Gate, server: Valkey) -> None:
    """Rollbacks, A2: what it used is charged, its place is given back, once."""
    design = client(concurrent=1, tokens_per_day=10**6)
    for lease in (b"{}", PACKED({"v": 2}), None):
        permit = await one.admit(design)
        if lease is None:
            server.ask("HDEL", key("design", "limits"), permit.id)
        else:
            server.raw("HSET", key("design", "limits"), permit.id, lease)
        await permit.settle(used(5), "ok")
        assert 0 == leases(server)
    assert ["ok"] * 3 == [record["outcome"] for record in records(server)]


async def test_check_says_what_could_not_be_read(
    one: Gate, server: Valkey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rollbacks: `check` is red and names the client, also one that is in the clients file no longer."""
    clients = tmp_path / "clients.toml"
    clients.write_text(clients_toml({"other": "k"}, {}))
    settings = Settings(redis_url=server.url, clients_file=clients, upstream_key=UPSTREAM_KEY)
    for name in ("design", "other"):
        server.raw("HSET", key(name, "limits"), "state", b"{}")
        await one.admit(client(name))
    await one.limits.sweep([client(), client("other")])
    with pytest.raises(check.Red, match=r"of design, other .* cannot read"):
        await check._store(settings)
    for name in ("design", "other"):
        server.ask("HDEL", key(name, "limits"), "unread")
    assert "answer" in await check._store(settings)
    assert "" == capsys.readouterr().out
