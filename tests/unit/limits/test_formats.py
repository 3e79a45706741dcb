"""State that another version wrote: nothing is lost in silence, and nothing counts twice.

Versions of one format share the state of a client, also where one has more limits than the other.  Formats that cannot
be read by one another have keys of their own, but for the records.  `formats/1` holds the scripts of that format.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.commands import check
from gateway.config.settings import Settings
from gateway.limits.client_limits import ADMIT, FORMAT, KEYS, RENEW_AND_REAP, SETTLE, key
from gateway.limits.limits import OURS, PACKED, UNREAD
from gateway.limits.quotas import Quotas
from gateway.store.command import Script
from tests.support.gate import Gate, client, gate, kept, leases, records, state, used
from tests.support.gateway import UPSTREAM_KEY, clients_toml
from tests.support.valkey import Valkey
from tests.unit.limits.test_leases import expire

BEFORE = Path(__file__).parent / "formats" / "1"
DESIGN = client(
    requests_per_minute=60,
    tokens_per_minute=90_000,
    tokens_per_day=10**6,
    images_per_day=9,
    videos_per_day=50,
    concurrent=9,
)
SCRIPTS = {script.name: script for script in (ADMIT, SETTLE, RENEW_AND_REAP)}
OLDER = {name: Script.of(name, (BEFORE / f"{name}.lua").read_text()) for name in SCRIPTS}
OLDER_KEYS = [f"gw:{{design}}:{name}" for name in KEYS]
OLDER_LIMITS = PACKED((60, 60, 90_000, 10**6, 9, 9, 10_000))


class Version:
    """A worker of format 2 that has more limits than ours, as many, or fewer."""

    def __init__(self, server: Valkey, more: int) -> None:
        (names, units, paces, sizes), (budgets, counted, windows, quotas), *concurrency = Quotas.of(DESIGN).columns()
        self.server, self.videos = server, more >= 0
        rates, days = [names, units, paces, sizes], [budgets, counted, windows, quotas]
        if more > 0:
            rates = [(*column, new) for column, new in zip(rates, ("videos_per_minute", "videos", 90, 90), strict=True)]
            days = [(*column, new) for column, new in zip(days, ("usd_per_month", "quota", "month", 9**9), strict=True)]
        if more < 0:
            days = [column[:-1] for column in days]
        self.limits = PACKED((rates, days, *concurrency, 10_000))

    def run(self, name: str, *args: Any) -> Any:
        keys = [key("design", part) for part in KEYS]
        return self.server.raw("EVAL", SCRIPTS[name].source, len(keys), *keys, self.limits, *args)

    def admit(self, call: str) -> None:
        """A call begins."""
        amounts = {"requests": 1, "tokens": 1000, "images": 1} | ({"videos": 2, "quota": 7} if self.videos else {})
        self.run("admit", PACKED((call, amounts, "w", "m", "generateContent", "r")))

    def settle(self, call: str) -> None:
        """A call ends."""
        amounts = {"requests": 1, "tokens": 40} | ({"videos": 1, "quota": 5} if self.videos else {})
        self.run("settle", PACKED((call, "ok", "reported", amounts, 20, 20, "m", "generateContent", "r", 1)))


@pytest.mark.parametrize(("first", "then"), [(-1, 0), (0, -1), (0, 1), (1, 0), (0, 0)])
def test_a_version_with_other_limits_up_and_down(server: Valkey, first: int, then: int) -> None:
    """Upgrades: calls in flight, budgets and records go over to a version with one limit more or less, nothing is lost."""
    one, other = Version(server, first), Version(server, then)
    for call in ("a", "b", "c"):
        one.admit(call)
    one.settle("a")
    before = state(server)
    assert (2040, 2) == (before["tokens_day"], before["images_day"])
    one.settle("b")
    other.admit("d")
    assert 3 * 1000 + 2 * 40 - 1000 == state(server)["tokens_day"]
    other.settle("d")  # both run beside each other
    one.settle("b")
    one.run("renew_and_reap", "c")
    other.run("renew_and_reap", "c")
    expire(server)
    _, lost, form = other.run("renew_and_reap")
    assert ([[b"m", b"generateContent"]], OURS) == (lost, form)
    assert [("a", "ok"), ("b", "ok"), ("d", "ok"), ("c", "lost")] == [
        (record["call"], record["outcome"]) for record in records(server)
    ]
    after = state(server)
    assert (1120, 1) == (after["tokens_day"], after["images_day"])
    assert max(after["requests_held"], after["tokens_held"]) < 1e-9
    assert 0 == leases(server)
    videos = 2 * (first >= 0) + (then >= 0) + 2 * (first >= 0)  # of a and b, of d, and what c had reserved
    assert videos == kept(server).get("videos_per_day", [0])[0]
    if first > 0:
        assert 2 * 5 + 7 == kept(server)["usd_per_month"][0]


def older(server: Valkey, name: str, *args: Any) -> Any:
    """One script of format 1, as its workers run it."""
    return server.raw("EVAL", OLDER[name].source, len(OLDER_KEYS), *OLDER_KEYS, OLDER_LIMITS, *args)


async def test_another_format_beside_ours(one: Gate, server: Valkey) -> None:
    """Upgrades: format 1 and ours run beside each other; each settles and sweeps its own calls, records are in one place."""
    older(server, "admit", PACKED(("old-1", 1000, 1, "w", "m", "generateContent", "r")))
    permit = await one.admit(DESIGN)
    older(server, "admit", PACKED(("old-2", 1000, 1, "w", "m", "generateContent", "r")))
    assert 1024 == state(server)["tokens_day"]
    older(server, "settle", PACKED(("old-1", "ok", "reported", 40, 20, 20, 0, "m", "generateContent", "r", 1)))
    await permit.settle(used(7), "ok")
    for _ in range(2):
        assert [[1040, 1], [], OURS] == [*_of_older(older(server, "renew_and_reap", "old-2"))]
        assert {("design", "tokens_per_day"): 7} == {
            budget: units for budget, units in (await one.limits.sweep([DESIGN])).items() if units
        }
    assert {} == one.limits.formats
    assert [] == one.lost_calls
    assert 0 == leases(server)
    assert ["old-2"] == server.ask("ZRANGE", OLDER_KEYS[1], 0, -1)
    assert [("old-1", "40"), (permit.id, "7")] == [(record["call"], record["tokens"]) for record in records(server)]


def _of_older(reply: Sequence[Any]) -> tuple[list[int], Any, int]:
    tokens, images, lost, form = reply
    return [tokens, images], lost, form


def test_the_format_of_keys_is_that_of_the_scripts() -> None:
    """Upgrades: whoever raises the format in state.lua raises it in the names of the keys."""
    assert all(f"local FORMAT = {FORMAT}\n" in script.source for script in SCRIPTS.values())
    assert {f"gw:{{design}}:{name}:{FORMAT}" for name in KEYS if name != "usage"} | {"gw:{design}:usage"} == {
        key("design", name) for name in KEYS
    }


LATER = {  # how a later version might write, as Lua that returns the state
    "a list": "return cmsgpack.pack({3, {tokens_per_day={5000, day}}})",
    "of format 1": "return cmsgpack.pack(now, day, 5000, 1, {1,0,1,0}, {1,0,1,0}, 1)",
    "without rows": "return cmsgpack.pack({format=3, at=now, day=day, tokens_day=5000})",
    "without a format": "return cmsgpack.pack({rows={tokens_per_day={5000, day}}})",
    "words for numbers": "return cmsgpack.pack({format=3, rows={tokens_per_day={'many', day}}})",
    "other buckets": "return cmsgpack.pack({format=3, rows={requests_per_minute={level=1}}})",
    "short buckets": "return cmsgpack.pack({format=3, rows={requests_per_minute={1, 0, 1}}})",
    "another packing": "return cjson.encode({format=3, rows={}})",
    "nothing": "return ''",
    "not a number": "return cmsgpack.pack({format=2, rows={tokens_per_day={0/0, day}}})",
    "cut short": "return string.sub(cmsgpack.pack({format=2, rows={tokens_per_day={5000, day}}}), 1, -3)",
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
    added = """return cmsgpack.pack({format=3, more=123456, rows={
        tokens_per_day={5500, day, 'x'}, requests_per_minute={1,0,1,0,now,'y'}, other={usd=5}}})"""
    server.ask("EVAL", WRITE % added, 1, key("design", "limits"))
    assert 429 == (await one.refusal(design)).code
    permit = await one.admit(design, max_output_tokens=100)
    await permit.settle(used(50), "ok")
    await one.limits.sweep([design])
    assert {"design": 2} == one.limits.formats
    (packed,) = server.raw("HMGET", key("design", "limits"), "state")
    after, rows = msgspec.msgpack.decode(packed), kept(server)
    assert (3, 123456, {"usd": 5}) == (after["format"], after["more"], rows["other"])
    assert ([5550, "x"], "y") == (rows["tokens_per_day"][::2], rows["requests_per_minute"][5])


@pytest.mark.parametrize(
    "lease",
    [
        None,
        b"",
        b"\x00",
        b"{}",
        b"\xff" * 9,
        PACKED({"v": 2}),
        PACKED((2, 3)),
        PACKED(1) + PACKED({}) + PACKED(["c", "m", 0]),
    ],
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
