"""A worker with an app of the tests in it: enough to see how processes start, serve and leave."""

import asyncio
import ctypes
import json
import os
import resource
import sys
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.config.settings import Settings
from gateway.processes.worker import run

PR_GET_DUMPABLE = 3


class StandIn:
    """Answers each path with what a test asks about."""

    def __init__(self, settings: Settings) -> None:
        if "STAND_IN_FAILS" in os.environ:
            sys.exit("told to fail")
        self._settings = settings
        registry = CollectorRegistry()
        self._calls = Counter("gateway_requests_total", "Calls to /count.", ["model"], registry=registry)
        self._in_flight = Gauge(
            "gateway_in_flight_requests", "Sleepers.", ["client"], registry=registry, multiprocess_mode="livesum"
        )
        self._draining = False

    def begin_drain(self) -> None:
        self._draining = True

    def stop_accepting(self) -> None:
        pass

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{phase}.complete"})
            return
        status, body = await self._answer(scope["path"])
        headers = [(b"content-length", b"%d" % len(body))] + [(b"connection", b"close")] * self._draining
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, path: str) -> tuple[int, bytes]:
        match path.split("/")[1:]:
            case ["readyz"]:
                return 503 if self._draining else 200, b""
            case ["sleep", seconds]:
                with self._in_flight.labels("any").track_inprogress():
                    await asyncio.sleep(float(seconds))  # slow on purpose: a call in flight for so long
            case ["settings"]:
                return 200, self._settings.model_dump_json().encode()
            case ["hardened"]:
                dumpable = ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
                return 200, json.dumps([dumpable, resource.getrlimit(resource.RLIMIT_CORE)[0]]).encode()
            case ["count"]:
                self._calls.labels("any").inc()
        return 200, str(os.getpid()).encode()


if __name__ == "__main__":
    run(StandIn, sys.argv[1:])
