"""How often may a client ask for its tasks?  Often, since SDKs do; so it has nothing to do with its other limits."""

import math
import time
from collections.abc import Callable

from gateway.config import Client
from gateway.errors import RateLimited
from gateway.limits.client_limits import key
from gateway.store import Script, Store, StoreUnavailable

POLLS_PER_SECOND = 10
LIMIT = "polls_per_second"  # its label
ALLOW = Script.read("gateway.limits", "allow")


class PollAllowance:
    """So many a second for each client, as many at once, over all workers together."""

    def __init__(self, store: Store, parts: int, clock: Callable[[], float] = time.monotonic) -> None:
        """While the store is unavailable each of so many workers gives its share of them, at least one a second."""
        self._store, self._clock = store, clock
        self._share = max(1, POLLS_PER_SECOND // parts)
        self._empty: dict[str, float] = {}  # when the bucket of a client is, while the store is unavailable

    async def take(self, client: Client) -> None:
        """Raises `RateLimited`."""
        try:
            wait = await self._store.script(
                ALLOW, [key(client.name, "polls")], [1000 / POLLS_PER_SECOND, POLLS_PER_SECOND]
            )
        except StoreUnavailable:
            wait = self._take_locally(client.name)
        if wait:
            seconds = max(1, math.ceil(wait / 1000))
            raise RateLimited(
                f"{LIMIT}: {POLLS_PER_SECOND} are allowed. Please retry after {seconds} seconds.",
                retry_after=seconds,
                metadata={"limit": LIMIT, "client": client.name},
            )

    def _take_locally(self, name: str) -> float:
        """Milliseconds to wait."""
        now, pace = self._clock(), 1 / self._share
        empty = max(self._empty.get(name, 0.0), now) + pace
        if empty > now + 1 + 1e-6:
            return (empty - now - 1) * 1000
        self._empty[name] = empty
        return 0
