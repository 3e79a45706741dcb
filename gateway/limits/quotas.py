"""What are a client's limits, as numbers?

The same limits in two sizes: the whole, which the state store counts for all workers, and one worker's share of it,
for the time in which the store is unavailable.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from gateway.config import Client
from gateway.limit_table import BUDGETS, CONCURRENCY, RATES, UNITS, Burst, Limit
from gateway.limits.estimate import Estimate

if TYPE_CHECKING:
    from gateway.limits.permit import Charge

UNLIMITED = 2**63


class Quota(NamedTuple):
    """One limit of a client, in its units: `amount` in its window (0 = no limit), `size` at once."""

    limit: Limit
    amount: int
    size: int

    @classmethod
    def of(cls, limit: Limit, client: Client, parts: int) -> Self:
        def share(one: Limit | Burst | None) -> int:
            amount = client.amount(one.name) if one else None
            return 0 if one is None or amount is None else max(1, round(amount * one.scale) // parts)

        amount = share(limit)
        return cls(limit, amount, amount and (share(limit.burst) or amount))


@dataclass(frozen=True, slots=True)
class Quotas:
    """A client's limits, each kind in the order of the table; and what of each unit goes through at once."""

    rates: tuple[Quota, ...]
    budgets: tuple[Quota, ...]
    concurrency: Quota
    most: Mapping[str, int]

    @classmethod
    def of(cls, client: Client, parts: int = 1) -> Self:
        """One of `parts` shares: rounded down, at least 1."""
        rates, budgets = (tuple(Quota.of(limit, client, parts) for limit in kind) for kind in (RATES, BUDGETS))
        most = dict.fromkeys(UNITS, UNLIMITED)
        for limit, amount, size in (*rates, *budgets):
            if amount:
                most[limit.unit] = min(most[limit.unit], size)
        return cls(rates, budgets, Quota.of(CONCURRENCY, client, parts), most)

    def reserved(self, estimate: Estimate) -> dict[str, int]:
        """What to reserve of each unit: never more than goes through at once, so that no call is unadmittable."""
        return {unit: min(amount, self.most[unit]) for unit, amount in amounts(estimate).items()}

    def columns(self) -> tuple[Any, Any, str, int]:
        """The first argument of the scripts, but for the last of its parts: see state.lua."""
        rates = [(limit.name, limit.unit, amount, size) for limit, amount, size in self.rates]
        budgets = [(limit.name, limit.unit, limit.window, amount) for limit, amount, _ in self.budgets]
        calls, places, _ = self.concurrency
        return list(zip(*rates, strict=True)), list(zip(*budgets, strict=True)), calls.name, places


def amounts(numbers: "Estimate | Charge") -> dict[str, int]:
    """How much of each unit it has, without those of which it has none."""
    return {unit: amount for unit in UNITS if (amount := getattr(numbers, unit))}
