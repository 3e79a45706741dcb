"""May they?  The limits of every client, held by all workers together.

`admit` takes a place and a reservation in one script of the state store; `Permit.settle` gives them back and writes
the call's record in another.  Either may be cut short: a call whose admission has an unknown end is settled by its
id, a settlement that the store did not take waits in a queue, and settling an id twice changes nothing.
Tokens are reserved by an estimate, and what an answer costs beyond it is charged when it ends: calls under way can
overshoot `tokens_per_minute` by that error each, and whoever comes next waits until it has drained.
A worker renews the leases of its calls every second; one that dies leaves them to expire.
"""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from typing import Literal

import msgspec

from gateway.call import Call
from gateway.config import Catalogue, Client
from gateway.errors import GatewayError, RateLimited, StateLost
from gateway.limits.account import CLIENTS, NAMES, Account
from gateway.limits.counts import Counts
from gateway.limits.endings import CHUNK, Ending, Endings
from gateway.limits.estimate import estimate
from gateway.limits.headers import Levels, refusal, refused, standing
from gateway.limits.local import Hold, Local
from gateway.limits.permit import Charge, Permit
from gateway.store import Store, StoreAway

PACKED = msgspec.msgpack.Encoder().encode
LEVELS = msgspec.msgpack.Decoder(Levels).decode
BEAT_SECONDS = 1.0
LOST = 100  # calls that visit.lua takes back at most
UNREAD, OURS = 0, 1  # formats of what is kept, as visit.lua tells them; others are newer


class Limits:
    """The gate of one worker, and the parent's sweep.

    `worker` names this process in leases.  `replicas` x `workers` share the limits while the store is away.
    `lease_seconds` is how long the lease of a dead worker lasts; `queue` how many records wait for the store.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        counts: Counts,
        *,
        worker: str,
        replicas: int = 1,
        workers: int = 1,
        state_lost: Literal["local", "closed"] = "local",
        lease_seconds: float = 10,
        queue: int = 10_000,
    ) -> None:
        self._store, self._catalogue, self._counts = store, catalogue, counts
        self._worker, self._state_lost = worker, state_lost
        self._lease_ms = round(lease_seconds * 1000)
        self._local = Local(replicas * workers)
        self._accounts: dict[str, Account] = {}
        self._reading = Counter[str]()  # calls whose bodies are still coming, by client
        self.formats: dict[str, int] = {}  # of clients, where it is not ours: see visit.lua
        self._endings = Endings(store, counts, self._accounts, queue)
        self._ids = (f"{run}-{number:x}" for run in [secrets.token_hex(5)] for number in count(1))

    @contextmanager
    def reading(self, client: Client) -> Iterator[None]:
        """While a body is read, which is a call of the client's too.

        Raises `RateLimited` for a client that has all its `concurrent` calls in this worker already.
        """
        reading = self._reading[client.name]
        if client.concurrent is not None and len(self._account(client).live) + reading >= client.concurrent:
            raise self._limited(refusal(client, "concurrent", 1))
        self._reading[client.name] += 1
        try:
            yield
        finally:
            self._reading[client.name] -= 1

    async def admit(self, call: Call, headers: list[tuple[bytes, bytes]]) -> Permit:
        """Take what the call needs from every limit of its client, and tell in `headers` what is left.

        Raises `RateLimited`, `BudgetSpent` or `StateLost`, and then nothing is taken.
        """
        account = self._account(call.client)
        permit = Permit(
            call=call,
            id=next(self._ids),
            at=int(time.time() * 1000),
            wanted=estimate(call, self._catalogue),
            end=self._end,
        )
        tokens, images = account.allowed.reserved(permit.wanted)
        facts = PACKED((permit.id, tokens, images, self._worker, call.model, call.method, call.request_id))
        try:
            reply = await self._store.run(account.admit, facts)
        except StoreAway as away:
            try:
                permit.hold = self._alone(account, permit)
            except GatewayError:
                if away.sent:  # it may yet be admitted
                    self._void(permit)
                raise
        except asyncio.CancelledError:
            self._void(permit)
            raise
        else:
            self._judge(account, reply, headers)
        account.live.add(permit.id)
        return permit

    async def sweep(self, clients: Iterable[Client]) -> Mapping[tuple[str, str], int]:
        """Take back the leases of dead workers.  Returns what is used of each budget, by client and limit."""
        used: dict[tuple[str, str], int] = {}
        present = [self._account(client) for client in clients]
        for accounts in _chunks([*present, *await self._former(present)]):
            for account, spent in zip(accounts, await asyncio.gather(*map(self._visit, accounts)), strict=True):
                for limit, units in zip(("tokens_per_day", "images_per_day"), spent, strict=False):
                    if getattr(account.allowed, limit):
                        used[account.client.name, limit] = units
        return used

    async def run(self) -> None:
        """Renew leases and tell the store what it missed, until cancelled."""
        while True:
            await self._endings.flush()
            for accounts in _chunks([account for account in self._accounts.values() if account.live]):
                await asyncio.gather(*map(self._visit, accounts))
            await asyncio.sleep(min(BEAT_SECONDS, self._lease_ms / 5000))

    async def aclose(self) -> None:
        """Tell the store what it missed, if it is there; count what cannot be told."""
        await self._endings.aclose()

    def _account(self, client: Client) -> Account:
        account = self._accounts.get(client.name)
        if account is None or account.client is not client:  # new, or the clients file has changed
            account = Account.of(client, self._lease_ms, account.live if account else set())
            self._accounts[client.name] = account
        return account

    async def _former(self, present: list[Account]) -> list[Account]:
        """Clients that are no longer in the clients file, and may have calls under way all the same."""
        names = [account.client.name for account in present]
        try:
            known = await self._store.script(NAMES, [CLIENTS], names)
        except StoreAway:
            return []
        former = {name.decode() for name in known}.difference(names)
        return [
            self._accounts.get(name) or self._account(Client.model_construct(name=name, key_sha256=()))
            for name in former
        ]

    def _judge(self, account: Account, reply: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        levels = LEVELS(reply)
        if account.policy:
            headers.append((b"ratelimit-policy", account.policy))
            headers.append((b"ratelimit", standing(account.allowed, levels)))
        if levels.refused > 0:  # an error that this frame named would be a cycle, and the body wait for the collector
            raise self._limited(refused(account.client, levels))

    def _alone(self, account: Account, permit: Permit) -> Hold:
        """Decide without the store."""
        if self._state_lost == "closed":
            raise StateLost
        try:
            return self._local.admit(account.client, permit.wanted, len(account.live))
        except RateLimited as error:
            raise self._limited(error) from None

    def _limited(self, error: RateLimited) -> RateLimited:
        self._counts.limited(error.metadata["client"], error.metadata["limit"])
        return error

    async def _end(self, permit: Permit, charge: Charge, outcome: str) -> None:
        account = self._accounts[permit.call.client.name]
        account.live.discard(permit.id)
        if permit.hold is not None:
            self._local.settle(account.client, permit.hold, charge.tokens, charge.images)
        with suppress(StoreAway):
            await self._endings.tell(self._ending(permit, charge, outcome))

    def _void(self, permit: Permit) -> None:
        """The call never began, whatever the store may have made of it."""
        self._endings.tell(self._ending(permit, Charge(), ""))

    def _ending(self, permit: Permit, charge: Charge, outcome: str) -> Ending:
        call = permit.call
        spent = (charge.source, charge.tokens, charge.tokens_in, charge.tokens_out, charge.images)
        facts = (permit.id, outcome, *spent, call.model, call.method, call.request_id, permit.at)
        return Ending(call.client.name, PACKED(facts))

    async def _visit(self, account: Account) -> tuple[int, ...]:
        """Renew the leases of this worker's calls and take back those of dead workers.

        Returns the tokens and images of today; nothing while the store is away.
        """
        while True:
            try:
                *spent, lost, form = await self._store.run(account.visit, *account.live)
            except StoreAway:
                return ()
            if form != OURS:
                self.formats[account.client.name] = form
            else:
                self.formats.pop(account.client.name, None)
            for model, method in lost:
                self._counts.lost(account.client.name, model.decode(), method.decode())
            if len(lost) < LOST:
                return tuple(spent)


def _chunks(accounts: list[Account]) -> Iterable[list[Account]]:
    return (accounts[start : start + CHUNK] for start in range(0, len(accounts), CHUNK))
