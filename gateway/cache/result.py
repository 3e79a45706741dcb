"""What does a caller receive about where the answer came from?  `cache-status` (RFC 9211) and `age`."""

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from gateway.cache.answer import CachedAnswer
from gateway.cache.single_flight import SingleFlight
from gateway.call import Call, Meter, Sink

Result = Literal["hit", "miss", "bypass", "collapsed"]


Ask = Callable[[Call, Any, Sink], Awaitable[Meter]]  # asks the upstream, on the bill of an account, and passes it on


@dataclass(slots=True, kw_only=True)
class CacheResult:
    """Where the answer to one call comes from, as far as is known; to be left when its caller waits no more."""

    call: Call
    account: Any  # whoever pays, as `ask` wants it
    ask: Ask
    lookup: Callable[["CacheResult"], Awaitable[None]]
    result: Result = "bypass"
    detail: str = "fwd=bypass"  # of `cache-status`
    flight: SingleFlight | None = (
        None  # what brings the answer; None: the upstream is asked directly and nothing is kept
    )
    leads: bool = False  # the flight's call to the upstream is this one's
    ttl: int = 0  # seconds, of a hit: how long this client is given answers
    tells_stored: bool = False  # a unary answer is judged before its head is sent
    waited_seconds: float = 0.0  # for what another call asked
    saved_tokens: int = 0  # what the answer had cost when it was asked for

    async def find(self) -> None:
        """Find out.  It never fails: what there is to raise, the flight raises.

        When this returns a follower has waited, and a leader's call to the upstream has just begun.
        """
        await self.lookup(self)

    def leave(self) -> None:
        """Its caller waits no more."""
        if self.flight:
            self.flight.leave()

    async def play(self, sink: Sink) -> None:
        """Pass the answer on: what is cached, what a flight brings, or what the upstream says now."""
        if self.flight is None:
            await self.ask(self.call, self.account, sink)
            return
        if self.call.stream:
            async with aclosing(self.flight.play()) as chunks:
                async for chunk in chunks:
                    if not sink.started:
                        await sink.begin(self.flight.status, self.flight.content_type)
                    if chunk:
                        await sink.write(chunk)
        answer = await self.flight.answer()
        if not self.leads:
            self.saved_tokens = answer.tokens
        if not self.call.stream:
            await sink.whole(self.flight.status, answer.content_type, answer.chunks[0])

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
