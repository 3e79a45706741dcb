"""A worker's limits on a real store, and the calls and clients that tests put to them."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from gateway.call import Call, Demand, Usage
from gateway.config.clients import Client
from gateway.config.models import Catalogue
from gateway.errors import GatewayError, RateLimited
from gateway.limits import Limits
from gateway.limits.client_limits import PROBE, key
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


LEVELS = ("at", "day", "tokens_day", "images_day", "requests", "tokens", "requests_held", "tokens_held")
READ = """local state = redis.call('HGET', KEYS[1], 'state')
    if not state then return {} end
    local at, day, tokens_day, images_day, requests, tokens = cmsgpack.unpack(state)
    local words = {at, day, tokens_day, images_day, requests[1], tokens[1], requests[2], tokens[2]}
    for at, level in ipairs(words) do words[at] = string.format('%.17g', level) end
    return words"""
WRITE = """for at, level in ipairs(ARGV) do ARGV[at] = tonumber(level) end
    local it = {cmsgpack.unpack(redis.call('HGET', KEYS[1], 'state'))}
    it[5][1], it[6][1], it[5][2], it[6][2] = unpack(ARGV, 5)
    for at = 1, 4 do it[at] = ARGV[at] end
    redis.call('HSET', KEYS[1], 'state', cmsgpack.pack(unpack(it)))"""


def state(server: Valkey, name: str = "design") -> dict[str, float]:
    """What the store holds of a client's limits."""
    levels = server.ask("EVAL", READ, 1, key(name, "limits"))
    seen = server.ask("HGET", key(name, "limits"), "seen")
    return dict(zip(LEVELS, map(float, levels), strict=False)) | ({"seen": float(seen)} if seen else {})


def change(server: Valkey, name: str = "design", **levels: float) -> None:
    """As if the levels were these."""
    after = state(server, name) | levels
    server.ask("EVAL", WRITE, 1, key(name, "limits"), *(repr(after[level]) for level in LEVELS))


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
