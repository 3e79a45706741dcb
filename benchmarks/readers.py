"""Read many streams at once, over and over, and read to its end whatever was begun.

    python -m benchmarks.readers HOST PORT AT_ONCE SECONDS REQUEST        REQUEST: a file with head and body

wrk cuts at its end what has not come to one: of streams that would be a good part of the load, paid but not counted.
It also begins all of them in step; these begin evenly spread, as callers do.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import uvloop

from benchmarks.cases import EVENT_SECONDS, EVENTS

END = b"\r\n0\r\n\r\n"


class Reader(asyncio.Protocol):
    """One connection: a stream after the other until it is late enough."""

    def __init__(self, request: bytes, stop_at: float, seconds: list[float], ended: Callable[[bool], None]) -> None:
        self._request = request
        self._stop_at = stop_at
        self._seconds = seconds
        self._ended = ended
        self._received = bytearray()
        self._whole = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._received.endswith(END):
            return
        self._seconds.append(time.perf_counter() - self._asked)
        self._whole = self._received.startswith(b"HTTP/1.1 200") and self._received.count(b"data: {") == EVENTS
        if self._whole and time.perf_counter() < self._stop_at:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._ended(self._whole)

    def _ask(self) -> None:
        self._received.clear()
        self._whole = False
        self._asked = time.perf_counter()
        self._transport.write(self._request)


async def read(host: str, port: int, at_once: int, seconds: float, request: bytes) -> dict[str, float]:
    """What wrk would say."""
    loop, took, endings = asyncio.get_running_loop(), [0.0] * 0, [True] * 0
    began = time.perf_counter()
    for _ in range(at_once):
        reader = partial(Reader, request, began + seconds, took, endings.append)
        await loop.create_connection(reader, host, port)
        await asyncio.sleep(EVENTS * EVENT_SECONDS / at_once)
    while len(endings) < at_once:  # noqa: ASYNC110 - it is the process's only task
        await asyncio.sleep(EVENT_SECONDS)
    cuts = statistics.quantiles(took, n=100) if len(took) > 1 else [0.0] * 99
    return {
        "calls": len(took), "wrong": endings.count(False), "seconds": time.perf_counter() - began,
        "p50_ms": cuts[49] * 1000, "p99_ms": cuts[98] * 1000,
    }  # fmt: skip


if __name__ == "__main__":
    host, port, at_once, seconds, request = sys.argv[1:]
    print(json.dumps(uvloop.run(read(host, int(port), int(at_once), float(seconds), Path(request).read_bytes()))))
