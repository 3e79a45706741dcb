"""Is everything of a call gone when it has ended, or does something wait for the garbage collector?

The collector comes seldom, and a body that waits for it counts nowhere: a burst of failed calls would fill the memory.
"""

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.cache import SingleFlight
from gateway.call import Call
from gateway.pipeline.exchange import Exchange
from tests.support.gateway import GENERATE, STREAM, Gateway, Upstream, running, saying
from tests.support.valkey import Valkey
from tests.support.waiting import until

FAULTS = ("", "400", "429=9", "cut", "cutstart", "empty", "badjson", "html200", "redirect", "streamerror", "slow=0.01")


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector, and blind to what is there already, so that only what stays of these calls is seen."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def left() -> Counter[str]:
    """What is left of calls."""
    return Counter(type(thing).__name__ for thing in gc.get_objects() if type(thing) in {Call, Exchange, SingleFlight})


async def nothing_left(gateway: Gateway, case: object = "") -> None:
    """Wait until nothing is left: connections that were cut need a moment to close."""
    await gateway.at_rest()
    await until(lambda: not left(), 1, every_ms=50, tell=lambda: (case, left()))


async def ask(gateway: Gateway, path: str, text: str, *, patience: float = 10, more: Mapping[str, str] = {}) -> None:
    """Ask, and hang up when it takes too long; how it ends does not matter."""
    with contextlib.suppress(httpx.RemoteProtocolError, TimeoutError):
        async with asyncio.timeout(patience):
            await gateway.http.post(path, json=saying(text), headers=more)


@pytest.mark.parametrize("cache", ["off", "private"])
async def test_no_call_waits_for_the_collector(cache: str, tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """D8: however a call ends, well, badly, late or left, alone or with followers, nothing of it stays."""
    terms = {"design": f'cache = "{cache}"'}
    async with running(tmp_path, upstream.url, redis_url=state.url, clients=terms) as gateway:
        for path in (GENERATE, STREAM):
            for fault in FAULTS:
                text = f"sandbox-fault: {fault} " if fault else "plain"
                with uncollected():
                    await asyncio.gather(*(ask(gateway, path, text) for _ in range(3)))
                    await ask(gateway, path, text)
                    await nothing_left(gateway, (fault, path))
            with uncollected():
                await ask(gateway, path, "sandbox-fault: slow=0.4 ", patience=0.1)
                slow = [
                    ask(gateway, path, "sandbox-fault: slow=1.2 ", more={"x-server-timeout": "1"}) for _ in range(2)
                ]
                await asyncio.gather(*slow, ask(gateway, "/nowhere", "nothing"), ask(gateway, path, "x" * 2**20))
                await nothing_left(gateway, ("late", path))


async def test_an_upstream_that_is_away_leaves_nothing(tmp_path: Path, state: Valkey) -> None:
    """D8 U9: neither the attempts nor the breaker keep a call."""
    for cache in ("off", "private"):
        folder = tmp_path / cache
        folder.mkdir()
        terms = {"design": f'cache = "{cache}"'}
        async with running(folder, "http://127.0.0.1:9", redis_url=state.url, clients=terms) as gateway:
            with uncollected():
                await asyncio.gather(*(ask(gateway, GENERATE, f"{number % 4}") for number in range(12)))
                await nothing_left(gateway)


async def test_refused_calls_leave_nothing(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """D8: a client that is over its limits, or sends too much, keeps nothing of us by being refused."""
    terms = {
        "design": "requests_per_minute = 1\nburst = 1",
        "spent": "tokens_per_day = 1",
        "busy": "concurrent = 1",
        "narrow": 'models = ["nothing"]',
    }
    settings: dict[str, Any] = {"redis_url": state.url, "clients": terms, "max_body_bytes": 2**20}
    async with running(tmp_path, upstream.url, **settings) as gateway:
        clients = {**gateway.keys, "stranger": "thg_nobody"}
        for name, key in clients.items():
            with uncollected():
                texts = ["plain", "x" * 100_000, "x" * 2**20, "sandbox-fault: slow=0.2 "]
                await asyncio.gather(
                    *(ask(gateway, GENERATE, text, more={"x-goog-api-key": key}) for text in texts * 2)
                )
                await nothing_left(gateway, name)
        assert {429, 413, 403, 401} <= {entry["status"] for entry in await gateway.entries(8 * len(clients))}
