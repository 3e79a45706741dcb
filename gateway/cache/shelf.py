"""How are answers found in the store and put there, and who may get one that is not there?

One script looks and claims at once, so of all workers and replicas that miss together exactly one asks the upstream.
Whatever the store does, the call goes on: a store that is away or full keeps nothing, and claims nothing.
"""

import asyncio
import secrets
from itertools import count
from typing import Any

from gateway.cache import kept
from gateway.cache.kept import Kept
from gateway.cache.key import LARGE_BYTES
from gateway.store import Store
from gateway.store.command import Script

LOOK, CLAIM = Script.read("gateway.cache", "look"), Script.read("gateway.cache", "claim")
LEASE_SECONDS = 10.0
LARGE, CLAIMED = 2, 1  # what look.lua returns beside the answer
HANDED_BYTES = 64 * 1024  # beyond, a second round trip costs less than Lua's copies
VALUE_BYTES = 16 * 1024 * 1024  # what a link of 1 Gbit/s carries within the store's patience, many times over
LARGE_AT_ONCE = 2  # on their way; more would wait for each other, and the store be taken for one that is away


class Claim:
    """The right to get one answer, which others wait for.  Held as far as the store knows of it."""

    def __init__(self, store: Store, name: str, word: str, lease_seconds: float) -> None:
        self.key, self.word = name.replace("gw:cache:", "gw:claim:", 1), word
        self._store, self._lease = store, lease_seconds
        self._timer: asyncio.TimerHandle | None = None

    def keep(self) -> None:
        """Renew it from now on, until it is released."""
        self._timer = asyncio.get_running_loop().call_later(self._lease / 3, self._renew)

    def release(self) -> None:
        """Let another have it, now rather than at the end of the lease."""
        if self._timer is not None:
            self._timer.cancel()
        self._tell(0)

    def won(self, reply: asyncio.Future[object]) -> None:
        """Release it if it has been granted to somebody who had already left."""
        if not reply.cancelled() and reply.exception() is None and reply.result() == 1:
            self._tell(0)

    def _renew(self) -> None:
        self._tell(round(self._lease * 1000))
        self.keep()

    def _tell(self, milliseconds: int) -> None:
        reply = self._store.script(CLAIM, (self.key,), (self.word, milliseconds))
        reply.add_done_callback(lambda done: done.cancelled() or done.exception())  # seen: the lease ends by itself


class Shelf:
    """The answers of one store."""

    def __init__(self, store: Store, *, lease_seconds: float = LEASE_SECONDS, value_bytes: int = VALUE_BYTES) -> None:
        self._store, self._lease, self._value_bytes = store, lease_seconds, value_bytes
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._words = (f"{run}-{number:x}" for run in [secrets.token_hex(8)] for number in count(1))

    async def find(self, name: str, oldest: float) -> Kept | None:
        """The answer kept under this name, made no earlier than `oldest` (seconds since 1970)."""
        found = await self._look(name, oldest, Claim(self._store, name, "", self._lease))
        return found if isinstance(found, Kept) else None

    async def find_or_claim(self, name: str, oldest: float) -> Kept | Claim | None:
        """The same, else the right to get it; None while another has that right."""
        claim = Claim(self._store, name, next(self._words), self._lease)
        found = await self._look(name, oldest, claim)
        return found if isinstance(found, Kept) else claim if found else None

    async def _look(self, name: str, oldest: float, claim: Claim) -> Kept | bool:
        """The answer, else whether the claim is granted: it is where the store does not say otherwise."""
        args = (round(oldest * 1000), claim.word, round(self._lease * 1000), HANDED_BYTES)
        try:
            found = await self._claimed(claim, self._store.script(LOOK, (name, claim.key), args))
            if found == LARGE:
                return await self._fetched(name) or True
        except Exception:  # noqa: BLE001  away, full, read-only: it says so itself, and the call goes on
            return True
        if isinstance(found, int):
            return found == CLAIMED
        return kept.read(name, found) or True  # what is damaged is replaced by the next answer

    async def _claimed(self, claim: Claim, reply: asyncio.Future[Any]) -> Any:
        try:
            return await asyncio.shield(reply)
        except asyncio.CancelledError:
            reply.add_done_callback(claim.won)
            raise

    async def _fetched(self, name: str) -> Kept | None:
        async with self._large:
            value = await self._store.command("GET", name) or b""
            if len(value) < LARGE_BYTES:
                return kept.read(name, value)
            return await asyncio.to_thread(kept.read, name, value)

    def takes(self, size: int) -> bool:
        """Whether an answer of so many bytes can be kept, as far as is known now."""
        return size <= self._value_bytes and self._store.up

    async def put(self, name: str, answer: Kept, ttl_seconds: int) -> bool:
        """Keep an answer; whether the store took it."""
        if answer.size < LARGE_BYTES:
            return await self._set(name, kept.written(name, answer), ttl_seconds)
        async with self._large:
            return await self._set(name, await asyncio.to_thread(kept.written, name, answer), ttl_seconds)

    async def _set(self, name: str, value: bytes, ttl_seconds: int) -> bool:
        try:
            await self._store.command("SET", name, value, "PX", ttl_seconds * 1000)
        except Exception:  # noqa: BLE001  as above
            return False
        return True
