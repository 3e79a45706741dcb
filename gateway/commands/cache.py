"""Which answers are cached, and how are they deleted?

Deleting (UNLINK) frees memory in the background; an answer that is in flight meanwhile is stored when it comes.
"""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncIterator

from gateway.cache import pattern
from gateway.commands import CommandError, WrongUseError
from gateway.commands.scan import each, scan
from gateway.config import NAME, Settings, SettingsError, watched_clients
from gateway.store import Store, StoreError, StoreUnavailable, borrow


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
        for key, size in zip(keys, await each(store, "STRLEN", keys), strict=True):
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
        forgotten += sum(await each(store, "UNLINK", keys))
    return f"{forgotten:,} answer{'s' * (forgotten != 1)} forgotten\n"


async def _scan(settings: Settings, matching: str) -> AsyncIterator[tuple[Store, list[str]]]:
    async with _url(settings) as url:
        async for page in scan(url, matching):
            yield page


@contextlib.asynccontextmanager
async def _url(settings: Settings) -> AsyncIterator[str]:
    """The URL of the cache: as given, else that of the state, else the embedded store's."""
    if url := settings.cache_redis_url or settings.redis_url:
        yield url
    else:
        async with borrow(settings.data_dir) as stores:
            yield stores.cache_url
