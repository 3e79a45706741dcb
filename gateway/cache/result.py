"""What does a caller receive about where the answer came from?  `cache-status` (RFC 9211) and `age`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Self

from gateway.cache.answer import CachedAnswer
from gateway.cache.single_flight import SingleFlight

Result = Literal["hit", "miss", "bypass", "collapsed"]


@dataclass(slots=True, kw_only=True)
class CacheResult:
    """Where the answer to one call comes from, as far as is known.  Its context ends when its caller stops waiting."""

    result: Result = "bypass"
    detail: str = "fwd=bypass"  # of `cache-status`
    flight: SingleFlight | None = None  # brings the answer; None: the upstream is asked directly, nothing is stored
    leads: bool = False  # the flight's upstream call is this call's
    ttl: int = 0  # seconds, of a hit: the client's cache_ttl_seconds
    tells_stored: bool = False  # of a unary answer it is known before its head is sent
    waited_seconds: float = 0.0  # for another call's answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.flight:
            self.flight.leave()

    @contextmanager
    def waiting(self, flight: SingleFlight) -> Iterator[None]:
        """Measure the time in which the caller waits for the answer of another call."""
        began = time.perf_counter()
        try:
            yield
        finally:
            if flight.asked:
                self.result, self.detail = "collapsed", "fwd=miss; collapsed"
                self.waited_seconds += time.perf_counter() - began

    def missed(self, detail: str = "fwd=miss", flight: SingleFlight | None = None) -> None:
        """Record a miss; `flight` is set where this call leads."""
        self.result, self.detail, self.flight, self.leads = "miss", detail, flight, flight is not None

    def answered(self, flight: SingleFlight, ttl: int) -> None:
        """Record a hit, or a flight that another call leads."""
        self.flight = flight
        if not flight.asked:
            self.result, self.detail, self.ttl = "hit", "hit", ttl

    async def done(self) -> None:
        """Wait until the flight that this call leads has ended: its cost is booked with this call."""
        if self.leads and self.flight:
            await self.flight.ended.wait()

    @property
    def hit(self) -> CachedAnswer | None:
        """The answer, where it was cached."""
        return self.flight.cached if self.result == "hit" and self.flight else None

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`cache-status`, and `age` of a hit; as far as is known now."""
        status = f"tokenhot-gateway; {self.detail}"
        if cached := self.hit:
            age, ttl = cached.age, min(self.ttl, cached.ttl_seconds)  # it may have been stored with a shorter one
            return [(b"cache-status", f"{status}; ttl={max(ttl - age, 0)}".encode()), (b"age", b"%d" % age)]
        if self.tells_stored and self.flight and self.flight.storable:
            status += "; stored"
        return [(b"cache-status", status.encode())]
