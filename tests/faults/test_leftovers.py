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


async def left(gateway: Gateway) -> dict[str, int]:
    """What is left of calls when connections that were cut have had the time to close."""
    await gateway.at_rest()
    for _ in range(20):
        counts = Counter(
            type(thing).__name__ for thing in gc.get_objects() if type(thing) in {Call, Exchange, SingleFlight}
        )
        if not counts:
            break
        await asyncio.sleep(0.05)
    return dict(counts)


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
        found = {}
        for path in (GENERATE, STREAM):
            for fault in FAULTS:
                text = f"sandbox-fault: {fault} " if fault else "plain"
                with uncollected():
                    await asyncio.gather(*(ask(gateway, path, text) for _ in range(3)))
                    await ask(gateway, path, text)
                    found[fault, path] = await left(gateway)
            with uncollected():
                await ask(gateway, path, "sandbox-fault: slow=0.4 ", patience=0.1)
                slow = [
                    ask(gateway, path, "sandbox-fault: slow=1.2 ", more={"x-server-timeout": "1"}) for _ in range(2)
                ]
                await asyncio.gather(*slow, ask(gateway, "/nowhere", "nothing"), ask(gateway, path, "x" * 2**20))
                found["late", path] = await left(gateway)
    assert {} == {case: count for case, count in found.items() if count}


async def test_an_upstream_that_is_away_leaves_nothing(tmp_path: Path, state: Valkey) -> None:
    """D8 U9: neither the attempts nor the breaker keep a call."""
    for cache in ("off", "private"):
        folder = tmp_path / cache
        folder.mkdir()
        terms = {"design": f'cache = "{cache}"'}
        async with running(folder, "http://127.0.0.1:9", redis_url=state.url, clients=terms) as gateway:
            with uncollected():
                await asyncio.gather(*(ask(gateway, GENERATE, f"{number % 4}") for number in range(12)))
                assert {} == await left(gateway)


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
        found = {}
        for name, key in {**gateway.keys, "stranger": "thg_nobody"}.items():
            with uncollected():
                texts = ["plain", "x" * 100_000, "x" * 2**20, "sandbox-fault: slow=0.2 "]
                await asyncio.gather(
                    *(ask(gateway, GENERATE, text, more={"x-goog-api-key": key}) for text in texts * 2)
                )
                found[name] = await left(gateway)
        assert {429, 413, 403, 401} <= {entry["status"] for entry in await gateway.entries(8 * len(found))}
    assert {} == {name: count for name, count in found.items() if count}
