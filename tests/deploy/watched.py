"""A real `serve` for Prometheus to watch, and calls that end in every way a dashboard distinguishes."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from gateway.config.clients import new_key
from tests.support.gateway import GENERATE, STREAM, UPSTREAM_KEY, clients_toml, saying
from tests.support.waiting import wait_until

READY_WITHIN_SECONDS = 20
TERMS = {
    "design": "images_per_day = 1000",
    "batch": "requests_per_minute = 1\nburst = 1",
    "news": 'cache = "private"\nimages_per_day = 1',
}
PRO = GENERATE.replace("gemini-2.5-flash", "gemini-2.5-pro")
PICTURE = GENERATE.replace("gemini-2.5-flash", "gemini-2.5-flash-image")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HELLO = saying("Hello")
EDIT: dict[str, Any] = {
    "contents": [{"parts": [{"text": "Red"}, {"inlineData": {"mimeType": "image/png", "data": PIXEL}}]}]
}


@dataclass(kw_only=True)
class Watched:
    """A running gateway, and whoever calls it."""

    url: str
    metrics: str  # host:port of the operators' listener
    keys: dict[str, str]
    clients_file: Path

    async def good_calls(self) -> list[int]:
        """Answers, cached answers, streams, pictures out and in; the statuses."""
        calls = [("design", GENERATE, HELLO), ("design", STREAM, HELLO), ("design", PICTURE, EDIT)]
        return await self._make([*calls, *2 * [("news", GENERATE, HELLO)]])

    async def bad_calls(self) -> list[int]:
        """Limited, unknown, our key refused, without usage, and broken off until the breaker opens; the statuses."""
        calls = [*3 * [("batch", GENERATE, HELLO)], ("nobody", GENERATE, HELLO), ("news", PICTURE, HELLO)]
        calls += [("design", GENERATE, saying("sandbox-fault: key"))]
        calls += [("design", GENERATE, saying("sandbox-fault: nousage"))] * 6
        calls += [("design", STREAM, saying("sandbox-fault: cut"))]
        calls += [("design", PRO, saying("sandbox-fault: cut"))] * 25
        return await self._make(calls)

    async def _make(self, calls: list[tuple[str, str, dict[str, Any]]]) -> list[int]:
        async with httpx.AsyncClient(base_url=self.url, timeout=20, trust_env=False) as http:
            return [
                await status(
                    http.stream("POST", path, json=body, headers={"x-goog-api-key": self.keys.get(client, "none")})
                )
                for client, path, body in calls
            ]


async def status(asked: AbstractAsyncContextManager[httpx.Response]) -> int:
    """The status of an answer, taken to its end, which may be that it breaks off."""
    async with asked as response:
        with contextlib.suppress(httpx.RemoteProtocolError):
            await response.aread()
        return response.status_code


@contextlib.contextmanager
def watched(folder: Path, upstream: str) -> Iterator[Watched]:
    """A gateway with its embedded store in front of `upstream`."""
    keys = {name: new_key() for name in TERMS}
    clients_file, log = folder / "clients.toml", folder / "gateway.log"
    clients_file.write_text(clients_toml(keys, TERMS))
    settings = {
        "GATEWAY_CLIENTS_FILE": str(clients_file), "GATEWAY_DATA_DIR": str(folder / "store"), "GATEWAY_PORT": "0",
        "GATEWAY_METRICS_PORT": "0", "GATEWAY_UPSTREAM_URL": upstream, "GATEWAY_UPSTREAM_KEY": UPSTREAM_KEY,
    }  # fmt: skip
    argv = [sys.executable, "-m", "gateway", "serve"]
    with log.open("wb") as output:
        process = subprocess.Popen(argv, env=os.environ | settings, stdout=output, stderr=output)
    try:
        ready = wait_until(lambda: event(log, "ready"), READY_WITHIN_SECONDS)
        metrics = httpx.URL(ready["metrics"]).netloc.decode()
        yield Watched(url=ready["url"], metrics=metrics, keys=keys, clients_file=clients_file)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def event(log: Path, name: str) -> dict[str, Any] | None:
    """The first line of a log with this."""
    found = [line for line in log.read_text().rpartition("\n")[0].splitlines() if f'"event":"{name}"' in line]
    return dict(json.loads(found[0])) if found else None
