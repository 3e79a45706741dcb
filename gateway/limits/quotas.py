"""What are a client's limits, as numbers?

The same limits in two sizes: the whole, which the state store counts for all workers, and one worker's share of it,
for the time in which the store is unavailable.
"""

from typing import NamedTuple, Self

from gateway.config import Client
from gateway.limits.estimate import Estimate

LIMITS = ("requests_per_minute", "tokens_per_minute", "tokens_per_day", "images_per_day", "concurrent")


class Quotas(NamedTuple):
    """A client's limits; 0 is none.  The order is that of the scripts' first argument."""

    requests_per_minute: int
    burst: int
    tokens_per_minute: int
    tokens_per_day: int
    images_per_day: int
    concurrent: int

    @classmethod
    def of(cls, client: Client, parts: int = 1) -> Self:
        """One of `parts` shares: rounded down, at least 1."""

        def share(limit: int | None) -> int:
            return 0 if limit is None else max(1, limit // parts)

        return cls(
            share(client.requests_per_minute),
            0 if client.requests_per_minute is None else share(client.burst or client.requests_per_minute),
            share(client.tokens_per_minute),
            share(client.tokens_per_day),
            share(client.images_per_day),
            share(client.concurrent),
        )

    def reserved(self, estimate: Estimate) -> tuple[int, int]:
        """Tokens and pictures to reserve: never more than goes through at once, so that no call is unadmittable."""
        tokens, images = estimate.tokens, estimate.images
        for limit in (self.tokens_per_minute, self.tokens_per_day):
            tokens = min(tokens, limit or tokens)
        return tokens, min(images, self.images_per_day or images)
