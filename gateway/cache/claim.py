"""Who gets the answer that is not there, and does anybody elsewhere wait for them?

get_or_claim.lua grants a claim.  Its holder renews it, learns each time whether callers of other workers wait, and
gives it up.  A store may yet do what it was sent, also where it was frozen and no reply came in time; so a claim that
it may come to know of is given up until the store has acknowledged that.  Renewing and giving up must not overlap: the
store is asked on several connections, and what comes first is not always done first.
"""

import asyncio
from typing import Any

from gateway.store import Script, Store, StoreUnavailable

CLAIM = Script.read("gateway.cache", "claim")
GRANTED = 1  # what get_or_claim.lua returns
RETRY_SECONDS, RETRIES = 0.25, 480  # a store that is away for longer may hold a claim to the end of its lease


class Claim:
    """The right to get one answer: a word under a key.  `keys` are its own and the one by which others wait."""

    def __init__(self, store: Store, name: str, token: str, lease_seconds: float) -> None:
        self.keys = tuple(name.replace("gw:cache:", kind, 1) for kind in ("gw:claim:", "gw:wanted:"))
        self.token, self.lease_ms = token, round(lease_seconds * 1000)
        self._store = store
        self._known = False  # to the store, or it may be yet

    def update(self, reply: asyncio.Future[Any]) -> None:
        """See what the store said when it was asked for the claim."""
        if error := reply.exception():
            self._known = isinstance(error, StoreUnavailable) and error.sent
        else:
            self._known = reply.result() == GRANTED

    async def renew(self) -> bool:
        """Keep it for longer, and take it where nobody has it; whether callers of other workers wait."""
        try:
            wanted: int = await self._store.script(CLAIM, self.keys, (self.token, self.lease_ms))
        except Exception as error:  # noqa: BLE001  away, full, read-only: it says so itself
            self._known = self._known or (isinstance(error, StoreUnavailable) and error.sent)
            return False
        self._known = True
        return wanted == 1

    async def release(self) -> None:
        """Let another have it, now rather than at the end of its lease."""
        for _ in range(RETRIES):
            if not self._known:
                break
            try:
                await self._store.script(CLAIM, self.keys, (self.token, 0))
                self._known = False
            except Exception:  # noqa: BLE001  as above
                await asyncio.sleep(RETRY_SECONDS)
