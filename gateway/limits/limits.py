"""May they?  The limits of every client, held by all workers together.

Rates are token buckets (GCRA), budgets are counters of a UTC day or month, concurrency is a set of leases.  `admit`
takes a lease and a reservation in one script of the state store; `Permit.settle` gives them back and writes the call's
record in another.  Either may be interrupted: a call whose admission has an unknown result is settled by its id, a
settlement that the store did not acknowledge waits in a queue, and settling an id twice changes nothing (idempotent).
Tokens are reserved by an estimate, and what an answer costs beyond it is charged when it ends: calls in flight can
overshoot `tokens_per_minute` by that error each, and later calls wait until it has drained.
A worker renews the leases of its calls every second (a heartbeat); those of a worker that dies expire.
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
from gateway.limit_table import BUDGETS, CONCURRENCY
from gateway.limits.allowance import PollAllowance
from gateway.limits.client_limits import CLIENTS, NAMES, ClientLimits
from gateway.limits.corrections import Correction
from gateway.limits.counts import Counts
from gateway.limits.estimate import estimate
from gateway.limits.fallback import FallbackLimiter, LocalReservation
from gateway.limits.headers import Levels, refusal, refusal_of, standing
from gateway.limits.permit import Charge, Permit
from gateway.limits.quotas import amounts
from gateway.limits.settlements import CHUNK, Settlement, Settlements
from gateway.store import Store, StoreUnavailable

PACKED = msgspec.msgpack.Encoder().encode
LEVELS = msgspec.msgpack.Decoder(Levels).decode
HEARTBEAT_SECONDS = 1.0
LOST = 100  # lost calls that renew_and_reap.lua reaps at once
UNREAD, OURS = 0, 1  # formats of the stored state, as renew_and_reap.lua returns them; others are newer


class Limits:
    """Admission and settlement in one worker, and the parent's sweep.

    `worker` names this process in leases.  `replicas` x `workers` share the limits while the store is unavailable.
    `lease_seconds` is how long the lease of a dead worker lasts; `queue` how many settlements may wait for the store.
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
        self._fallback = FallbackLimiter(replicas * workers)
        self._polls = PollAllowance(store, replicas * workers)
        self._client_limits: dict[str, ClientLimits] = {}
        self._reading = Counter[str]()  # calls whose bodies are still coming, by client
        self.formats: dict[str, int] = {}  # of clients whose state has another format: see renew_and_reap.lua
        self._settlements = Settlements(store, counts, self._client_limits, queue)
        self._ids = (f"{run}-{number:x}" for run in [secrets.token_hex(5)] for number in count(1))

    @contextmanager
    def reading(self, client: Client) -> Iterator[None]:
        """Count a call of the client's while its body is read.

        Raises `RateLimited` for a client that has all its `concurrent` calls in this worker already.
        """
        reading = self._reading[client.name]
        most = client.amount(CONCURRENCY.name)
        if most is not None and len(self._limits_of(client).live) + reading >= most:
            raise self._limited(refusal(client, CONCURRENCY, 1))
        self._reading[client.name] += 1
        try:
            yield
        finally:
            self._reading[client.name] -= 1

    async def allow_poll(self, client: Client) -> None:
        """Let a client ask for a task of its own, which costs it nothing.  Raises `RateLimited`."""
        try:
            await self._polls.take(client)
        except RateLimited as error:
            raise self._limited(error) from None

    async def admit(self, call: Call) -> Permit:
        """Take what the call needs from every limit of its client; the permit's headers say what is left.

        Raises `RateLimited`, `BudgetSpent` or `StateLost`, and then nothing is taken.
        """
        client_limits = self._limits_of(call.client)
        permit = Permit(
            call=call,
            id=next(self._ids),
            at=int(time.time() * 1000),
            estimate=estimate(call, self._catalogue),
            end=self._end,
        )
        reserved = client_limits.quotas.reserved(permit.estimate)
        facts = PACKED((permit.id, reserved, self._worker, call.model, call.operation.name, call.request_id))
        try:
            reply = await self._store.run(client_limits.admit, facts)
        except StoreUnavailable as error:
            try:
                permit.reservation = self._admit_locally(client_limits, permit)
            except GatewayError:
                if error.sent:  # it may yet be admitted
                    self._void(permit)
                raise
        except asyncio.CancelledError:
            self._void(permit)
            raise
        else:
            permit.headers = self._judge(client_limits, reply)
        client_limits.live.add(permit.id)
        return permit

    async def correct(self, client: Client, correction: Correction) -> bool:
        """Correct what a task was charged to what it has cost; once, and only in the period of its creation.

        Returns whether that is done now: not where it was done before, and not yet while the store is unavailable.
        """
        self._limits_of(client)
        settlement = Settlement(client.name, PACKED(correction.facts()), correction=correction)
        try:
            return await self._settlements.send(settlement) == 1
        except StoreUnavailable:
            return False

    async def sweep(self, clients: Iterable[Client]) -> Mapping[tuple[str, str], int]:
        """Reap the leases of dead workers.  Returns the usage of each budget, by client and limit."""
        used: dict[tuple[str, str], int] = {}
        present = [self._limits_of(client) for client in clients]
        for chunk in _chunks([*present, *await self._former(present)]):
            spent_by_each = await asyncio.gather(*map(self._renew_and_reap, chunk))
            for client_limits, spent in zip(chunk, spent_by_each, strict=True):
                client = client_limits.client
                for limit, units in zip(BUDGETS, spent, strict=False):
                    if client.amount(limit.name) is not None:
                        used[client.name, limit.name] = units
        return used

    async def run(self) -> None:
        """Renew leases and send settlements that the store missed, until cancelled."""
        while True:
            await self._settlements.flush()
            for chunk in _chunks([one for one in self._client_limits.values() if one.live]):
                await asyncio.gather(*map(self._renew_and_reap, chunk))
            await asyncio.sleep(min(HEARTBEAT_SECONDS, self._lease_ms / 5000))

    async def aclose(self) -> None:
        """Send the settlements that the store missed, if it is available; count those that cannot be sent."""
        await self._settlements.aclose()

    def _limits_of(self, client: Client) -> ClientLimits:
        client_limits = self._client_limits.get(client.name)
        if client_limits is None or client_limits.client is not client:  # new, or the clients file has changed
            client_limits = ClientLimits.of(client, self._lease_ms, client_limits.live if client_limits else set())
            self._client_limits[client.name] = client_limits
        return client_limits

    async def _former(self, present: list[ClientLimits]) -> list[ClientLimits]:
        """Clients that are no longer in the clients file, and may have calls in flight all the same."""
        names = [client_limits.client.name for client_limits in present]
        try:
            known = await self._store.script(NAMES, [CLIENTS], names)
        except StoreUnavailable:
            return []
        former = {name.decode() for name in known}.difference(names)
        return [
            self._client_limits.get(name) or self._limits_of(Client.model_construct(name=name, key_sha256=()))
            for name in former
        ]

    def _judge(self, client_limits: ClientLimits, reply: bytes) -> list[tuple[bytes, bytes]]:
        levels, headers = LEVELS(reply), list[tuple[bytes, bytes]]()
        if client_limits.policy:
            headers.append((b"ratelimit-policy", client_limits.policy))
            headers.append((b"ratelimit", standing(client_limits.quotas, levels)))
        if levels.refused:  # an error that this frame named would be a cycle, and the body wait for the collector
            raise self._limited(refusal_of(client_limits.client, levels, headers))
        return headers

    def _admit_locally(self, client_limits: ClientLimits, permit: Permit) -> LocalReservation:
        """Decide without the store, by this worker's share."""
        if self._state_lost == "closed":
            raise StateLost
        try:
            return self._fallback.admit(client_limits.client, permit.estimate, len(client_limits.live))
        except RateLimited as error:
            raise self._limited(error) from None

    def _limited(self, error: RateLimited) -> RateLimited:
        self._counts.limited(error.metadata["client"], error.metadata["limit"])
        return error

    async def _end(self, permit: Permit, charge: Charge, outcome: str, notes: Mapping[str, str]) -> None:
        client_limits = self._client_limits[permit.call.client.name]
        client_limits.live.discard(permit.id)
        if permit.reservation is not None:
            self._fallback.settle(client_limits.client, permit.reservation, amounts(charge))
        with suppress(StoreUnavailable):
            await self._settlements.send(self._settlement(permit, charge, outcome, notes))

    def _void(self, permit: Permit) -> None:
        """Settle a call that never began, in case the store has admitted it."""
        self._settlements.send(self._settlement(permit, Charge(), "", {}))

    def _settlement(self, permit: Permit, charge: Charge, outcome: str, notes: Mapping[str, str]) -> Settlement:
        call = permit.call
        spent = (charge.source, amounts(charge), charge.tokens_in, charge.tokens_out)
        facts = (permit.id, outcome, *spent, call.model, call.operation.name, call.request_id, permit.at, notes)
        return Settlement(call.client.name, PACKED(facts))

    async def _renew_and_reap(self, client_limits: ClientLimits) -> tuple[int, ...]:
        """Renew the leases of this worker's calls and reap those of dead workers.

        Returns the usage of each budget; nothing while the store is unavailable.
        """
        while True:
            try:
                spent, lost, form = await self._store.run(client_limits.renew_and_reap, *client_limits.live)
            except StoreUnavailable:
                return ()
            if form != OURS:
                self.formats[client_limits.client.name] = form
            else:
                self.formats.pop(client_limits.client.name, None)
            for model, method in lost:
                self._counts.lost(client_limits.client.name, model.decode(), method.decode())
            if len(lost) < LOST:
                return tuple(spent)


def _chunks(clients: list[ClientLimits]) -> Iterable[list[ClientLimits]]:
    return (clients[start : start + CHUNK] for start in range(0, len(clients), CHUNK))
