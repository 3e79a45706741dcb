"""May a call begin while the state store is away?

Each worker lets its share of every limit through, counted in its own memory and on its own clock.  What was taken is
remembered when the store comes and goes, so that a store that flickers gives nobody a fresh start.  The buckets are
those of admit.lua, less what needs a server: leases and records.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.clients import Client
from gateway.limits.allowed import LIMITS, Allowed
from gateway.limits.estimate import Estimate
from gateway.limits.headers import refusal

DAY = 86400


@dataclass(slots=True)
class Taken:
    """What one client has taken in this worker."""

    at: float
    requests: float = 0
    tokens: float = 0
    day: int = 0
    tokens_day: int = 0
    images_day: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What one call has taken, to be corrected when it ends."""

    client: Client
    tokens: int
    images: int
    day: int
    until: float  # when its tokens will have drained


class Local:
    """The shares of one worker."""

    def __init__(
        self, parts: int, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        """`parts` workers share the limits; `clock` never jumps, `wall` knows the day."""
        self._parts, self._clock, self._wall = parts, clock, wall
        self._clients: dict[str, Taken] = {}

    def admit(self, client: Client, wanted: Estimate, in_flight: int) -> Hold:
        """Take from every share, or from none.  Raises `RateLimited`."""
        allowed = Allowed.to(client, self._parts)
        tokens, images = allowed.reserved(wanted)
        taken = self._now(client, allowed)
        midnight = DAY - self._wall() % DAY
        rows = (  # of each limit: how much, used, to be used more, seconds until one unit is free, or all are
            (allowed.burst, taken.requests, 1, 60 / (allowed.requests_per_minute or 1), None),
            (allowed.tokens_per_minute, taken.tokens, tokens, 60 / (allowed.tokens_per_minute or 1), None),
            (allowed.tokens_per_day, taken.tokens_day, tokens, 0, midnight),
            (allowed.images_per_day, taken.images_day, images, 0, midnight),
            (allowed.concurrent, in_flight, 1, 0, 1.0),
        )
        waits = [
            (fixed or (used + more - limit) * pace, name)
            for name, (limit, used, more, pace, fixed) in zip(LIMITS, rows, strict=True)
            if limit and more and used + more - limit > 1e-6
        ]
        if waits:
            seconds, limit = max(waits)
            raise refusal(client, limit, seconds)
        taken.requests += 1
        taken.tokens += tokens
        taken.tokens_day += tokens
        taken.images_day += images
        until = taken.at + taken.tokens * 60 / (allowed.tokens_per_minute or 1)
        return Hold(client=client, tokens=tokens, images=images, day=taken.day, until=until)

    def settle(self, hold: Hold, tokens: int, images: int) -> None:
        """Correct what a call took to what it used."""
        taken = self._now(hold.client, Allowed.to(hold.client, self._parts))
        more = tokens - hold.tokens
        if more > 0 or taken.at < hold.until:
            taken.tokens = max(0, taken.tokens + more)
        if taken.day == hold.day:
            taken.tokens_day = max(0, taken.tokens_day + more)
            taken.images_day = max(0, taken.images_day + images - hold.images)

    def _now(self, client: Client, allowed: Allowed) -> Taken:
        """What the client has taken, less what has drained since."""
        now, today = self._clock(), int(self._wall() // DAY)
        taken = self._clients.setdefault(client.name, Taken(now))
        passed, taken.at = now - taken.at, now
        taken.requests = _drained(taken.requests, passed, allowed.requests_per_minute)
        taken.tokens = _drained(taken.tokens, passed, allowed.tokens_per_minute)
        if taken.day != today:
            taken.day, taken.tokens_day, taken.images_day = today, 0, 0
        return taken


def _drained(level: float, seconds: float, per_minute: int) -> float:
    return max(0, level - seconds * per_minute / 60) if per_minute else 0
