"""Has the store heard of the end of every call?

What it did not take waits in a queue, which is bounded, and is told again; hearing it twice does no harm, as long as
the store knows that it has.  A settlement goes by the limits that are in force when it is told, since those of its
admission may have changed.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from gateway.limits.account import Account
from gateway.limits.counts import Counts
from gateway.store import Store, StoreAway

CHUNK = 100  # scripts sent at once when there is much to tell
HEARD_SECONDS = 3000  # less than the hour for which the store knows the calls that were settled


class Ending(NamedTuple):
    """What settle.lua is told of one call, now or when the store is back."""

    client: str
    facts: bytes
    heard: float | None = None  # since when the store may have heard it, monotonic


class Endings:
    """The ends of one worker's calls, on their way to the store."""

    def __init__(self, store: Store, counts: Counts, accounts: Mapping[str, Account], room: int) -> None:
        self._store, self._counts, self._accounts, self._room = store, counts, accounts, room
        self._queue = deque[Ending]()
        self._telling: set[asyncio.Future[int]] = set()

    def tell(self, ending: Ending) -> asyncio.Future[int]:
        told = self._store.run(self._accounts[ending.client].settle, ending.facts)
        self._telling.add(told)
        told.add_done_callback(partial(self._told, ending))
        return told

    def _told(self, ending: Ending, told: asyncio.Future[int]) -> None:
        """Keep what the store may not have heard; that it may hear it twice does no harm."""
        self._telling.discard(told)
        error = asyncio.CancelledError() if told.cancelled() else told.exception()
        if error is not None:
            unheard = isinstance(error, StoreAway) and not error.sent
            if ending.heard is None and not unheard:
                ending = ending._replace(heard=time.monotonic())
            if len(self._queue) < self._room:
                self._queue.append(ending)
            else:
                self._counts.dropped()
        elif told.result() == 0 and ending.heard is None:
            self._counts.late()

    async def flush(self) -> None:
        """Tell what the store missed, each once: what it misses again waits for the next beat."""
        left = len(self._queue)
        while left and self._store.up:
            endings = [self._queue.popleft() for _ in range(min(CHUNK, left))]
            left -= len(endings)
            if told := [self.tell(ending) for ending in endings if self._in_time(ending)]:
                await asyncio.wait(told)

    def _in_time(self, ending: Ending) -> bool:
        """What the store heard so long ago that it has forgotten it would be counted twice."""
        if ending.heard is None or time.monotonic() - ending.heard < HEARD_SECONDS:
            return True
        self._counts.dropped()
        return False

    async def aclose(self) -> None:
        """Wait for what is being told and tell the rest, if the store is there; count what cannot be told."""
        if self._telling:
            await asyncio.wait(self._telling)
        await self.flush()
        for _ in self._queue:
            self._counts.dropped()
