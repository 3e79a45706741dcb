"""Which keys of a kind does a store hold?  They are scanned server by server: no node of a cluster knows them all."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

from gateway.config import CLUSTER, member
from gateway.store import Store

TIMEOUT_SECONDS = 10
PAGE = 1000  # keys scanned at once


async def scan(url: str, matching: str) -> AsyncIterator[tuple[Store, list[str]]]:
    """The keys of every server, page by page, each with the store that holds them."""
    for server in await _servers(url):
        async with opened(server) as store:
            cursor = b"0"
            while True:
                cursor, keys = await store.command("SCAN", cursor.decode(), "MATCH", matching, "COUNT", PAGE)
                yield store, [key.decode() for key in keys]
                if cursor == b"0":
                    break


async def each(store: Store, command: str, keys: Iterable[str]) -> list[Any]:
    """Run the same command on every key, in one pipeline."""
    return await asyncio.gather(*(store.command(command, key) for key in keys))


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Store]:
    """A store, until the context ends."""
    store = Store(url, timeout=TIMEOUT_SECONDS)
    try:
        yield store
    finally:
        await store.aclose()


async def _servers(url: str) -> list[str]:
    """The URL of each server that holds keys."""
    if not url.startswith(f"{CLUSTER}://"):
        return [url]
    async with opened(url) as store:
        ranges = await store.command("CLUSTER", "SLOTS")
    return sorted({member(url, host.decode(), port) for _, _, (host, port, *_), *_ in ranges})
