"""A worker with an app of the tests in it: enough to see how processes start, serve and leave."""

import asyncio
import ctypes
import json
import os
import resource
import sys
from typing import Any

from gateway.metrics import Metrics
from gateway.settings import Settings
from gateway.worker import run

PR_GET_DUMPABLE = 3


class StandIn:
    """Answers each path with what a test asks about."""

    def __init__(self, settings: Settings) -> None:
        if "STAND_IN_FAILS" in os.environ:
            sys.exit("told to fail")
        self._settings = settings
        self._metrics = Metrics()
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
                with self._metrics.in_flight.labels("a").track_inprogress():
                    await asyncio.sleep(float(seconds))
            case ["settings"]:
                return 200, self._settings.model_dump_json().encode()
            case ["hardened"]:
                dumpable = ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0)
                return 200, json.dumps([dumpable, resource.getrlimit(resource.RLIMIT_CORE)[0]]).encode()
            case ["count"]:
                self._metrics.requests.labels("a", "b", "c", "200", "ok").inc()
        return 200, str(os.getpid()).encode()


if __name__ == "__main__":
    run(StandIn, sys.argv[1:])
