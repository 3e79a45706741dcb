"""Where is a server whose name is known?  Each name is looked up once at a time, and never cut short.

A resolver may take many seconds where a store is given a quarter of one.  Cut short, look-ups would pile up in the few
threads that there are for them, and uvloop would complain of every answer that nobody waits for any more.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection


class Names:
    """Looks up names for the connections to one store; `ask` takes the place of the loop's own way to do so."""

    def __init__(self, ask: Callable[..., Awaitable[list[Any]]] | None = None) -> None:
        self._ask = ask
        self._asked: dict[str, asyncio.Task[list[str]]] = {}

    async def find(self, host: str) -> list[str]:
        """Its addresses, all to be tried.  Raises `OSError`."""
        if host not in self._asked:
            self._asked[host] = asyncio.get_running_loop().create_task(self._look_up(host))
            self._asked[host].add_done_callback(partial(self._heard, host))
        return await asyncio.shield(self._asked[host])

    async def _look_up(self, host: str) -> list[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            ask = self._ask or asyncio.get_running_loop().getaddrinfo
            found = await ask(host, None, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def _heard(self, host: str, found: asyncio.Task[list[str]]) -> None:
        del self._asked[host]
        if not found.cancelled():
            found.exception()  # it may be that nobody waits any more

    async def aclose(self) -> None:
        tasks = list(self._asked.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class NamedConnection(Connection):
    """A connection over TCP that finds its server by `Names`."""

    def __init__(self, *, names: Names, **options: Any) -> None:
        super().__init__(**options)
        self._names, self._address = names, ""

    async def _connect(self) -> None:
        *others, last = await self._names.find(self.host)
        for self._address in others:
            try:
                await super()._connect()  # type: ignore[no-untyped-call]
            except OSError:  # the next may be in reach
                continue
            return
        self._address = last
        await super()._connect()  # type: ignore[no-untyped-call]

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "host": self._address}


class NamedTLSConnection(NamedConnection, SSLConnection):
    """The same behind TLS, where the certificate is of the name."""

    def _connection_arguments(self) -> Mapping[str, Any]:
        return {**super()._connection_arguments(), "server_hostname": self.host}
