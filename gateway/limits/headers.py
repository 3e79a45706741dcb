"""Which headers and errors does a caller receive about its limits?

The headers are `ratelimit` and `ratelimit-policy` of the IETF's httpapi draft: of each limit what is left, and in how
many seconds all of it is back; a 429 carries `retry-after`.  A bucket's window is the time in which it fills, which is
60 s unless `burst` says otherwise.
"""

from math import ceil
from typing import NamedTuple

from gateway.config import Client
from gateway.errors import BudgetSpent, RateLimited
from gateway.limits.quotas import LIMITS, Quotas

BUDGETS = frozenset({"tokens_per_day", "images_per_day"})


class Levels(NamedTuple):
    """What admit.lua returns: see there."""

    refused: float
    wait: float
    requests: float
    tokens: float
    tokens_day: float
    images_day: float
    midnight: float


def refusal(client: Client, limit: str, seconds: float) -> RateLimited:
    """The error for a limit that is used up; after `seconds` it no longer is."""
    wait = max(1, ceil(seconds))
    error = BudgetSpent if limit in BUDGETS else RateLimited
    return error(
        f"{limit}: {getattr(client, limit)} are allowed. Please retry after {wait} seconds.",
        retry_after=wait,
        metadata={"limit": limit, "client": client.name},
    )


def refusal_of(client: Client, levels: Levels, headers: list[tuple[bytes, bytes]]) -> RateLimited:
    """The error that admit.lua's reply means, where it refuses; it carries what is left of the limits."""
    error = refusal(client, LIMITS[int(levels.refused) - 1], levels.wait / 1000)
    error.limit_headers = headers
    return error


def policy(quotas: Quotas) -> bytes:
    """The value of `ratelimit-policy`; empty when there is no limit."""
    rows = (
        (b"requests", quotas.burst, ceil(quotas.burst * 60 / (quotas.requests_per_minute or 1))),
        (b"tokens", quotas.tokens_per_minute, 60),
        (b"tokens-day", quotas.tokens_per_day, 86400),
        (b"images-day", quotas.images_per_day, 86400),
    )
    return b", ".join(b'"%b";q=%d;w=%d' % row for row in rows if row[1])


def standing(quotas: Quotas, levels: Levels) -> bytes:
    """The value of `ratelimit`; empty when there is no limit."""
    items, midnight = [], ceil(levels.midnight / 1000)
    if quotas.burst:
        full = levels.requests * 60 / quotas.requests_per_minute
        items.append(_left("requests", quotas.burst - levels.requests, ceil(full - 1e-6)))
    if quotas.tokens_per_minute:
        full = levels.tokens * 60 / quotas.tokens_per_minute
        items.append(_left("tokens", quotas.tokens_per_minute - levels.tokens, ceil(full - 1e-6)))
    if quotas.tokens_per_day:
        items.append(_left("tokens-day", quotas.tokens_per_day - levels.tokens_day, midnight))
    if quotas.images_per_day:
        items.append(_left("images-day", quotas.images_per_day - levels.images_day, midnight))
    return ", ".join(items).encode()


def _left(name: str, left: float, seconds: int) -> str:
    return f'"{name}";r={max(0, int(left + 1e-6))};t={seconds}'
