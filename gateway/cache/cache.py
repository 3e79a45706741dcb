"""Is this answer cached, or is the same call in flight right now?

`Cache.open` finds the answer in the store (a hit); else it waits for an identical call in flight, in this worker or in
another (single-flight, request collapsing); else this call leads: it asks the upstream, for itself and for all that
come meanwhile.  The upstream call runs in a task that goes on for as long as anybody waits, with the gateway's own
timeout; each caller waits with their own deadline.

Within a worker followers wait for the flight.  Across workers they poll the store every 20 to 200 ms, each worker once
for all of its callers: the same script finds the answer, or that the leader gave up or died, and no wake-up can be
lost; and it marks in the store that somebody waits, which the leader checks before it gives up.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from msgspec import structs

from gateway.background import Background, Report, by_the_loop
from gateway.cache import control
from gateway.cache.answer import CachedAnswer
from gateway.cache.cache_store import CacheStore
from gateway.cache.claim import Claim
from gateway.cache.key import name_of
from gateway.cache.result import Ask, CacheResult
from gateway.cache.single_flight import SingleFlight
from gateway.call import Call
from gateway.errors import Draining, NotCached, UpstreamTimeout
from gateway.memory import MemoryLease

__all__ = ["Cache", "CacheResult", "CacheStore", "CachedAnswer", "SingleFlight"]

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.2  # seconds between two polls for another worker's answer
WANTED_PAUSE = 0.5  # seconds between two checks that other workers' callers still wait
CLOSING_SECONDS = 0.5  # for releasing claims at shutdown


class Counts(Protocol):
    """Counts what happens here."""

    def count_cache(self, client: str, result: str) -> None:
        """An answer was `stored`, or `refused`: not storable, or not taken by the store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A call that may be answered from the cache."""

    found: CacheResult
    name: str
    max_age: int  # seconds

    @property
    def same(self) -> tuple[str, int]:
        """The key under which calls share one flight: a stricter `max-age` must not get an older answer."""
        return self.name, self.max_age

    @property
    def oldest(self) -> float:
        """When the oldest acceptable answer was made."""
        return time.time() - self.max_age

    @property
    def call(self) -> Call:
        return self.found.call

    def answered(self, flight: SingleFlight) -> None:
        self.found.answered(flight, kept_seconds(self.call))


def kept_seconds(call: Call) -> int:
    """For how long the answer to a call is kept: the client's own time, within that of the operation."""
    own, longest = call.client.cache_ttl_seconds, call.operation.cache_seconds
    return own if longest is None else min(own, longest)


class Cache:
    """The cached answers of one upstream, and those in flight in this worker.

    `lease` reserves bytes of an answer in the worker's memory budget; `call_seconds` is the gateway's own timeout, and
    `stream_seconds` that of a stream from its first event on.  `report` receives failures of background work.
    """

    def __init__(
        self,
        cache_store: CacheStore,
        counts: Counts,
        *,
        upstream: str,
        lease: Callable[[], MemoryLease],
        call_seconds: float,
        stream_seconds: float = 3600,
        report: Report = by_the_loop,
    ) -> None:
        self._store, self._counts, self._lease = cache_store, counts, lease
        self._call_seconds, self._stream_seconds = call_seconds, stream_seconds
        self._upstream = upstream
        self._flights: dict[tuple[str, int], SingleFlight] = {}
        self._tasks: dict[asyncio.Task[None], SingleFlight] = {}
        self._background = Background(report)

    def open(self, call: Call, account: Any, ask: Ask) -> CacheResult:
        """Where the answer comes from, to be found out; `ask` asks the upstream, on the bill of `account`."""
        return CacheResult(call=call, account=account, ask=ask, lookup=self._lookup)

    async def _lookup(self, found: CacheResult) -> None:
        call = found.call
        directives = control.parse(call.cache_control)
        cacheable = call.operation.cacheable and call.plan.cacheable
        if call.client.cache == "off" or not directives.store or not cacheable:
            found.flight = None if directives.ask else self._ended(error=NotCached())
            return
        found.missed()
        max_age = min(directives.max_age, kept_seconds(call))
        name = await name_of(call, self._upstream)
        question = Question(found=found, name=name, max_age=max_age)
        if not directives.ask:
            cached = await self._store.find(name, question.oldest) if directives.reuse else None
            if cached is None:
                found.flight = self._ended(error=NotCached())
            else:
                question.answered(self._ended(cached=cached))
        elif not directives.reuse:
            flight = SingleFlight(self._lease())
            flight.join()
            self._lead(question, flight, None)
        else:
            await self._join_or_lead(question)

    async def aclose(self) -> None:
        """Cancel the calls in flight; answers that are already whole are still stored, within the store's timeout."""
        for task, flight in self._tasks.items():
            if not flight.ended.is_set():
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._background.wait(CLOSING_SECONDS)
        await self._background.aclose()

    def _ended(self, *, cached: CachedAnswer | None = None, error: Exception | None = None) -> SingleFlight:
        """A flight, joined, that has ended before anybody waited."""
        flight = SingleFlight(self._lease())
        flight.join()
        flight.end(cached=cached, error=error)
        return flight

    async def _join_or_lead(self, question: Question) -> None:
        found = question.found
        while (flight := self._flights.get(question.same)) is not None:
            with found.waiting(flight):
                usable = await flight.wait_for_leader()
            if usable:
                return question.answered(flight)
        flight = self._flights[question.same] = SingleFlight(self._lease(), partial(self._forget, question.same))
        flight.join()
        try:
            with found.waiting(flight):
                result = await self._find(question, flight)
        except BaseException:
            flight.end()  # who has waited for us tries for themselves
            flight.leave()
            raise
        if isinstance(result, Claim):
            return self._lead(question, flight, result)
        flight.end(cached=result)
        return question.answered(flight)

    async def _find(self, question: Question, flight: SingleFlight) -> CachedAnswer | Claim:
        """Poll until the answer is stored or no other worker has the claim."""
        pause, oldest = FIRST_PAUSE, question.oldest
        while (found := await self._store.find_or_claim(question.name, oldest)) is None:
            flight.asked = True
            await asyncio.sleep(pause * random.uniform(0.75, 1.25))
            pause = min(pause * 1.5, LONGEST_PAUSE)
        return found

    def _lead(self, question: Question, flight: SingleFlight, claim: Claim | None) -> None:
        """Start the upstream call; without a claim where the cache is not to be read (`no-cache`)."""
        task = asyncio.create_task(self._call_upstream(question, flight))
        self._tasks[task] = flight
        task.add_done_callback(partial(self._on_done, flight))
        flight.carried_by(task)
        self._background.keep("cache claim", partial(self._renew_claim, flight, claim))
        question.found.missed("fwd=request" if claim is None else "fwd=miss", flight)
        question.found.tells_stored = claim is not None and not question.call.stream

    async def _renew_claim(self, flight: SingleFlight, claim: Claim | None) -> None:
        """Renew the claim while the call is in flight; cancel the call when nobody waits any more, in any worker."""
        pause = lease = self._store.lease_seconds / 3
        while not await flight.done_within(pause):
            wanted = claim is not None and await claim.renew()
            if not flight.used and not wanted:
                flight.give_up()
            pause = lease if flight.used else min(lease, WANTED_PAUSE)
        if claim is not None:
            await claim.release()

    async def _call_upstream(self, question: Question, flight: SingleFlight) -> None:
        call, deadline = question.call, asyncio.get_running_loop().time() + self._call_seconds
        try:
            async with flight.deadline(deadline, then_seconds=self._stream_seconds if call.stream else None):
                found = question.found
                meter = await found.ask(structs.replace(call, deadline=deadline), found.account, flight)
        except TimeoutError:
            raise UpstreamTimeout from None
        flight.mark_storable(storable=meter.storable, tokens=meter.usage.total)
        flight.storable = flight.storable and self._store.takes(flight.held)
        cached, stored = flight.finish(), False
        if flight.storable:
            flight.memory.add(cached.size)  # the encoded value is a copy
            stored = await self._store.put(question.name, cached, kept_seconds(call))
            flight.memory.release(cached.size)
        self._counts.count_cache(call.client.name, "stored" if stored else "refused")

    def _on_done(self, flight: SingleFlight, task: asyncio.Task[None]) -> None:
        """Release everything, however the task ended: one that was cancelled early never began."""
        del self._tasks[task]
        flight.done(Draining() if task.cancelled() else task.exception())

    def _forget(self, same: tuple[str, int], flight: SingleFlight) -> None:
        if self._flights.get(same) is flight:
            del self._flights[same]
