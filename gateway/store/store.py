"""How does a command reach a store, and what happens while the store is unavailable?

All commands of one turn of the event loop are sent as one pipeline; those that come while it is in flight go with the
next.  Replies are read by the connection, not by the caller, so a cancelled caller leaves no connection half-read.  A
store that does not answer within its timeout is *unavailable*: from then on nobody waits, every command fails at once
with `StoreUnavailable`, until a probe has run there all that calls need (a circuit breaker).  An error of one command
alone, such as a mistake in a script, is a `StoreUnavailable` of that command alone.  Every command has a deadline.
Only what did not run is sent again: NOSCRIPT, MOVED and ASK.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from redis.exceptions import AskError, MovedError, NoScriptError, ResponseError, TryAgainError

from gateway.background import Background, Report, by_the_loop
from gateway.store.command import NOTHING, Bound, Command, Opening, Part, Script, StoreUnavailable, fail_all, ignore
from gateway.store.nodes import nodes_of
from gateway.store.pool import Pool, deadline
from gateway.store.probe import PING, Probe, run_probe
from gateway.store.reasons import Unplaced, reason

NOT_NOW = frozenset("READONLY LOADING BUSY MISCONF NOREPLICAS MASTERDOWN CLUSTERDOWN NOAUTH DENIED".split())  # noqa: SIM905
FULL, ROOM = "OOM", Script.read("gateway.store", "room")
TIMEOUT_SECONDS, PROBE_SECONDS, WATCH_SECONDS = 0.25, 0.25, 1.0


class Store:
    """One store, whether a server or a cluster.  `up` is what the last command or probe found, `why` why not.

    `timeout` is in seconds, from the call to the reply.  A command that may take longer has its own timeout and its
    own connections, so that quick ones never wait behind it.  `connections` is how many pipelines of each kind may be
    in flight to one server.  `full_is_unavailable`: a full store counts as unavailable.  `probe` tries what calls
    need, every `probe_seconds` while the store is unavailable.  `on_change(up, why)` is called when `up` changes,
    `on_error(operation, why)` for a new error of one command alone, `observe(operation, seconds)` for each reply,
    `report` for failed background work; an operation is the name of a script or command.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = TIMEOUT_SECONDS,
        connections: int = 1,
        full_is_unavailable: bool = True,
        probe: Probe = PING,
        probe_seconds: float = PROBE_SECONDS,
        on_change: Callable[[bool, str], None] = ignore,
        on_error: Callable[[str, str], None] = ignore,
        observe: Callable[[str, float], None] = ignore,
        report: Report = by_the_loop,
    ) -> None:
        self.up, self.why, self.observe = True, "", observe
        self._timeout, self._connections = timeout, connections
        self._probe, self._probe_seconds = probe, probe_seconds
        self._on_change, self._on_error = on_change, on_error
        self._errors: dict[str, str] = {}  # by operation, the last that was reported
        self._not_now = NOT_NOW | {FULL} if full_is_unavailable else NOT_NOW
        self._nodes = nodes_of(url, timeout)
        self._pools: dict[tuple[str, float], Pool] = {}  # by node and timeout
        self._queued: list[Command] = []  # in this turn of the loop
        self._background = Background(report)

    def script(self, script: Script, keys: Sequence[str], args: Sequence[Part]) -> asyncio.Future[Any]:
        """Run a script, all keys under one hash tag.  Fails with `StoreUnavailable`."""
        return self.run(script.on(keys), *args)

    def run(self, bound: Bound, *args: Part) -> asyncio.Future[Any]:
        """The same for a script that is bound already, which costs less."""
        return self._ask(bound.script.name, bound.key, bound.opening, args, bound)

    def command(self, name: str, key: str, *args: Part, timeout: float | None = None) -> asyncio.Future[Any]:
        """Run a command on one key.  Fails as `script` does."""
        return self._ask(name.lower(), key, NOTHING, (name, key, *args), None, timeout=timeout)

    async def fullness(self, keys: Iterable[str]) -> float:
        """The fullest of the nodes of these keys: 1 has no room left, 0 no bound.  Raises `StoreUnavailable`."""
        await self.ping()  # so that the servers are known
        try:
            homes = {self._nodes.home(key): key for key in keys}
        except Unplaced as error:
            raise StoreUnavailable(str(error), sent=False) from error
        rooms = await asyncio.gather(*(self.script(ROOM, [key], []) for key in homes.values()))
        return max((used / allowed for used, allowed in rooms if allowed), default=0.0)

    async def ping(self) -> None:
        """Check whether the store answers and takes writes.  Raises `StoreUnavailable`."""
        await self.run(PING.on())

    async def verify(self) -> None:
        """Check whether it does all that calls need.  Raises `StoreUnavailable`, which names the problem."""
        await self.probe()
        if not self.up:
            raise StoreUnavailable(self.why, sent=False)

    async def probe(self, key: str | None = None) -> None:
        """Probe the server of this key, or any, and mark the store unavailable if the probe fails."""
        try:
            await self._try(key)
        except Exception as error:  # noqa: BLE001  whatever it is, the store cannot be used
            self.mark_unavailable(error, [], sent=False)

    async def _try(self, key: str | None) -> None:
        await run_probe(self._nodes, self._probe.on(key), self._timeout, allow_full=FULL not in self._not_now)

    async def monitor(self) -> None:
        """Ping every second until cancelled, so that no call is the first to find out that it is unavailable."""
        while True:
            with suppress(StoreUnavailable):
                await self.ping()
            await asyncio.sleep(WATCH_SECONDS)

    async def aclose(self) -> None:
        """Fail what is in flight and close every connection."""
        self.up = False
        self._fail_waiting("closed")
        await self._background.aclose()
        for pool in self._pools.values():
            await pool.aclose()
        await self._nodes.aclose()
        await asyncio.sleep(0)  # a closed transport lets go of its socket in the next turn

    def _ask(
        self,
        operation: str,
        key: str,
        opening: Opening,
        args: tuple[Part, ...],
        bound: Bound | None,
        *,
        timeout: float | None = None,
    ) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        if not self.up:
            reply.set_exception(StoreUnavailable(self.why or "closed", sent=False))
            return reply
        if not self._queued:
            loop.call_soon(self._dispatch)
        times = loop.time(), timeout or self._timeout
        self._queued.append(Command(operation, key, opening, args, bound, *times, reply, time.perf_counter()))
        return reply

    def _dispatch(self) -> None:
        """Hand the commands of this turn to the pools of their servers."""
        if self._queued and not self._nodes.known:
            self.spawn(self._discover())
            return
        queued, self._queued = self._queued, []
        for command in queued:
            self._enqueue(command)
        for pool in self._pools.values():
            pool.flow()

    def _enqueue(self, command: Command) -> None:
        try:
            self._pool(self._nodes.home(command.key), command.timeout).waiting.append(command)
        except Exception as error:  # noqa: BLE001  whatever it is, its caller must get an answer
            self.mark_unavailable(error, [command], sent=False)

    async def _discover(self) -> None:
        try:
            async with deadline(asyncio.get_running_loop().time() + self._timeout):
                await self._nodes.discover()
        except Exception as error:  # noqa: BLE001  as above
            self.mark_unavailable(error, self._queued, sent=False)
        else:
            self._dispatch()

    def _pool(self, home: str, timeout: float) -> Pool:
        if (pool := self._pools.get((home, timeout))) is None:
            connections = [self._nodes.connect(home) for _ in range(self._connections)]
            pool = self._pools[home, timeout] = Pool(self, connections, timeout)
        return pool

    def on_refused(self, command: Command, error: ResponseError) -> None:
        """Send a command again that the server did not run, where that helps; else fail it."""
        if isinstance(error, AskError):
            self.spawn(self._redirect(command.again(), error))
        elif isinstance(error, NoScriptError):
            self._enqueue(command.again())
        elif str(error).partition(" ")[0] in self._not_now:
            self.mark_unavailable(error, [command], sent=False)
        elif isinstance(error, TryAgainError):  # its slot is being moved; other commands can go on
            command.fail(StoreUnavailable(str(error), sent=False))
        elif command.operation != PING.script.name:
            self._failed(command, str(error), sent=True)  # a script may have done half of its work
        else:
            self.spawn(self.probe(command.key))  # which also decides whether a full store will do
            command.fail(StoreUnavailable(reason(error), sent=False))

    def unsendable(self, error: Exception, commands: list[Command]) -> None:
        for command in commands:
            self._failed(command, f"cannot be encoded ({type(error).__name__})", sent=False)

    def _failed(self, command: Command, why: str, *, sent: bool) -> None:
        """One command failed by itself, or because the store refuses what calls need."""
        if self._errors.get(command.operation) != why:
            self._errors[command.operation] = why
            self.spawn(self._report_error(command.operation, command.key, why))
        command.fail(StoreUnavailable(why, sent=sent))

    async def _report_error(self, operation: str, key: str, why: str) -> None:
        """Report a new error of one command, if the store itself is available; once, so as not to fill the log."""
        await self.probe(key)
        if self.up:
            self._on_error(operation, why)

    async def _redirect(self, command: Command, error: AskError) -> None:
        try:
            pool = self._pool(await self._nodes.follow(error), command.timeout)
        except Exception as unknown:  # noqa: BLE001  as above
            self.mark_unavailable(unknown, [command], sent=False)
        else:
            if not isinstance(error, MovedError):
                reply = asyncio.get_running_loop().create_future()
                pool.waiting.append(replace(command, opening=NOTHING, args=("ASKING",), reply=reply))
            pool.waiting.append(command)
            pool.flow()

    def mark_unavailable(self, error: Exception, commands: list[Command], *, sent: bool) -> None:
        """Open the circuit: fail all commands, now and until a probe succeeds."""
        why, key = reason(error), commands[0].key if commands else None
        fail_all(commands, why, sent=sent)
        self._fail_waiting(why)
        if self.up:
            self.up, self.why = False, why
            self._background.keep("store recovery", partial(self._recover, key))
            self._on_change(False, why)

    def _fail_waiting(self, why: str) -> None:
        queued, self._queued = self._queued, []
        waiting = (command for pool in self._pools.values() for command in pool.take_back())
        fail_all([*queued, *waiting], why, sent=False)

    async def _recover(self, key: str | None) -> None:
        """Probe, where the store failed, until it does again what calls need."""
        while not self.up:
            await asyncio.sleep(self._probe_seconds)
            try:
                await self._try(key)
            except Exception as error:  # noqa: BLE001  whatever it is, it is tried again
                self.why = reason(error)
                continue
            for pool in self._pools.values():
                pool.renew()
            self.up, self.why = True, ""
            self._errors.clear()
            self._on_change(True, "")

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it in the background."""
        self._background.start("store", work)
