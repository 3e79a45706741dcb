"""Which server holds a key, and how is it reached?  A single server, or the node of a cluster that has the key's slot.

redis-py connects and authenticates; for a cluster it keeps the slot map.  The `home` of a key is its server's name.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import AbstractConnection, UnixDomainSocketConnection
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError

from gateway.config import CLUSTER, TLS, UNIX, StoreUrl
from gateway.store.names import NamedConnection, NamedTLSConnection, Names
from gateway.store.reasons import Unplaced

PLAIN: dict[str, Any] = {"protocol": 2, "driver_info": None}  # RESP2, which our own parser reads, and no CLIENT SETINFO


class Nodes(Protocol):
    """All servers of one store."""

    @property
    def known(self) -> bool:
        """Whether `home` knows the servers."""

    async def discover(self) -> None:
        """Fetch the slot map from the servers.  Raises `Unplaced` when none has one."""

    def home(self, key: str) -> str:
        """The server that holds a key.  Raises `Unplaced` when none does."""

    def connect(self, home: str) -> AbstractConnection:
        """A connection of its own, made when it is first used.  Raises `KeyError` when there is no such server."""

    async def follow(self, error: AskError) -> str:
        """The server that a MOVED or ASK redirection names."""

    async def aclose(self) -> None:
        """Close what `discover` opened."""


def nodes_of(url: str, seconds: float) -> Nodes:
    """The servers behind a URL; `seconds` is the timeout of asking a cluster for its slot map."""
    where = StoreUrl.parse(url)
    return Cluster(where, seconds) if where.scheme == CLUSTER else SingleNode(where)


def named(names: Names, where: StoreUrl) -> Callable[..., AbstractConnection]:
    """A factory of connections over TCP or TLS that resolve their host through `names`."""
    tls = where.scheme == TLS or where.options.get("ssl")
    return partial(NamedTLSConnection if tls else NamedConnection, names=names)


class SingleNode:
    """Everything lives on one server."""

    known = True

    def __init__(self, where: StoreUrl) -> None:
        self._names = Names()
        self._connection = UnixDomainSocketConnection if where.scheme == UNIX else named(self._names, where)
        self._options = where.options

    async def discover(self) -> None: ...

    def home(self, _key: str) -> str:
        return ""

    def connect(self, _home: str) -> AbstractConnection:
        return self._connection(**self._options, **PLAIN, socket_timeout=None)

    async def follow(self, error: AskError) -> str:
        raise error

    async def aclose(self) -> None:
        await self._names.aclose()


class Cluster:
    """Keys live by slot; each server knows the whole slot map."""

    def __init__(self, where: StoreUrl, seconds: float) -> None:
        timeouts: dict[str, Any] = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
        client = RedisCluster(**where.options, **timeouts, **PLAIN, require_full_coverage=False)
        self._names, self._nodes = Names(), client.nodes_manager
        self._nodes.connection_kwargs["connection_class"] = named(self._names, where)
        for seed in self._nodes.startup_nodes.values():
            seed.connection_class = self._nodes.connection_kwargs["connection_class"]
        self._seeds = dict(self._nodes.startup_nodes)

    @property
    def known(self) -> bool:
        return self._nodes.default_node is not None

    async def discover(self) -> None:
        self._nodes.startup_nodes = self._seeds | self._nodes.startup_nodes  # redis-py forgets them
        try:
            await self._nodes.initialize()
        except LookupError as error:
            raise Unplaced("no server has any slots yet") from error

    def home(self, key: str) -> str:
        try:
            return self._nodes.get_node_from_slot(key_slot(key.encode())).name
        except LookupError as error:
            raise Unplaced("no server has the slot of this key") from error

    def connect(self, home: str) -> AbstractConnection:
        node = self._nodes.nodes_cache[home]
        return node.connection_class(**{**node.connection_kwargs, "socket_timeout": None})

    async def follow(self, error: AskError) -> str:
        if isinstance(error, MovedError):
            await self._nodes.move_slot(error)
        return f"{error.host}:{error.port}"

    async def aclose(self) -> None:
        await self._nodes.aclose()
        await self._nodes.aclose("startup_nodes")
        await self._names.aclose()
