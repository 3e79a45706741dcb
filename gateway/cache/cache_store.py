"""How are answers read from the store and written there, and who may ask the upstream on a miss?

One script reads and claims atomically, so of all workers and replicas that miss together exactly one asks the upstream.
The cache fails open: with a store that is unavailable or full nothing is stored or claimed, and the call goes on.
"""

import asyncio
import secrets
from contextlib import suppress
from itertools import count
from typing import Any

from gateway.background import off_loop
from gateway.cache import answer as stored
from gateway.cache.answer import CachedAnswer
from gateway.cache.claim import GRANTED, Claim
from gateway.store import Probe, Script, Store

GET_OR_CLAIM, DELETE_IF_SAME = (
    Script.read("gateway.cache", "get_or_claim"),
    Script.read("gateway.cache", "delete_if_same"),
)
PROBE = Probe(
    Script.read("gateway.cache", "probe", "gateway.store:probe"),
    [f"gw:{kind}:{{}}" for kind in ("cache", "claim", "wanted")],
)
LEASE_SECONDS = 10.0
WAITING_MS = 1000  # several polls of those who wait
TAKEN = 0  # what get_or_claim.lua returns while another has the claim
HANDED_BYTES = 64 * 1024  # for larger values a second round trip costs less than Lua's copies
VALUE_SECONDS = 1.0  # timeout for large values; all else has the store's own, shorter one
VALUE_BYTES = 16 * 1024 * 1024  # what a link of 1 Gbit/s carries within that time, many times over
LARGE_BYTES = 1024 * 1024
LARGE_AT_ONCE = 2  # in flight; more would wait for each other, time out, and make the store count as unavailable


class CacheStore:
    """The answers of one store."""

    def __init__(
        self,
        store: Store,
        *,
        lease_seconds: float = LEASE_SECONDS,
        value_seconds: float = VALUE_SECONDS,
        value_bytes: int = VALUE_BYTES,
    ) -> None:
        self.lease_seconds = lease_seconds
        self._store, self._value_seconds, self._value_bytes = store, value_seconds, value_bytes
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._tokens = (f"{run}-{number:x}" for run in [secrets.token_hex(8)] for number in count(1))

    async def find(self, name: str, oldest: float) -> CachedAnswer | None:
        """The answer stored under this name, made no earlier than `oldest` (seconds since 1970)."""
        found = await self._find(name, oldest, Claim(self._store, name, "", self.lease_seconds))
        return found if isinstance(found, CachedAnswer) else None

    async def find_or_claim(self, name: str, oldest: float) -> CachedAnswer | Claim | None:
        """The same, else a claim: the right to ask the upstream; None while another has it."""
        return await self._find(name, oldest, Claim(self._store, name, next(self._tokens), self.lease_seconds))

    async def _find(self, name: str, oldest: float, claim: Claim) -> CachedAnswer | Claim | None:
        """Read, and read again where the answer was damaged: then all but one that found it wait, as after any miss."""
        with suppress(Exception):  # unavailable, full, read-only: the store reports it itself, and the call goes on
            for _ in range(2):
                found = await self._get_or_claim(name, oldest, claim)
                if found == TAKEN:
                    return None
                if found == GRANTED:
                    break
                if answer := await self._load(name, found):
                    return answer
        return claim

    async def _get_or_claim(self, name: str, oldest: float, claim: Claim) -> bytes | int:
        args = (round(oldest * 1000), claim.token, claim.lease_ms, WAITING_MS, HANDED_BYTES)
        reply = self._store.script(GET_OR_CLAIM, (name, *claim.keys), args)
        try:
            await asyncio.shield(reply)
        except asyncio.CancelledError:
            self._store.spawn(_release(claim, reply))
            raise
        finally:
            if reply.done():
                claim.update(reply)
        found: bytes | int = reply.result()
        return found

    async def _load(self, name: str, found: bytes | int) -> CachedAnswer | None:
        """Decode the answer that was found, or fetch a large one; a damaged one is deleted."""
        if isinstance(found, bytes):
            value, answer = found, stored.decode(name, found)
        else:
            async with self._large:
                value = await self._store.command("GET", name, timeout=self._value_seconds) or b""
                answer = await off_loop(len(value), stored.decode, name, value)
        if answer is None:
            await self._store.script(DELETE_IF_SAME, (name,), (value[: stored.HEAD_AT], len(value)))
        return answer

    def takes(self, size: int) -> bool:
        """Whether an answer of so many bytes can be stored, as far as is known now."""
        return size <= self._value_bytes and self._store.up

    async def put(self, name: str, answer: CachedAnswer, ttl_seconds: int) -> bool:
        """Store an answer; whether the store took it."""
        if answer.size < LARGE_BYTES:
            return await self._set(name, stored.encode(name, answer, ttl_seconds), ttl_seconds)
        async with self._large:
            value = await off_loop(answer.size, stored.encode, name, answer, ttl_seconds)
            return await self._set(name, value, ttl_seconds)

    async def _set(self, name: str, value: bytes, ttl_seconds: int) -> bool:
        try:
            await self._store.command("SET", name, value, "PX", ttl_seconds * 1000, timeout=self._value_seconds)
        except Exception:  # noqa: BLE001  as above
            return False
        return True


async def _release(claim: Claim, reply: asyncio.Future[Any]) -> None:
    """Release a claim that may yet be granted to a caller who has left."""
    await asyncio.wait([reply])
    claim.update(reply)
    await claim.release()
