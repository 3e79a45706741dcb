"""Waiting until something holds, instead of for time to pass: `until` in tests with a loop, `wait_until` in others."""

import asyncio
import inspect
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
VAIN = "waited in vain"


async def until(
    holds: Callable[[], Any],
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
