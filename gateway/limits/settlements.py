"""Has the store acknowledged the settlement of every call?

A settlement that it did not acknowledge waits in a bounded queue and is sent again (at-least-once delivery); receiving
it twice changes nothing, for as long as the store remembers the first.  A settlement goes by the limits that are in
force when it is sent, since those of its admission may have changed.
"""

import asyncio
import time
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from gateway.limits.client_limits import ClientLimits
from gateway.limits.corrections import Correction
from gateway.limits.counts import Counts
from gateway.store import Store, StoreUnavailable

CHUNK = 100  # scripts sent at once when there are many
REMEMBERED_SECONDS = 3000  # less than the hour for which the store knows the calls that were settled


class Settlement(NamedTuple):
    """What settle.lua receives of one call, now or when the store is back."""

    client: str
    facts: bytes
    maybe_received: float | None = None  # since when the store may have it, monotonic
    correction: Correction | None = None  # of a task, for which there is correct.lua: see there


class Settlements:
    """The settlements of one worker's calls that the store has not acknowledged yet."""

    def __init__(self, store: Store, counts: Counts, limits: Mapping[str, ClientLimits], room: int) -> None:
        self._store, self._counts, self._limits, self._room = store, counts, limits, room
        self._queue = deque[Settlement]()
        self._sending: set[asyncio.Future[int]] = set()

    def send(self, settlement: Settlement) -> asyncio.Future[int]:
        limits = self._limits[settlement.client]
        script = limits.settle if settlement.correction is None else limits.correct
        reply = self._store.run(script, settlement.facts)
        self._sending.add(reply)
        reply.add_done_callback(partial(self._on_reply, settlement))
        return reply

    def _on_reply(self, settlement: Settlement, reply: asyncio.Future[int]) -> None:
        """Queue a settlement that the store may not have received; receiving it twice does no harm."""
        self._sending.discard(reply)
        error = asyncio.CancelledError() if reply.cancelled() else reply.exception()
        if error is not None:
            not_sent = isinstance(error, StoreUnavailable) and not error.sent
            if settlement.maybe_received is None and not not_sent:
                settlement = settlement._replace(maybe_received=time.monotonic())
            if len(self._queue) < self._room:
                self._queue.append(settlement)
            else:
                self._counts.dropped()
        elif (correction := settlement.correction) is not None:
            if reply.result() == 1:
                self._counts.corrected(settlement.client, correction.model, correction.after.get("tokens", 0))
        elif reply.result() == 0 and settlement.maybe_received is None:
            self._counts.late()

    async def flush(self) -> None:
        """Send queued settlements, each once: what the store misses again waits for the next heartbeat."""
        left = len(self._queue)
        while left and self._store.up:
            settlements = [self._queue.popleft() for _ in range(min(CHUNK, left))]
            left -= len(settlements)
            if sent := [self.send(settlement) for settlement in settlements if self._in_time(settlement)]:
                await asyncio.wait(sent)

    def _in_time(self, settlement: Settlement) -> bool:
        """Whether the store still remembers what it may have received; else it would be counted twice."""
        if settlement.correction is not None:  # a task is open but once, however late
            return True
        if settlement.maybe_received is None or time.monotonic() - settlement.maybe_received < REMEMBERED_SECONDS:
            return True
        self._counts.dropped()
        return False

    async def aclose(self) -> None:
        """Wait for what is being sent and send the rest, if the store is available; count what cannot be sent."""
        if self._sending:
            await asyncio.wait(self._sending)
        await self.flush()
        for _ in self._queue:
            self._counts.dropped()
