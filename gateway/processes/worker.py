"""How does one worker process serve, and how does it leave without losing a call?

The parent starts it as `python -m gateway.processes.worker LISTENER LIFELINE READY NOTICE`: three descriptors that it
inherits, and seconds.  One byte on READY says that it serves, end of file there that it is gone; LIFELINE reaches
end of file when the parent is gone; the settings are in the environment.  Its shutdown (drain) has four steps; what
causes it decides how long the first two last:

    1. notice    still accepts, while `/readyz` says 503 and every answer closes its connection
    2. linger    accepts no more, still serves the connections it has
    3. finish    idle connections are closed, calls in flight go on for GATEWAY_DRAIN_SECONDS, then they are cancelled
    4. close     the app closes what it holds, and the process exits with 0
"""

import asyncio
import contextlib
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import uvicorn

from gateway.asgi import Receive, Scope, Send
from gateway.background import Background
from gateway.config import Settings, load
from gateway.memory import malloc
from gateway.processes.sockets import BACKLOG

KEEP_ALIVE_SECONDS = 75
LINGER_SECONDS = 0.2  # what was accepted last must be read before idle connections can be recognized
CANCEL_SECONDS = 5.0  # for the settlement of calls that were cancelled
CLOSE_SECONDS = 5.0  # for the app's own shutdown
POLL_SECONDS = 0.02
COLLECT_AFTER = (10_000, 20, 50)  # calls make few reference cycles, and collecting them was a tenth of their cost
PR_SET_DUMPABLE = 4
MOST_FILES = 2**20  # memory for so many calls ends before; some programs prepare for every descriptor that they may get


class App(Protocol):
    """What a worker needs of the app: ASGI with a lifespan, and the two steps of its drain."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...

    def begin_drain(self) -> None:
        """Say 503 on `/readyz` and close each connection with its answer."""

    def stop_accepting(self) -> None:
        """Refuse calls that still come."""


class Worker(uvicorn.Server):
    """A uvicorn server on an inherited socket that drains on signals and on its parent's death."""

    def __init__(
        self,
        app: App,
        config: uvicorn.Config,
        *,
        lifeline: int,
        ready: int,
        notice_seconds: float,
        drain_seconds: float,
    ) -> None:
        super().__init__(config)
        self.servers = []  # uvicorn sets it late, and a signal may arrive before
        self._app = app
        self._lifeline = lifeline
        self._ready = ready
        self._notice_seconds = notice_seconds
        self._drain_seconds = drain_seconds
        self._background = Background()
        self._leaving: asyncio.Task[Any] | None = None
        self._hurried = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Handle all that makes us leave.  uvicorn's way would end the process by the signal instead of with 0."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._leave, self._notice_seconds, LINGER_SECONDS)
        loop.add_signal_handler(signal.SIGHUP, self._leave, 0.0, self._notice_seconds)  # another has our place
        loop.add_signal_handler(signal.SIGINT, self._hurry)
        loop.add_reader(self._lifeline, self._lose_parent)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        # A thread that reads a large body never lets go of the interpreter: two of them stall the loop twice as long.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1, "large-bodies"))
        await super().startup(sockets)
        with contextlib.suppress(BrokenPipeError):  # the parent is gone, and the lifeline will show it
            os.write(self._ready, b"1")
        gc.collect()
        gc.freeze()  # what start-up made stays: no collection need visit it again
        gc.set_threshold(*COLLECT_AFTER)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002 - uvicorn's signature
        """Finish and close.  uvicorn's way would close the app before cancelled calls have settled."""
        self._stop_listening()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._wait_until_idle(self._drain_seconds)
        for task in self.server_state.tasks:
            task.cancel()
        self.force_exit = False
        await self._wait_until_idle(CANCEL_SECONDS)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.lifespan.shutdown(), CLOSE_SECONDS)

    def _leave(self, notice_seconds: float, linger_seconds: float) -> None:
        if self._leaving is None:
            self._leaving = self._background.start("drain", self._prepare(notice_seconds, linger_seconds))

    def _hurry(self) -> None:
        """Skip what is left of notice and linger; asked again, cancel the calls in flight."""
        self.force_exit = self._hurried.is_set()
        self._hurried.set()
        self._leave(0.0, LINGER_SECONDS)

    def _lose_parent(self) -> None:
        """Free the port at once: the next parent wants it."""
        asyncio.get_running_loop().remove_reader(self._lifeline)
        self._leave(0.0, self._notice_seconds)

    async def _prepare(self, notice_seconds: float, linger_seconds: float) -> None:
        try:
            self._app.begin_drain()
            await self._pause(notice_seconds)
            self._stop_listening()
            await self._pause(linger_seconds)
            self._app.stop_accepting()
        finally:  # whatever fails above, the worker exits
            self.should_exit = True

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurried.wait(), seconds)

    def _stop_listening(self) -> None:
        for server in self.servers:
            server.close()

    async def _wait_until_idle(self, seconds: float) -> None:
        """Wait until every answer is written and every call has ended, for so long at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                state = self.server_state
                while (state.connections or state.tasks) and not self.force_exit:  # noqa: ASYNC110 - uvicorn's plain sets
                    await asyncio.sleep(POLL_SECONDS)


def harden() -> None:
    """Keep the upstream key out of core files and of `/proc/<pid>/environ`, where the system lets us."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(AttributeError, OSError):  # not on macOS
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def allow_open_files() -> int:
    """Raise the limit of open files as far as we may, for us and all we start, and return it: calls take three each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft < wanted:
        with contextlib.suppress(ValueError, OSError):  # some systems refuse what their hard limit promises
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def share_the_core() -> None:
    """Keep our two threads from preempting each other: one that wakes can wait for the GIL that the other holds."""
    with contextlib.suppress(AttributeError, OSError):  # not on macOS; not where a sandbox forbids it
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def run(create: Callable[[Settings], App], arguments: Sequence[str]) -> None:
    """Serve the app that `create` makes until a signal stops it; `arguments` are LISTENER LIFELINE READY NOTICE."""
    harden()
    malloc.keep_at_hand()
    share_the_core()
    listener, lifeline, ready = map(int, arguments[:3])
    settings = load()
    app = create(settings)
    config = uvicorn.Config(
        app,
        http="gateway.asgi.protocol:GatewayProtocol",
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # anybody can send forwarded headers
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    notice, drain = float(arguments[3]), settings.drain_seconds
    worker = Worker(app, config, lifeline=lifeline, ready=ready, notice_seconds=notice, drain_seconds=drain)
    worker.run(sockets=[socket.socket(fileno=listener)])


if __name__ == "__main__":
    from gateway.app import create
    from gateway.processes.streams import leave

    run(create, sys.argv[1:])
    leave(0)
