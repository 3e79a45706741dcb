"""May a call begin while the state store is unavailable?

The fallback rate limiter: each worker admits its share of every limit, counted in its own memory and on its own clock.
The counts survive when the store recovers and fails again, so that a store that flaps gives no client a fresh start.
The buckets are those of admit.lua, without what needs a server (leases and records); and as in drain.lua a clock that
goes back begins no day anew.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.config import Client
from gateway.limits.estimate import Estimate
from gateway.limits.headers import refusal
from gateway.limits.quotas import LIMITS, Quotas

DAY = 86400
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
class Taken:
    """The counters of one client in this worker."""

    at: float
    requests: float = 0
    tokens: Bucket = field(default_factory=Bucket)
    day: int = 0
    tokens_day: int = 0
    images_day: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalReservation:
    """What one call has taken, to be corrected when it ends."""

    begun: float
    day: int
    tokens: int
    images: int
    took: int  # of the tokens per minute
    share: float


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
        quotas = Quotas.of(client, self._parts)
        tokens, images = quotas.reserved(estimate)
        taken = self._drained(client, quotas)
        midnight = (taken.day + 1) * DAY - self._wall()
        rows = (  # of each limit: quota, used, more to be used, seconds until one unit is free, or all are
            (quotas.burst, taken.requests, 1, 60 / (quotas.requests_per_minute or 1), None),
            (quotas.tokens_per_minute, taken.tokens.level, tokens, 60 / (quotas.tokens_per_minute or 1), None),
            (quotas.tokens_per_day, taken.tokens_day, tokens, 0, midnight),
            (quotas.images_per_day, taken.images_day, images, 0, midnight),
            (quotas.concurrent, in_flight, 1, 0, 1.0),
        )
        waits = [
            (fixed or (used + more - limit) * pace, name)
            for name, (limit, used, more, pace, fixed) in zip(LIMITS, rows, strict=True)
            if limit and more and used + more - limit > 1e-6
        ]
        if waits:
            seconds, limit = max(waits)
            raise refusal(client, limit, seconds)
        taken.requests += 1 if quotas.requests_per_minute else 0
        took = tokens if quotas.tokens_per_minute else 0
        taken.tokens_day += tokens
        taken.images_day += images
        share = taken.tokens.take(took)
        return LocalReservation(begun=taken.at, day=taken.day, tokens=tokens, images=images, took=took, share=share)

    def settle(self, client: Client, reservation: LocalReservation, tokens: int, images: int) -> None:
        """Correct a reservation to the usage; `client` is its current entry in the clients file."""
        quotas = Quotas.of(client, self._parts)
        taken = self._drained(client, quotas)
        more, own = (
            tokens - reservation.tokens,
            taken.tokens.release(reservation.took, reservation.share, reservation.begun),
        )
        if more < 0:
            taken.tokens.level = max(0, taken.tokens.level - min(-more, own))
        elif quotas.tokens_per_minute:
            taken.tokens.level += more
        if taken.day == reservation.day:
            taken.tokens_day = max(0, taken.tokens_day + more)
            taken.images_day = max(0, taken.images_day + images - reservation.images)

    def _drained(self, client: Client, quotas: Quotas) -> Taken:
        """The client's counters, less what has drained since."""
        now, today = self._clock(), int(self._wall() // DAY)
        taken = self._clients.setdefault(client.name, Taken(now))
        passed, taken.at = now - taken.at, now
        taken.requests = max(0, taken.requests - passed * quotas.requests_per_minute / 60)
        taken.tokens.drain(now, passed * quotas.tokens_per_minute / 60)
        if taken.day < today:
            taken.day, taken.tokens_day, taken.images_day = today, 0, 0
        if taken.day > today + 1:
            taken.day = today
        return taken
