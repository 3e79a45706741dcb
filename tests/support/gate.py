"""A worker's limits on a real store, and the calls and clients that tests put to them."""

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from gateway.call import Call, Demand, Usage
from gateway.config.clients import Client
from gateway.config.models import Catalogue
from gateway.errors import GatewayError, RateLimited
from gateway.limits import Limits
from gateway.limits.client_limits import FORMAT, PROBE, key
from gateway.limits.permit import Permit
from gateway.store import Store
from tests.support.calls import call_for
from tests.support.valkey import Valkey

Headers = list[tuple[bytes, bytes]]
NOTHING = Usage()


def client(name: str = "design", **limits: Any) -> Client:
    """A client with only the limits given."""
    return Client(name=name, key_sha256=("0" * 64,), **limits)


def call(of: Client, **facts: Any) -> Call:
    """A call that reserves `chars` / 4 + 1024 tokens, unless `facts` say otherwise."""
    demand = Demand(
        text_chars=facts.pop("chars", 0), **{k: facts.pop(k) for k in list(facts) if k in Demand.__struct_fields__}
    )
    return call_for(of, demand=demand, **facts)


def used(tokens: int, images: int = 0) -> Usage:
    """Usage that an answer reported."""
    return Usage(tokens={("output", "text"): tokens}, total=tokens, images_out=images, source="reported")


class Gate:
    """One worker's limits, and everything they counted."""

    def __init__(self, url: str, **options: Any) -> None:
        self.limited_by: list[tuple[str, str]] = []
        self.lost_calls: list[tuple[str, str, str]] = []
        self.late_settlements = 0
        self.corrections: list[tuple[str, str, int]] = []
        self.dropped_records = 0
        self.changes: list[bool] = []
        timeout = options.pop("timeout", 0.25)
        self.store = Store(url, timeout=timeout, probe=PROBE, on_change=self._changed)
        self.limits = Limits(self.store, Catalogue.load(), self, **({"worker": "w1"} | options))

    def limited(self, client: str, limit: str) -> None:
        self.limited_by.append((client, limit))

    def lost(self, client: str, model: str, method: str) -> None:
        self.lost_calls.append((client, model, method))

    def late(self) -> None:
        self.late_settlements += 1

    def corrected(self, client: str, model: str, tokens: int) -> None:
        self.corrections.append((client, model, tokens))

    def dropped(self) -> None:
        self.dropped_records += 1

    def _changed(self, up: bool, _why: str) -> None:
        self.changes.append(up)

    async def admit(self, of: Client, headers: Headers | None = None, **facts: Any) -> Permit:
        try:
            permit = await self.limits.admit(call(of, **facts))
        except RateLimited as error:
            if headers is not None:
                headers += error.limit_headers
            raise
        if headers is not None:
            headers += permit.headers
        return permit

    async def refusal(self, of: Client, **facts: Any) -> GatewayError:
        """The error that a call ends with."""
        try:
            permit = await self.admit(of, **facts)
        except GatewayError as error:
            return error
        raise AssertionError(f"admitted: {permit}")


@contextlib.asynccontextmanager
async def gate(url: str, **options: Any) -> AsyncIterator[Gate]:
    """A gate that is closed in the end; options are those of `Limits`, and the store's `timeout`."""
    one = Gate(url, **options)
    try:
        yield one
    finally:
        await one.store.aclose()


def records(server: Valkey, name: str = "design") -> list[dict[str, str]]:
    """The usage records of a client, oldest first."""
    return [fields for _, fields in server.ask("XRANGE", key(name, "usage"), "-", "+")]


RATES = {"requests": "requests_per_minute", "tokens": "tokens_per_minute"}
BUDGETS = {"tokens_day": "tokens_per_day", "images_day": "images_per_day"}


def kept(server: Valkey, name: str = "design") -> dict[str, Any]:
    """What the store holds of each of a client's limits: see state.lua."""
    (packed,) = server.raw("HMGET", key(name, "limits"), "state")
    rows: dict[str, Any] = packed and msgspec.msgpack.decode(packed)["rows"]
    return rows or {}  # to Lua an empty map is a list


def state(server: Valkey, name: str = "design") -> dict[str, float]:
    """The same in few words: levels, what of them is of calls in flight, budgets and their day, and times in ms."""
    if not server.ask("HEXISTS", key(name, "limits"), "state"):
        return {}
    rows, (seen,) = kept(server, name), server.raw("HMGET", key(name, "limits"), "seen")
    levels = {"at": time.time() * 1000, "day": time.time() // 86_400} | ({"seen": float(seen)} if seen else {})
    for short, limit in RATES.items():
        level, held, _, _, at = rows.get(limit, (0, 0, 1, 0, levels["at"]))
        levels |= {short: level, f"{short}_held": held, "at": at}
    for short, limit in BUDGETS.items():
        used, day = rows.get(limit, (0, levels["day"]))
        levels |= {short: used, "day": day}
    return levels


def change(server: Valkey, name: str = "design", **levels: float) -> None:
    """As if the levels were these."""
    rows = kept(server, name)
    for short, row in ((short, rows[limit]) for short, limit in RATES.items() if limit in rows):
        row[0], row[1], row[4] = (
            levels.get(short, row[0]),
            levels.get(f"{short}_held", row[1]),
            levels.get("at", row[4]),
        )
    for short, row in ((short, rows[limit]) for short, limit in BUDGETS.items() if limit in rows):
        row[0], row[1] = levels.get(short, row[0]), levels.get("day", row[1])
    packed = msgspec.msgpack.encode({"format": FORMAT, "rows": rows})
    server.raw("HSET", key(name, "limits"), "state", packed)


def leases(server: Valkey, name: str = "design") -> int:
    """How many calls the store counts as in flight."""
    both = """local fields = redis.call('HLEN', KEYS[2])
        for _, name in ipairs({'state', 'seen', 'unread'}) do fields = fields - redis.call('HEXISTS', KEYS[2], name) end
        return {redis.call('ZCARD', KEYS[1]), fields}"""
    held, described = server.ask("EVAL", both, 2, key(name, "leases"), key(name, "limits"))
    assert held == described
    return int(held)


def pass_time(server: Valkey, milliseconds: float, name: str = "design") -> None:
    """As if that much time had gone by for the buckets, with every lease renewed."""
    change(server, name, at=state(server, name)["at"] - milliseconds)
    if server.ask("HEXISTS", key(name, "limits"), "seen"):
        server.ask("HINCRBYFLOAT", key(name, "limits"), "seen", -milliseconds)
