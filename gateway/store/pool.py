"""How are commands sent to one server, and replies received?

A connection pool, with one pipeline at a time per connection; commands that come while all are busy go with the next.
redis-py opens a connection; then its transport is handed to a `RespConnection`, since a task and a stream for each
pipeline cost more than all else.  Every pipeline has a timeout.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

from gateway.store.command import Command, StoreUnavailable, packed
from gateway.store.resp import RespParser

BATCH = 256  # commands in one pipeline
GRACE_SECONDS, STILL_SECONDS = 0.05, 0.005


class Owner(Protocol):
    """Who owns the pool, and handles the failures of its commands."""

    observe: Callable[[str, float], None]

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it in the background."""

    def on_refused(self, command: Command, error: ResponseError) -> None:
        """The server did not run a command."""

    def unsendable(self, error: Exception, commands: list[Command]) -> None:
        """These commands cannot be encoded."""

    def mark_unavailable(self, error: Exception, commands: list[Command], *, sent: bool) -> None:
        """The server cannot be used now; these commands failed with it."""


class Pool:
    """The connections to one server, and the commands that wait for one."""

    def __init__(self, owner: Owner, connections: list[AbstractConnection], timeout: float) -> None:
        self.owner, self.timeout = owner, timeout
        self._connections, self._closed = tuple(connections), connections
        self._open: list[RespConnection] = []
        self._idle: list[RespConnection] = []
        self.waiting: list[Command] = []

    def flow(self) -> None:
        """Send the waiting commands, as far as connections are free, spread over them."""
        while self.waiting and (free := len(self._idle) + len(self._closed)):
            size = min(BATCH, -(-len(self.waiting) // free))
            batch, self.waiting = self.waiting[:size], self.waiting[size:]
            if self._idle:
                self._idle.pop().send(batch)
            else:
                self.owner.spawn(self._connect(self._closed.pop(), batch))

    def take_back(self) -> list[Command]:
        """Remove and return the waiting commands; they are not sent."""
        waiting, self.waiting = self.waiting, []
        return waiting

    def freed(self, conn: "RespConnection") -> None:
        """This connection has all its replies."""
        self._idle.append(conn)
        self.flow()

    def broke(self, conn: "RespConnection") -> None:
        """This connection is closed."""
        self._open.remove(conn)
        self._idle = [one for one in self._idle if one is not conn]
        self._closed.append(conn.connection)
        self.flow()

    def renew(self) -> None:
        """Close idle connections: the address may belong to another server by now."""
        for conn in list(self._idle):
            conn.drop(ConnectionError("not needed"))

    async def aclose(self) -> None:
        for conn in self._open:
            for command in conn.close():
                command.fail(StoreUnavailable("closed", sent=True))
        for connection in self._connections:
            await connection.disconnect(nowait=True)

    async def _connect(self, connection: AbstractConnection, batch: list[Command]) -> None:
        try:
            async with deadline(batch[0].since + self.timeout):
                await connection.disconnect(nowait=True)  # redis-py takes one that we have broken for open
                await connection.connect()  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001  whatever it is, the callers must get an answer
            self._closed.append(connection)
            self.owner.mark_unavailable(error, batch, sent=False)
            self.flow()
        except BaseException:
            for command in batch:
                command.fail(StoreUnavailable("closed", sent=False))
            raise
        else:
            self._open.append(conn := RespConnection(self, connection))
            conn.send(batch)


class RespConnection(asyncio.Protocol):
    """An open connection, and the pipeline that is in flight on it."""

    def __init__(self, pool: Pool, connection: AbstractConnection) -> None:
        assert connection._writer is not None  # noqa: S101, SLF001  it is open; redis-py offers no other access to it
        self.connection = connection
        self._pool, self._loop = pool, asyncio.get_running_loop()
        self._parser, self._in_flight, self._broken = RespParser(), deque[Command](), False
        self._transport = connection._writer.transport  # noqa: SLF001
        self._transport.set_protocol(self)
        self._timer = self._loop.call_at(0, _nothing)

    def send(self, batch: list[Command]) -> None:
        """Send these commands as one pipeline."""
        try:
            chunks = packed(batch)
        except Exception as error:  # noqa: BLE001  nothing of it has gone out
            self._pool.owner.unsendable(error, batch)
            self._pool.freed(self)
            return
        self._in_flight.extend(batch)
        due = batch[0].since + self._pool.timeout
        self._timer = self._loop.call_at(due, self._expire, due)
        try:
            self._transport.writelines(chunks)
        except Exception as error:  # noqa: BLE001  a transport that is closed may say so here
            self.drop(error)

    def data_received(self, data: bytes) -> None:
        now, owner = time.perf_counter(), self._pool.owner
        try:
            for reply in self._parser.feed(data):
                command = self._in_flight[0]  # it stays in flight until it has its reply
                if isinstance(reply, ResponseError):
                    owner.on_refused(command, reply)
                else:
                    command.succeed(reply)
                    owner.observe(command.operation, now - command.began)
                self._in_flight.popleft()
        except Exception as error:  # noqa: BLE001  no reply of a store, or one that no command waits for
            self.drop(error)
        else:
            if not self._in_flight:
                self._timer.cancel()
                self._pool.freed(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.drop(error or ConnectionError("closed by the server"))

    def close(self) -> list[Command]:
        """Close it and return the commands that were in flight."""
        self._timer.cancel()
        self._transport.abort()
        in_flight, self._in_flight = list(self._in_flight), deque()
        return in_flight

    def _expire(self, due: float) -> None:
        """No reply in time; a loop that stood still itself gets a moment more."""
        now = self._loop.time()
        if now - due > STILL_SECONDS:
            self._timer = self._loop.call_at(now + GRACE_SECONDS, self._expire, now + GRACE_SECONDS)
        else:
            self.drop(TimeoutError())

    def drop(self, error: Exception) -> None:
        """Close it; what is in flight fails with the error."""
        if self._broken:  # by us: the transport reports it once more
            return
        self._broken = True
        if in_flight := self.close():
            self._pool.owner.mark_unavailable(error, in_flight, sent=True)
        self._pool.broke(self)


def _nothing() -> None: ...


@asynccontextmanager
async def deadline(due: float) -> AsyncIterator[None]:
    """Raises `TimeoutError` when it is due on the loop's clock; a loop that stood still itself gets a moment more."""
    loop = asyncio.get_running_loop()

    def expire() -> None:
        late = loop.time() - due > STILL_SECONDS
        scope.reschedule(loop.time() + (GRACE_SECONDS if late else 0))

    async with asyncio.timeout(None) as scope:
        timer = loop.call_at(due, expire)
        try:
            yield
        finally:
            timer.cancel()
