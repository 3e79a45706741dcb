"""What did the limits give a call, and what does it owe when it ends?"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from gateway.call import Call, Source, Usage
from gateway.limits.estimate import Estimate
from gateway.limits.local import Hold

FREE = frozenset({"cache_hit", "collapsed"})  # whatever the answer says it once cost


class Charge(NamedTuple):
    """What one call is charged, and whether that is known."""

    tokens: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    images: int = 0
    source: Source = "none"


def charge(usage: Usage, outcome: str, wanted: Estimate) -> Charge:
    """What the answer reported; where it did not and something was billed all the same, what was expected."""
    if outcome in FREE or (usage.source == "none" and outcome != "ok"):
        return Charge()
    if usage.total or usage.source == "reported":
        return Charge(
            tokens=usage.total,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
            images=usage.images_out,
            source=usage.source,
        )
    return Charge(
        tokens=wanted.tokens,
        tokens_in=wanted.tokens_in,
        tokens_out=wanted.tokens_out,
        images=wanted.images,
        source="estimated" if wanted.tokens or wanted.images else "none",
    )


@dataclass(slots=True, kw_only=True, eq=False)
class Permit:
    """A place and a reservation, to be given back once."""

    call: Call
    id: str
    at: int  # ms, this machine's clock
    wanted: Estimate
    end: Callable[["Permit", Charge, str], Awaitable[None]]
    hold: Hold | None = None  # when the store was away
    settled: bool = False

    async def settle(self, usage: Usage, outcome: str) -> None:
        """Give the place back and correct the reservation.  Settling twice changes nothing.

        Does not fail with the store: what it does not take now, it is told later.
        """
        if self.settled:
            return
        self.settled = True
        await self.end(self, charge(usage, outcome, self.wanted), outcome)
