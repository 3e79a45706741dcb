"""How is a store asked, and what happens while it is away?

All commands of one turn of the event loop go out as one pipeline; what is asked while it is under way goes with the
next.  Replies are read by the line to the server, not by whoever asked, so a cancelled caller leaves no connection
half-read.  A store that does not answer in time is *away*: from then on nobody waits, every command fails at once
with `StoreAway`, until a small script has written something (full and read-only servers still answer pings).
An error of one command alone, such as a mistake in a script, is a `StoreAway` of that command alone.

Nothing is repeated but what did not run: NOSCRIPT, MOVED and ASK.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from redis.exceptions import AskError, MovedError, NoScriptError, RedisClusterException, ResponseError, TryAgainError

from gateway.store.command import NOTHING, Bound, Command, Opening, Part, Script, StoreAway
from gateway.store.line import FAILURES, Line, deadline
from gateway.store.servers import servers

NOT_NOW = frozenset(
    "READONLY LOADING BUSY MISCONF NOREPLICAS MASTERDOWN CLUSTERDOWN NOAUTH NOPERM".split()  # noqa: SIM905
)
FULL = "OOM"
UNKNOWN = (KeyError, *FAILURES)  # which server holds a key
PROBE_SECONDS = 0.25
WATCH_SECONDS = 1.0
PING, ROOM = (Script.read("gateway.store", name) for name in ("ping", "room"))


def _ignore(*_: object) -> None: ...


class Store:
    """One store, whether a server or a cluster.  `up` is what the last command or probe found.

    `timeout` is in seconds, from asking to the reply.  A command that may take longer says so; it travels on other
    connections, so that what is quick waits behind nothing slow.  `connections` is how many pipelines of each kind may
    be under way to one server.  `full_is_away`: a full store is of no use.  `on_change(up, why)` is told of each change
    of `up`, `on_error(operation, why)` of each new error of a command alone, `observe(operation, seconds)` of each
    reply; an operation is the name of a script or command.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 0.25,
        connections: int = 1,
        full_is_away: bool = True,
        on_change: Callable[[bool, str], None] = _ignore,
        on_error: Callable[[str, str], None] = _ignore,
        observe: Callable[[str, float], None] = _ignore,
    ) -> None:
        self.up = True
        self.observe = observe
        self._timeout, self._connections = timeout, connections
        self._on_change, self._on_error = on_change, on_error
        self._errors: dict[str, str] = {}  # by operation, the last that was told
        self._not_now = NOT_NOW | {FULL} if full_is_away else NOT_NOW
        self._servers = servers(url, timeout)
        self._lines: dict[tuple[str, float], Line] = {}  # by server and patience
        self._asked: list[Command] = []  # in this turn of the loop
        self._tasks: set[asyncio.Task[None]] = set()

    def script(self, script: Script, keys: Sequence[str], args: Sequence[Part]) -> asyncio.Future[Any]:
        """Run a script, all keys under one hash tag.  Fails with `StoreAway`."""
        return self.run(script.on(keys), *args)

    def run(self, bound: Bound, *args: Part) -> asyncio.Future[Any]:
        """The same for a script that is bound already, which costs less."""
        return self._ask(bound.script.name, bound.key, bound.opening, args, bound)

    def command(self, name: str, key: str, *args: Part, timeout: float | None = None) -> asyncio.Future[Any]:
        """Run a command on one key.  Fails as `script` does."""
        return self._ask(name.lower(), key, NOTHING, (name, key, *args), None, patience=timeout)

    async def fullness(self, keys: Iterable[str]) -> float:
        """Of the servers of these keys the fullest: 1 has no room left, 0 knows no bound.  Raises `StoreAway`."""
        await self.ping()  # so that the servers are known
        try:
            homes = {self._servers.home(key): key for key in keys}
        except RedisClusterException as error:
            raise StoreAway(str(error), sent=False) from error
        rooms = await asyncio.gather(*(self.script(ROOM, [key], []) for key in homes.values()))
        return max((used / allowed for used, allowed in rooms if allowed), default=0.0)

    async def ping(self) -> None:
        """Find out whether the store is there and takes writes.  Raises `StoreAway`."""
        await self.script(PING, ["gw:probe"], [])

    async def look(self) -> None:
        """Know from here on whether it is there, whatever the answer."""
        with suppress(StoreAway):
            await self.ping()

    async def watch(self) -> None:
        """Look every second, so that no call is the first to find out that it is away; until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(WATCH_SECONDS)

    async def aclose(self) -> None:
        """Drop what is under way and close every connection."""
        self.up = False
        self._hang_up("closed")
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for line in self._lines.values():
            await line.aclose()
        await self._servers.aclose()
        await asyncio.sleep(0)  # a closed transport lets go of its socket in the next turn

    def _ask(
        self,
        operation: str,
        key: str,
        opening: Opening,
        args: tuple[Part, ...],
        bound: Bound | None,
        *,
        patience: float | None = None,
    ) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        if not self.up:
            reply.set_exception(StoreAway("away", sent=False))
            return reply
        if not self._asked:
            loop.call_soon(self._dispatch)
        self._asked.append(Command(operation, key, opening, args, bound, loop.time(), patience or self._timeout, reply))
        return reply

    def _dispatch(self) -> None:
        """Hand the commands of this turn to the lines of their servers."""
        if self._asked and not self._servers.known:
            self.spawn(self._learn())
            return
        asked, self._asked = self._asked, []
        for command in asked:
            self._enqueue(command)
        for line in self._lines.values():
            line.flow()

    def _enqueue(self, command: Command) -> None:
        try:
            self._line(self._servers.home(command.key), command.patience).waiting.append(command)
        except UNKNOWN as error:
            self.lost(error, [command], sent=False)

    async def _learn(self) -> None:
        try:
            async with deadline(asyncio.get_running_loop().time() + self._timeout):
                await self._servers.learn()
        except FAILURES as error:
            self.lost(error, self._asked, sent=False)
        else:
            self._dispatch()

    def _line(self, home: str, patience: float) -> Line:
        if (home, patience) not in self._lines:
            connections = [self._servers.connect(home) for _ in range(self._connections)]
            self._lines[home, patience] = Line(self, connections, patience)
        return self._lines[home, patience]

    def refused(self, command: Command, error: ResponseError) -> None:
        """Say it again where that helps."""
        if isinstance(error, AskError):
            self.spawn(self._redirect(command.again(), error))
        elif isinstance(error, NoScriptError):
            self._enqueue(command.again())
        elif str(error).partition(" ")[0] in self._not_now:
            self.lost(error, [command], sent=False)
        elif isinstance(error, TryAgainError):  # its slot is on the move; that is no reason to give up all others
            command.fail(StoreAway(str(error), sent=False))
        else:
            self._failed(command, str(error))

    def _failed(self, command: Command, why: str) -> None:
        """One command failed by itself.  It is said once, since what is told again and again would fill the log."""
        if self._errors.get(command.operation) != why:
            self._errors[command.operation] = why
            self._on_error(command.operation, why)
        command.fail(StoreAway(why, sent=True))  # a script may have done half of its work

    async def _redirect(self, command: Command, error: AskError) -> None:
        try:
            line = self._line(await self._servers.follow(error), command.patience)
        except UNKNOWN as unknown:
            self.lost(unknown, [command], sent=False)
            return
        if not isinstance(error, MovedError):
            reply = asyncio.get_running_loop().create_future()
            line.waiting.append(replace(command, opening=NOTHING, args=("ASKING",), reply=reply))
        line.waiting.append(command)
        line.flow()

    def lost(self, error: Exception, commands: list[Command], *, sent: bool) -> None:
        """The store is away: nobody waits from now on."""
        why, key = str(error) or "no reply in time", commands[0].key
        _fail(commands, why, sent=sent)
        self._hang_up(why)
        if self.up:
            self.up = False
            self._on_change(False, why)
            self.spawn(self._probe(key))

    def _hang_up(self, why: str) -> None:
        asked, self._asked = self._asked, []
        _fail([*asked, *(command for line in self._lines.values() for command in line.take_back())], why, sent=False)

    async def _probe(self, key: str) -> None:
        """Try, where the store was lost, until it takes a write again."""
        tag = key.partition("{")[2].partition("}")[0] or key
        while not self.up:
            await asyncio.sleep(PROBE_SECONDS)
            with suppress(*FAILURES):
                await self._servers.learn()
                connection = self._servers.connect(self._servers.home(key))
                try:
                    async with asyncio.timeout(self._timeout):
                        for how, script in (("EVAL", PING.source), ("EVALSHA", PING.sha)):  # calls need both
                            await connection.send_command(how, script, 1, f"gw:probe:{{{tag}}}")
                            await connection.read_response()
                finally:
                    await connection.disconnect(nowait=True)
                for line in self._lines.values():
                    line.renew()
                self.up = True
                self._errors.clear()
                self._on_change(True, "")

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _fail(commands: Iterable[Command], why: str, *, sent: bool) -> None:
    for command in commands:
        command.fail(StoreAway(why, sent=sent))
