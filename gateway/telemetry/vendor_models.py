"""Which models did the vendor's own lists name?  The packaged catalogue goes stale in weeks, and labels should not.

Whoever reads a list hands its names over.  They are kept in the state store too, so that a new worker, and one that
never reads a list, has the labels of the others.  What has been a label stays one until the worker ends: a series whose
calls went over to `other` would look like traffic that has stopped.
"""

import asyncio
import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice

import msgspec

from gateway.store import Store, StoreUnavailable

KEY = "gw:models"  # names in JSON, the newest list's first; never expires
MAX_NAMES = 1000
SHARE_SECONDS = 60.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}")
_STORED = msgspec.json.Decoder(list[str])


class VendorModels:
    """Names of models, at most `MAX_NAMES`: those of lists that this worker read, and of the store."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._listed: dict[str, None] = {}  # by this worker's own lists, the last ones, in their order
        self._new = asyncio.Event()

    def __contains__(self, name: str) -> bool:
        return name in self._known

    def seen(self, names: Iterable[str]) -> None:
        """Take the names of a list, or of a page of one.  Those that are no usual names are left out."""
        for name in usual(names):
            if name not in self._listed:
                self._listed[name] = None
                self._new.set()
        while len(self._listed) > MAX_NAMES:
            del self._listed[next(iter(self._listed))]
        self._learn(self._listed)

    async def sync(self, store: Store) -> None:
        """Learn the names that are in the store, and add those to them that it lacks.  Never fails."""
        self._new.clear()
        with suppress(StoreUnavailable):  # the next time, then
            stored = names_in(await store.command("GET", KEY))
            self._learn(stored)
            if not self._listed.keys() <= set(stored):
                names = list(dict.fromkeys((*self._listed, *stored)))[:MAX_NAMES]
                await store.command("SET", KEY, msgspec.json.encode(names))

    async def share(self, store: Store) -> None:
        """Keep the names the same here and in the store, until cancelled."""
        while True:
            await self.wait(SHARE_SECONDS)
            await self.sync(store)

    async def wait(self, seconds: float) -> None:
        """Wait until a list has named a new model, for so long at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._new.wait()

    def _learn(self, names: Iterable[str]) -> None:
        for name in names:
            if len(self._known) >= MAX_NAMES:
                return
            self._known.add(name)


def usual(names: Iterable[str]) -> list[str]:
    """The first names of a list that can be labels."""
    return [name for name in islice(names, MAX_NAMES) if _NAME.fullmatch(name)]


def names_in(stored: bytes | None) -> list[str]:
    """The names that the store keeps; none where nobody can read them."""
    try:
        return [] if stored is None else usual(_STORED.decode(stored))
    except msgspec.MsgspecError:
        return []
