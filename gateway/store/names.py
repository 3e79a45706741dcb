"""What are the addresses of a host?  Each name has one DNS lookup in flight at a time, which is never cancelled.

A resolver may take many seconds where a store has a timeout of a quarter of one.  Cancelled lookups would pile up in
the few threads that there are for them, and uvloop would log every answer that nobody waits for any more.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from redis.asyncio.connection import Connection, SSLConnection


class Names:
    """Resolves names for the connections to one store; `ask` replaces the loop's `getaddrinfo`."""

    def __init__(self, ask: Callable[..., Awaitable[list[Any]]] | None = None) -> None:
        self._ask = ask
        self._lookups: dict[str, asyncio.Task[list[str]]] = {}

    async def find(self, host: str) -> list[str]:
        """Its addresses, all to be tried.  Raises `OSError`."""
        if host not in self._lookups:
            self._lookups[host] = asyncio.get_running_loop().create_task(self._look_up(host))
            self._lookups[host].add_done_callback(partial(self._on_done, host))
        return await asyncio.shield(self._lookups[host])

    async def _look_up(self, host: str) -> list[str]:
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            ask = self._ask or asyncio.get_running_loop().getaddrinfo
            found = await ask(host, None, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def _on_done(self, host: str, found: asyncio.Task[list[str]]) -> None:
        del self._lookups[host]
        if not found.cancelled():
            found.exception()  # else it would be logged where nobody waits any more

    async def aclose(self) -> None:
        tasks = list(self._lookups.values())
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
            except OSError:  # the next may be reachable
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
