"""How are commands sent to one server, and replies taken?

One pipeline at a time per connection; what comes while all are busy goes with the next.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from gateway.store.command import Command, StoreAway, packed

FAILURES = (RedisError, RedisClusterException, OSError, TimeoutError)
BATCH = 256  # commands in one pipeline
GRACE_SECONDS = 0.05


class Owner(Protocol):
    """Who keeps the line, and hears of what it cannot decide."""

    observe: Callable[[str, float], None]

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run it in the background."""

    def refused(self, command: Command, error: ResponseError) -> None:
        """The server did not run a command."""

    def lost(self, error: Exception, commands: list[Command], *, sent: bool) -> None:
        """The server cannot be used now; these commands failed with it."""


class Line:
    """The way to one server."""

    def __init__(self, owner: Owner, connections: list[AbstractConnection], timeout: float) -> None:
        self._owner, self._timeout = owner, timeout
        self._connections, self._idle = tuple(connections), connections
        self.waiting: list[Command] = []

    def flow(self) -> None:
        """Send what waits, as far as connections are free, spread over them."""
        while self.waiting and self._idle:
            size = min(BATCH, -(-len(self.waiting) // len(self._idle)))
            batch, self.waiting = self.waiting[:size], self.waiting[size:]
            self._owner.spawn(self._exchange(self._idle.pop(), batch))

    def take_back(self) -> list[Command]:
        """What waits, to be sent no more."""
        waiting, self.waiting = self.waiting, []
        return waiting

    async def aclose(self) -> None:
        for connection in self._connections:  # an exchange cancelled before its first step never gave its own back
            await connection.disconnect()

    async def _exchange(self, connection: AbstractConnection, batch: list[Command]) -> None:
        try:
            async with deadline(batch[0].since + self._timeout):
                if connection.is_connected and await connection.can_read():
                    await connection.disconnect(nowait=True)  # closed by the server, or dirty, since it was last used
                await connection.send_packed_command(packed(command.parts for command in batch), check_health=False)
                for command in batch:
                    await self._receive(connection, command)
        except FAILURES as error:
            self._owner.lost(error, batch, sent=True)
            await connection.disconnect(nowait=True)
        except BaseException:
            for command in batch:
                command.fail(StoreAway("closed", sent=True))
            raise
        finally:
            self._idle.append(connection)
            self.flow()

    async def _receive(self, connection: AbstractConnection, command: Command) -> None:
        try:
            value = await connection.read_response(disable_decoding=True)
        except ResponseError as error:
            self._owner.refused(command, error)
        else:
            command.succeed(value)
            self._owner.observe(command.operation, asyncio.get_running_loop().time() - command.since)


@asynccontextmanager
async def deadline(due: float) -> AsyncIterator[None]:
    """Raises `TimeoutError` when it is due on the loop's clock; a loop that stood still itself gets a moment more."""
    loop = asyncio.get_running_loop()

    def expire() -> None:
        late = loop.time() - due > GRACE_SECONDS / 10
        scope.reschedule(loop.time() + (GRACE_SECONDS if late else 0))

    async with asyncio.timeout(None) as scope:
        timer = loop.call_at(due, expire)
        try:
            yield
        finally:
            timer.cancel()
