"""Waiting until something holds, instead of for time to pass: `until` in tests with a loop, `wait_until` in others."""

import asyncio
import contextlib
import inspect
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

T = TypeVar("T")
VAIN = "waited in vain"


async def until(
    holds: Callable[..., Any],
    seconds: float = 5.0,
    *,
    every_ms: float = 5,
    tell: Callable[[], object] = lambda: VAIN,
) -> Any:
    """Return the first true value of a condition, which may have to be awaited.  Fails with `tell` when there is none."""
    deadline = time.monotonic() + seconds
    while True:
        value = holds()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, tell()
        await asyncio.sleep(every_ms / 1000)  # between two looks


def wait_until(
    holds: Callable[[], T | None],
    seconds: float = 5.0,
    *,
    every_ms: float = 10,
    tell: Callable[[], object] = lambda: VAIN,
) -> T:
    """The same where nothing else happens in this process meanwhile."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, tell()
        time.sleep(every_ms / 1000)  # between two looks
    return value


async def turns(count: int = 1) -> None:
    """Let the loop turn so often, where it is the turns that count."""
    for _ in range(count):
        await asyncio.sleep(0)  # one turn


@contextlib.asynccontextmanager
async def stalls() -> AsyncIterator[list[float]]:
    """For how many seconds the loop stood still, each time that it did while the context was open."""
    found = [0.0]

    async def watch() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)  # how late the loop comes back to it is what is measured
            found.append(time.perf_counter() - before - 0.001)

    watcher = asyncio.create_task(watch())
    try:
        yield found
    finally:
        watcher.cancel()
