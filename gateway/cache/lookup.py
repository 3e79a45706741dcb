"""What does a caller learn of where the answer came from?  RFC 9211, as far as it is promised."""

from dataclasses import dataclass
from typing import Literal, Self

from gateway.cache.flight import Flight
from gateway.cache.kept import Kept

Result = Literal["hit", "miss", "bypass", "collapsed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """Where the answer to one call comes from.  Leave its context when its caller does not wait any more."""

    result: Result
    detail: str  # of `cache-status`
    flight: Flight | None = None  # what brings the answer; None: the upstream is asked directly and nothing is kept
    leads: bool = False  # the flight's call to the upstream is this one's
    ttl: int = 0  # seconds, of a hit: how long this client is given answers
    tells_stored: bool = False  # a unary answer is judged before its head is sent

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.flight:
            self.flight.leave()

    async def landed(self) -> None:
        """Wait until what this call leads has ended: its cost is booked with this call."""
        if self.leads and self.flight:
            await self.flight.ended.wait()

    @property
    def hit(self) -> Kept | None:
        """The answer, where it had been kept."""
        return self.flight.kept if self.result == "hit" and self.flight else None

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`cache-status`, and `age` of a hit; as far as is known by now."""
        status = f"tokenhot-gateway; {self.detail}"
        if kept := self.hit:
            age = kept.age
            return [(b"cache-status", f"{status}; ttl={self.ttl - age}".encode()), (b"age", b"%d" % age)]
        if self.tells_stored and self.flight and self.flight.storable:
            status += "; stored"
        return [(b"cache-status", status.encode())]
