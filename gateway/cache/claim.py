"""Which worker asks the upstream for a missing answer, and do callers of other workers wait for it?

get_or_claim.lua grants a claim: a distributed lock with a lease.  Its holder renews it (a heartbeat), receives each
time whether callers of other workers wait, and releases it.  A store may yet run what it was sent, also where it was
frozen and no reply came in time; so releasing a claim that may be granted is repeated until the store has acknowledged
it. Renewing and releasing must not overlap: the store is asked on several connections, which keep no order.
"""

import asyncio
from typing import Any

from gateway.store import Script, Store, StoreUnavailable

CLAIM = Script.read("gateway.cache", "claim")
GRANTED = 1  # what get_or_claim.lua returns
RETRY_SECONDS, RETRIES = 0.25, 480  # a store that is unavailable for longer may hold a claim to the end of its lease


class Claim:
    """The right to ask for one answer: a token under a key.  `keys`: its own and the one that marks others waiting."""

    def __init__(self, store: Store, name: str, token: str, lease_seconds: float) -> None:
        self.keys = tuple(name.replace("gw:cache:", kind, 1) for kind in ("gw:claim:", "gw:wanted:"))
        self.token, self.lease_ms = token, round(lease_seconds * 1000)
        self._store = store
        self._known = False  # the store has granted it, or may yet

    def update(self, reply: asyncio.Future[Any]) -> None:
        """Take note of the store's reply to the request for the claim."""
        if error := reply.exception():
            self._known = isinstance(error, StoreUnavailable) and error.sent
        else:
            self._known = reply.result() == GRANTED

    async def renew(self) -> bool:
        """Extend its lease, or take it where nobody has it; whether callers of other workers wait."""
        try:
            wanted: int = await self._store.script(CLAIM, self.keys, (self.token, self.lease_ms))
        except Exception as error:  # noqa: BLE001  unavailable, full, read-only: the store reports it itself
            self._known = self._known or (isinstance(error, StoreUnavailable) and error.sent)
            return False
        self._known = True
        return wanted == 1

    async def release(self) -> None:
        """Release it now rather than at the end of its lease."""
        for _ in range(RETRIES):
            if not self._known:
                break
            try:
                await self._store.script(CLAIM, self.keys, (self.token, 0))
                self._known = False
            except Exception:  # noqa: BLE001  as above
                await asyncio.sleep(RETRY_SECONDS)
