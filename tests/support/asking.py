"""Workers that share one cache store, and an upstream whose answer holds who asked, what, and a number."""

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from gateway.cache import Cache, CacheResult, CacheStore
from gateway.cache.result import Ask
from gateway.call import Call, Usage
from gateway.config.clients import Client
from gateway.memory.budget import MemoryBudget
from gateway.store import Store
from tests.support.calls import call_for
from tests.support.waiting import until

UPSTREAM = "http://upstream"
JSON, SSE = "application/json", "text/event-stream"


def client(name: str = "design", **terms: Any) -> Client:
    """A client with a private cache, unless its terms say otherwise."""
    return Client(name=name, key_sha256=("0" * 64,), **({"cache": "private"} | terms))


def call(of: Client | None = None, **facts: Any) -> Call:
    """A unary call of a client's, unless facts say otherwise."""
    return call_for(of or client(), **({"body": b'{"contents": []}'} | facts))


def stream(of: Client | None = None, **facts: Any) -> Call:
    """A streamed call, as server-sent events."""
    return call(of, **({"method": "streamGenerateContent", "query": "alt=sse"} | facts))


@dataclass
class Seen:
    """What a meter says at the end of such an answer."""

    storable: bool
    usage: Usage = field(default_factory=lambda: Usage(total=7))


class Upstream:
    """Answers with the client's name, the hash of the body and a number; `open` lets answers out."""

    def __init__(self, *, storable: bool = True, error: Exception | None = None, pieces: int = 1) -> None:
        self.asked: list[Call] = []
        self.cancelled = 0
        self.storable, self.error, self.pieces = storable, error, pieces
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, one: Call, _: Any, flight: Any) -> Any:
        """What the pipeline does: ask, write down, and say what came of it."""
        self.asked.append(one)
        number = len(self.asked)
        try:
            if not one.stream:
                await self.open.wait()
                await flight.whole(200, JSON, said(one, number))
            else:
                await flight.begin(200, SSE)
                for piece in range(self.pieces):
                    await flight.write(said(one, number, piece))
                    await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return Seen(storable=self.storable)


def said(one: Call, number: int, piece: int = 0) -> bytes:
    """What the upstream answers: who asked what, and a nonce."""
    return f"{one.client.name} {hashlib.sha256(one.upstream.body).hexdigest()} {number} {piece}\n".encode()


class Worker:
    """One worker's cache, and what it counted."""

    def __init__(self, url: str, *, call_seconds: float = 30, **options: Any) -> None:
        self.counted = Counter[tuple[str, str]]()
        self.replies = Counter[str]()  # of the store, by script or command
        timeout = options.pop("timeout", 1.0)
        self.store = Store(url, timeout=timeout, connections=4, full_is_unavailable=False, observe=self._replied)
        self.cache_store = CacheStore(self.store, **options)
        self.memory_budget = MemoryBudget(2**30)
        self.cache = Cache(
            self.cache_store, self, upstream=UPSTREAM, lease=self.memory_budget.lease, call_seconds=call_seconds
        )

    def count_cache(self, name: str, result: str) -> None:
        self.counted[name, result] += 1

    def _replied(self, operation: str, _seconds: float) -> None:
        self.replies[operation] += 1

    async def waits(self, callers: int) -> None:
        """Wait until so many callers wait here, for this worker's own leader or for another worker's."""
        await until(lambda: callers == sum(flight._users for flight in self.cache._flights.values()))

    async def hears(self, operation: str, times: int = 1) -> None:
        """Wait until the store has replied so often from now on."""
        goal = self.replies[operation] + times
        await until(lambda: self.replies[operation] >= goal)

    async def open(self, one: Call, ask: Ask) -> CacheResult:
        """What the pipeline does first."""
        found = self.cache.open(one, None, ask)
        await found.find()
        return found

    async def get(self, one: Call, ask: Upstream) -> tuple[str, bytes]:
        """How an answer came, and all of it."""
        result, _, body = await self.answer_of(one, ask)
        return result, body

    async def answer_of(self, one: Call, ask: Upstream) -> tuple[str, dict[str, str], bytes]:
        """The same with the headers, as they are when the first byte is sent."""
        headers: dict[str, str] = {}
        body = []
        with leaving(await self.open(one, ask)) as found:
            assert found.flight is not None
            if not one.stream:
                await found.flight.answer()
            async for chunk in found.flight.play():
                headers = headers or {name.decode(): value.decode() for name, value in found.headers()}
                body.append(bytes(chunk))
        return found.result, headers, b"".join(body)

    async def at_rest(self) -> None:
        """Wait until nothing is asked or stored any more."""
        await until(lambda: not self.cache._tasks and not self.cache._flights)
        assert 0 == self.memory_budget.held


@contextlib.asynccontextmanager
async def worker(url: str, **options: Any) -> AsyncIterator[Worker]:
    """A worker that ends with its context; options are those of `CacheStore`, the store's `timeout`, and `call_seconds`."""
    one = Worker(url, **options)
    try:
        yield one
    finally:
        await one.cache.aclose()
        await one.store.aclose()


@contextlib.contextmanager
def leaving(found: CacheResult) -> Iterator[CacheResult]:
    """Leave it at the end, as the pipeline does."""
    try:
        yield found
    finally:
        found.leave()


def asking(one: Call, **facts: Any) -> Call:
    """The same call with other facts."""
    return structs.replace(one, **facts)
