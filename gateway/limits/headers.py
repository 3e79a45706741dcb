"""Which headers and errors does a caller receive about its limits?

The headers are `ratelimit` and `ratelimit-policy` of the IETF's httpapi draft: of each limit what is left, and in how
many seconds all of it is back; a 429 carries `retry-after`.  A bucket's window is the time in which it fills, which is
60 s unless `burst` says otherwise.
"""

from math import ceil
from typing import NamedTuple

from gateway.config import Client
from gateway.errors import BudgetSpent, RateLimited
from gateway.limit_table import BY_NAME, Limit
from gateway.limits.quotas import Quota, Quotas

MINUTE, DAY = 60, 86400


class Levels(NamedTuple):
    """What admit.lua returns: see there."""

    refused: str
    wait: float
    levels: list[float]
    waits: list[float]


def refusal(client: Client, limit: Limit, seconds: float) -> RateLimited:
    """The error for a limit that is used up; after `seconds` it no longer is."""
    wait = max(1, ceil(seconds))
    error = BudgetSpent if limit.kind == "budget" else RateLimited
    return error(
        f"{limit.name}: {client.amount(limit.name)} are allowed. Please retry after {wait} seconds.",
        retry_after=wait,
        metadata={"limit": limit.name, "client": client.name},
    )


def refusal_of(client: Client, levels: Levels, headers: list[tuple[bytes, bytes]]) -> RateLimited:
    """The error that admit.lua's reply means, where it refuses; it carries what is left of the limits."""
    error = refusal(client, BY_NAME[levels.refused], levels.wait / 1000)
    error.limit_headers = headers
    return error


def policy(quotas: Quotas) -> bytes:
    """The value of `ratelimit-policy`; empty when there is no limit."""
    rates = [(row, ceil(row.size * MINUTE / (row.amount or 1))) for row in quotas.rates]
    budgets = [(row, DAY) for row in quotas.budgets]
    items = (f'"{row.limit.header}";q={row.size};w={seconds}' for row, seconds in rates + budgets if _shown(row))
    return ", ".join(items).encode()


def standing(quotas: Quotas, levels: Levels) -> bytes:
    """The value of `ratelimit`; empty when there is no limit."""
    items, of_rates = [], len(quotas.rates)
    for row, level in zip(quotas.rates, levels.levels, strict=False):
        if _shown(row):
            items.append(_left(row, level, level * MINUTE / row.amount - 1e-6))
    for row, level, ms in zip(quotas.budgets, levels.levels[of_rates:], levels.waits, strict=True):
        if _shown(row):
            items.append(_left(row, level, ms / 1000))
    return ", ".join(items).encode()


def _shown(row: Quota) -> bool:
    return row.amount > 0 and row.limit.header != ""


def _left(row: Quota, level: float, seconds: float) -> str:
    return f'"{row.limit.header}";r={max(0, int(row.size - level + 1e-6))};t={ceil(seconds)}'
