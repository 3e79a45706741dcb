"""May a call begin while the state store is unavailable?

The fallback rate limiter: each worker admits its share of every limit, counted in its own memory and on its own clock.
The counts survive when the store recovers and fails again, so that a store that flaps gives no client a fresh start.
The buckets are those of admit.lua, without what needs a server (leases and records); and as in drain.lua a clock that
goes back begins no period anew.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from gateway.config import Client
from gateway.limit_table import Limit
from gateway.limits.estimate import Estimate
from gateway.limits.headers import MINUTE, refusal
from gateway.limits.quotas import Quota, Quotas
from gateway.limits.windows import ends, period_of

LEAST = 1e-9  # a share below this counts as none


@dataclass(slots=True)
class Bucket:
    """As in drain.lua: `held` of its level is of calls in flight, and `share` of what those took has not drained."""

    level: float = 0
    held: float = 0
    share: float = 1
    since: float = 0

    def drain(self, now: float, amount: float) -> None:
        self.level = max(0, self.level - amount)
        if self.held > self.level:
            self.held, self.share = self.level, self.share * self.level / self.held
        if self.share < LEAST:
            self.share, self.since = 1, now

    def take(self, amount: float) -> float:
        """Returns the share that the call has to remember."""
        self.level += amount
        self.held += amount
        return self.share

    def release(self, took: float, share: float, begun: float) -> float:
        """The call is no longer in flight; returns what it took and has not drained yet."""
        own = took * self.share / share if begun >= self.since else 0
        self.held = max(0, self.held - own)
        return own


@dataclass(slots=True)
class Budget:
    """As in drain.lua: what is used of a day or a month."""

    level: int = 0
    period: int = 0

    def turn(self, period: int) -> None:
        if self.period < period or not self.level:
            self.level, self.period = 0, period
        if self.period > period + 1:
            self.period = period


@dataclass(slots=True)
class Taken:
    """One client in this worker: its share of the limits, and the counters, by limit."""

    client: Client
    quotas: Quotas
    at: float
    buckets: defaultdict[str, Bucket] = field(default_factory=lambda: defaultdict(Bucket))
    budgets: defaultdict[str, Budget] = field(default_factory=lambda: defaultdict(Budget))


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalReservation:
    """What one call has taken, to be corrected when it ends."""

    begun: float
    amounts: Mapping[str, int]  # by unit
    shares: Mapping[str, tuple[int, float]]  # of each rate what was taken, and the share to remember
    periods: Mapping[str, int]  # of each budget


class FallbackLimiter:
    """The shares of one worker."""

    def __init__(
        self, parts: int, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        """`parts` workers share the limits; `clock` never jumps, `wall` knows the day."""
        self._parts, self._clock, self._wall = parts, clock, wall
        self._clients: dict[str, Taken] = {}

    def admit(self, client: Client, estimate: Estimate, in_flight: int) -> LocalReservation:
        """Take from this worker's share of every limit, or from none.  Raises `RateLimited`."""
        taken = self._drained(client)
        amounts = taken.quotas.reserved(estimate)
        waits = [
            (wait if row.limit.kind != "rate" else over * MINUTE / row.amount, row.limit)
            for row, level, wait in self._levels(taken, in_flight)
            if row.amount and (more := _needed(row.limit, amounts)) and (over := level + more - row.size) > 1e-6
        ]
        if waits:
            seconds, limit = max(waits, key=lambda wait: wait[0])
            raise refusal(client, limit, seconds)
        return _took(amounts, taken)

    def settle(self, client: Client, reservation: LocalReservation, used: Mapping[str, int]) -> None:
        """Correct a reservation to the usage, by unit; `client` is its current entry in the clients file."""
        taken = self._drained(client)
        for limit, amount, _ in taken.quotas.rates:
            more, bucket = _more(limit, reservation, used), taken.buckets[limit.name]
            own = bucket.release(*reservation.shares[limit.name], reservation.begun)
            if more < 0:
                bucket.level = max(0, bucket.level - min(-more, own))
            elif amount:
                bucket.level += more
        for limit, _, _ in taken.quotas.budgets:
            budget = taken.budgets[limit.name]
            if budget.period == reservation.periods[limit.name]:
                budget.level = max(0, budget.level + _more(limit, reservation, used))

    def _drained(self, client: Client) -> Taken:
        """The client's counters, less what has drained since."""
        now, wall, taken = self._clock(), self._wall(), self._clients.get(client.name)
        if taken is None:
            taken = self._clients[client.name] = Taken(client, Quotas.of(client, self._parts), now)
        elif taken.client is not client:  # the clients file has changed
            taken.client, taken.quotas = client, Quotas.of(client, self._parts)
        passed, taken.at = now - taken.at, now
        for limit, amount, _ in taken.quotas.rates:
            taken.buckets[limit.name].drain(now, passed * amount / MINUTE)
        for limit, _, _ in taken.quotas.budgets:
            taken.budgets[limit.name].turn(period_of(limit.window, wall))
        return taken

    def _levels(self, taken: Taken, in_flight: int) -> Iterator[tuple[Quota, float, float]]:
        """Of each limit what is used, and in how many seconds it is free, where that is known beforehand."""
        yield from ((row, taken.buckets[row.limit.name].level, 0) for row in taken.quotas.rates)
        for row in taken.quotas.budgets:
            budget = taken.budgets[row.limit.name]
            yield row, budget.level, ends(row.limit.window, budget.period) - self._wall()
        yield taken.quotas.concurrency, in_flight, 1


def _took(amounts: Mapping[str, int], taken: Taken) -> LocalReservation:
    shares = {}
    for limit, amount, _ in taken.quotas.rates:
        took = amounts.get(limit.unit, 0) if amount else 0
        shares[limit.name] = (took, taken.buckets[limit.name].take(took))
    for limit, _, _ in taken.quotas.budgets:
        taken.budgets[limit.name].level += amounts.get(limit.unit, 0)
    periods = {name: budget.period for name, budget in taken.budgets.items()}
    return LocalReservation(begun=taken.at, amounts=amounts, shares=shares, periods=periods)


def _needed(limit: Limit, amounts: Mapping[str, int]) -> int:
    return 1 if limit.kind == "concurrency" else amounts.get(limit.unit, 0)  # each call needs a place


def _more(limit: Limit, reservation: LocalReservation, used: Mapping[str, int]) -> int:
    return used.get(limit.unit, 0) - reservation.amounts.get(limit.unit, 0)
