"""What do the limits grant a call, and what is it charged when it ends?"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from msgspec import structs

from gateway.call import Call, Kind, Modality, Source, Usage
from gateway.limits.estimate import Estimate
from gateway.limits.fallback import LocalReservation

NO_NOTES: Mapping[str, str] = {}
FREE = frozenset({"cache_hit", "collapsed"})  # whatever usage the answer reports: another call paid for it


class Charge(NamedTuple):
    """What one call is charged, and whether that is reported or estimated; nothing for one that never began."""

    requests: int = 0
    tokens: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    images: int = 0
    videos: int = 0
    source: Source = "none"


def charged(usage: Usage, outcome: str, estimate: Estimate) -> Usage:
    """The usage to charge: what the answer reported; the estimate where it reported none but was billed."""
    if outcome in FREE or (usage.source == "none" and outcome != "ok"):
        return Usage()
    if usage.source == "estimated" and usage.tokens and not usage.tokens_in:  # by the text of the answer alone
        tokens = {**usage.tokens, ("input", "unknown"): estimate.tokens_in}
        return structs.replace(usage, tokens=tokens, total=usage.total + estimate.tokens_in)
    if usage.total or usage.source == "reported":
        return usage
    sizes: dict[tuple[Kind, Modality], int] = {
        ("input", "unknown"): estimate.tokens_in,
        ("output", "unknown"): estimate.tokens_out,
    }
    return structs.replace(
        usage,
        tokens={kind: size for kind, size in sizes.items() if size},
        total=estimate.tokens,
        images_out=max(estimate.images, usage.images_out),
        videos=max(estimate.videos, usage.videos),
        source="estimated" if estimate.tokens or estimate.images or estimate.videos else "none",
    )


@dataclass(slots=True, kw_only=True, eq=False)
class Permit:
    """A lease and a reservation, to be given back once."""

    call: Call
    id: str
    at: int  # ms, this machine's clock
    estimate: Estimate
    end: Callable[["Permit", Charge, str, Mapping[str, str]], Awaitable[None]]
    reservation: LocalReservation | None = None  # when the store was unavailable
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)  # what is left of the limits, for the caller
    settled: bool = False

    def charged(self, usage: Usage, outcome: str) -> Usage:
        """The usage that a call with this outcome is charged."""
        return charged(usage, outcome, self.estimate)

    async def settle(self, usage: Usage, outcome: str, notes: Mapping[str, str] = NO_NOTES) -> None:
        """Give the lease back and correct the reservation to what is charged.  Settling twice changes nothing.

        `notes` are further fields of the record.  Does not fail with the store: what it does not take now is
        sent again later.
        """
        if self.settled:
            return
        self.settled = True
        usage = charged(usage, outcome, self.estimate)
        charge = Charge(
            requests=self.estimate.requests,
            tokens=usage.total,
            tokens_in=usage.tokens_in,
            tokens_out=usage.tokens_out,
            images=usage.images_out,
            videos=usage.videos,
            source=usage.source,
        )
        await self.end(self, charge, outcome, notes)
