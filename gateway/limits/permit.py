"""What did the limits give a call, and what does it owe when it ends?"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.call import Call, Source, Usage
from gateway.limits.estimate import Estimate
from gateway.limits.local import Hold

# Outcomes that cost no tokens: nothing was sent, or what came was an error.
FREE = frozenset({"cache_hit", "collapsed", "upstream_error", "limited", "refused", "overloaded"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What one call is charged, and whether that is known."""

    tokens: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    images: int = 0
    source: Source = "none"


def charge(usage: Usage, outcome: str, wanted: Estimate, *, sent: bool) -> Charge:
    """What the answer reported; the estimate when it did not and the upstream may have billed all the same."""
    if outcome in FREE or not sent:
        return Charge()
    if usage.source == "none":
        if not (wanted.tokens or wanted.images):
            return Charge()
        return Charge(
            tokens=wanted.tokens,
            tokens_in=wanted.tokens_in,
            tokens_out=wanted.tokens_out,
            images=wanted.images,
            source="estimated",
        )
    return Charge(
        tokens=usage.total,
        tokens_in=usage.tokens_in,
        tokens_out=usage.tokens_out,
        images=usage.images_out,
        source=usage.source,
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

    async def settle(self, usage: Usage, outcome: str, *, sent: bool = True) -> None:
        """Give the place back and correct the reservation.  Settling twice changes nothing.

        `sent` says whether the call went to the upstream, which may then have billed it.  Never raises for the store:
        what it does not take now, it is told later.
        """
        if self.settled:
            return
        self.settled = True
        await self.end(self, charge(usage, outcome, self.wanted, sent=sent), outcome)
