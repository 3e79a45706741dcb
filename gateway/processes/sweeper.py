"""Who reaps the leases of workers that died, also of clients that make no calls?

The parent, every few seconds: it reaps expired leases with the workers' own script, counts their calls as lost, and
publishes how much of each budget is used.  Gateways that share a store take turns under a lock with a time to live: one
sweeps for all and stores the usage of the budgets there for the others; one that dies meanwhile holds the lock until it
expires.  The parent also warns before the store is full, since records are kept for 90 days, and logs which clients'
state was written by another version.
"""

import asyncio
import os
import socket
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import msgspec

from gateway.app import watched_store
from gateway.config import Catalogue, Clients, Settings, watched_clients
from gateway.limit_table import BUDGETS, BY_NAME
from gateway.limits import FORMAT, UNREAD, Limits, key
from gateway.store import Store, StoreUnavailable
from gateway.telemetry import Ledger, Log, Metrics

SWEEP_SECONDS = 5.0
FILLING, ROOMY = (
    0.8,
    0.7,
)  # of the store's memory; apart (hysteresis), so that a level between them is not logged again and again
TURN = f"gw:sweep:{FORMAT}"  # the lock of whoever sweeps
SWEPT = f"gw:swept:{FORMAT}"  # the usage that the last sweep found
STALE_SECONDS = 60  # a result that is older is not used: nobody sweeps any more
USED = msgspec.msgpack.Decoder(list[tuple[str, str, int]])
NAMED = 10  # clients in one line


async def sweep(settings: Settings, log: Log, metrics: Metrics) -> None:
    """Sweep until cancelled."""
    assert settings.redis_url is not None  # noqa: S101  the parent has filled it in
    clients, catalogue = watched_clients(settings), Catalogue.load()
    store = watched_store(settings.redis_url, "state", metrics, log)
    limits = Limits(store, catalogue, Ledger(metrics, log), worker="parent")
    budgets: AbstractSet[tuple[str, str]] = frozenset()
    swept, reported, filling = None, Reported(), False
    try:
        await store.probe()
        while True:
            clients.refresh()
            used = await used_budgets(limits, store, clients.value, new=swept is not clients.value)
            swept = clients.value
            budgets = publish(swept, used, metrics, before=budgets)
            await count_tasks(store, swept, metrics)
            reported = report_formats(limits.formats, log, reported)
            filling = await report_fullness(store, swept, metrics, log, filling=filling)
            await asyncio.sleep(SWEEP_SECONDS)
    finally:
        await store.aclose()


async def used_budgets(limits: Limits, store: Store, clients: Clients, *, new: bool) -> Mapping[tuple[str, str], int]:
    """The usage of each budget: by a sweep, if it is our turn or the clients are `new`, else by the last one."""
    try:
        who, until = f"{socket.gethostname()}:{os.getpid()}", round(SWEEP_SECONDS * 980)  # over before we come again
        if await store.command("SET", TURN, who, "NX", "PX", until) is None and not new:
            swept = await store.command("GET", SWEPT)
            return {} if swept is None else {(name, limit): units for name, limit, units in USED.decode(swept)}
        used = await limits.sweep(clients)
        if used:
            await store.command(
                "SET",
                SWEPT,
                msgspec.msgpack.encode([(*budget, units) for budget, units in used.items()]),
                "PX",
                STALE_SECONDS * 1000,
            )
    except (StoreUnavailable, msgspec.MsgspecError):
        return {}
    return used


def publish(
    clients: Clients, used: Mapping[tuple[str, str], int], metrics: Metrics, *, before: AbstractSet[tuple[str, str]]
) -> AbstractSet[tuple[str, str]]:
    """Set the gauges of the budgets and return which there are; a gauge whose usage is unknown stays as it was."""
    amounts = {(client.name, budget.name): client.amount(budget.name) for client in clients for budget in BUDGETS}
    limits = {budget: limit for budget, limit in amounts.items() if limit is not None}
    for gone in before - limits.keys():  # a gauge cannot be taken out of its file; a limit of 0 is none
        metrics.child(metrics.limit, *gone).set(0)
        metrics.child(metrics.limit_used, *gone).set(0)
    for budget, limit in limits.items():
        metrics.child(metrics.limit, *budget).set(limit)
        if budget in used:
            metrics.child(metrics.limit_used, *budget).set(used[budget] / BY_NAME[budget[1]].scale)
    return limits.keys()


async def count_tasks(store: Store, clients: Clients, metrics: Metrics) -> None:
    """Publish how many tasks of each client are open: created, and not seen to have ended."""
    try:
        counts = await asyncio.gather(*(store.command("ZCARD", key(client.name, "tasks")) for client in clients))
    except StoreUnavailable:
        return
    for client, count in zip(clients, counts, strict=True):
        metrics.child(metrics.open_tasks, client.name).set(count)


class Reported(NamedTuple):
    """The clients whose stored state was reported as not in the format of this version."""

    unread: tuple[str, ...] = ()
    newer: tuple[str, ...] = ()


def report_formats(formats: Mapping[str, int], log: Log, reported: Reported) -> Reported:
    """Log which clients' state another version wrote, once each time that these change.  Returns what holds now."""
    unread = tuple(sorted(name for name, form in formats.items() if form == UNREAD))
    now = Reported(unread, tuple(sorted(formats.keys() - set(unread))))
    if now.unread and now.unread != reported.unread:
        log.event("state_unread", level="error", clients=now.unread[:NAMED], of=len(now.unread))
    if now.newer and now.newer != reported.newer:
        log.event("state_newer", level="warning", clients=now.newer[:NAMED], of=len(now.newer))
    return now


async def report_fullness(store: Store, clients: Clients, metrics: Metrics, log: Log, *, filling: bool) -> bool:
    """Publish how full the store is; log it once when it fills up, and once when there is room again.

    Returns which of the two holds.
    """
    try:
        full = await store.fullness(key(client.name, "limits") for client in clients)
    except StoreUnavailable:
        return filling
    metrics.child(metrics.store_full, "state").set(full)
    if not filling and full >= FILLING:
        log.event("store_filling", level="warning", store="state", full_percent=round(full * 100))
        return True
    if filling and full < ROOMY:
        log.event("store_has_room", store="state", full_percent=round(full * 100))
        return False
    return filling
