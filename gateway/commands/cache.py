"""Which answers are cached, and how are they deleted?

Keys are scanned server by server, since no node of a cluster knows them all.  Deleting (UNLINK) frees memory in the
background; an answer that is in flight meanwhile is stored when it comes.
"""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any

from gateway.cache import pattern
from gateway.commands import CommandError, WrongUseError
from gateway.config import CLUSTER, NAME, Settings, SettingsError, member, watched_clients
from gateway.store import Store, StoreError, StoreUnavailable, borrow

TIMEOUT_SECONDS = 10
PAGE = 1000  # keys scanned at once


def run(settings: Settings, action: str, client: str | None) -> int:
    """`stats` counts cached answers, `purge` deletes them: one client's own, or all.  Raises `CommandError`."""
    if client is not None and not NAME.fullmatch(client):  # it becomes part of a pattern
        raise WrongUseError(f"{client!r} is no client's name; see `tokenhot-gateway clients list`")
    try:
        sys.stdout.write(asyncio.run(_stats(settings) if action == "stats" else _purge(settings, client)))
        if client is not None and client in _sharing(settings):
            raise CommandError(
                f"{client} shares: its answers are among those of all who share, and none of these was forgotten; "
                "forget all with `tokenhot-gateway cache purge`, or wait for their ttl"
            )
    except (StoreUnavailable, StoreError) as error:
        raise CommandError(f"the cache store cannot be used: {error}; is GATEWAY_CACHE_REDIS_URL right?") from None
    return 0


def _sharing(settings: Settings) -> set[str]:
    """The clients whose answers are in the shared scope, as far as the clients file can be read."""
    try:
        return {client.name for client in watched_clients(settings).value if client.cache == "shared"}
    except SettingsError:
        return set()


async def _stats(settings: Settings) -> str:
    answers, sizes = Counter[str](), Counter[str]()
    async for store, keys in _scan(settings, pattern(None)):
        for key, size in zip(keys, await _each(store, "STRLEN", keys), strict=True):
            scope = key.removeprefix("gw:cache:").partition(":{")[0]
            answers[scope] += 1
            sizes[scope] += size
    rows = [("scope", "answers", "bytes")]
    rows += [(scope, f"{answers[scope]:,}", f"{sizes[scope]:,}") for scope in sorted(answers)]
    rows += [("all", f"{answers.total():,}", f"{sizes.total():,}")]
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    cells = ([row[0].ljust(first), *map(str.rjust, row[1:], others)] for row in rows)
    return "".join("  ".join(row) + "\n" for row in cells)


async def _purge(settings: Settings, client: str | None) -> str:
    forgotten = 0
    async for store, keys in _scan(settings, pattern(client)):
        forgotten += sum(await _each(store, "UNLINK", keys))
    return f"{forgotten:,} answer{'s' * (forgotten != 1)} forgotten\n"


async def _scan(settings: Settings, matching: str) -> AsyncIterator[tuple[Store, list[str]]]:
    """The keys of every server, page by page, each with the store that holds them."""
    async with _url(settings) as url:
        for server in await _servers(url):
            async with _store(server) as store:
                cursor = b"0"
                while True:
                    cursor, keys = await store.command("SCAN", cursor.decode(), "MATCH", matching, "COUNT", PAGE)
                    yield store, [key.decode() for key in keys]
                    if cursor == b"0":
                        break


async def _each(store: Store, command: str, keys: Iterable[str]) -> list[Any]:
    """Run the same command on every key, in one pipeline."""
    return await asyncio.gather(*(store.command(command, key) for key in keys))


async def _servers(url: str) -> list[str]:
    """The URL of each server that holds keys."""
    if not url.startswith(f"{CLUSTER}://"):
        return [url]
    async with _store(url) as store:
        ranges = await store.command("CLUSTER", "SLOTS")
    return sorted({member(url, host.decode(), port) for _, _, (host, port, *_), *_ in ranges})


@contextlib.asynccontextmanager
async def _url(settings: Settings) -> AsyncIterator[str]:
    """The URL of the cache: as given, else that of the state, else the embedded store's."""
    if url := settings.cache_redis_url or settings.redis_url:
        yield url
    else:
        async with borrow(settings.data_dir) as stores:
            yield stores.cache_url


@contextlib.asynccontextmanager
async def _store(url: str) -> AsyncIterator[Store]:
    store = Store(url, timeout=TIMEOUT_SECONDS)
    try:
        yield store
    finally:
        await store.aclose()
