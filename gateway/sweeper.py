"""Who looks after the leases of workers that died, also of clients that are quiet?

The parent, every few seconds: it takes them back with the workers' own script, counts their calls as lost, and
publishes how much of each budget is used.  It also warns before the store is full, since records are kept for 90 days.
"""

import asyncio
from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from gateway.app import watched_store
from gateway.catalogue import Catalogue
from gateway.clients import Clients
from gateway.ledger import Ledger
from gateway.limits import Limits
from gateway.limits.account import key
from gateway.logs import Log
from gateway.metrics import CollectorRegistry, Metrics
from gateway.settings import Settings, watched_clients
from gateway.store import Store
from gateway.store.command import StoreAway

SWEEP_SECONDS = 5.0
FILLING, ROOMY = 0.8, 0.7  # of the store's memory; apart, so that a level between them is not told over and over
BUDGETS = ("tokens_per_day", "images_per_day")


async def sweep(settings: Settings, log: Log, registry: CollectorRegistry | None = None) -> None:
    """Sweep until cancelled."""
    assert settings.redis_url is not None  # noqa: S101  the parent has filled it in
    clients, catalogue = watched_clients(settings), Catalogue.load()
    metrics = Metrics(registry, catalogue.models.__contains__)
    store = watched_store(settings.redis_url, "state", metrics, log)
    limits = Limits(store, catalogue, Ledger(metrics, log), worker="parent")
    budgets: AbstractSet[tuple[str, str]] = frozenset()
    filling = False
    try:
        while True:
            clients.refresh()
            budgets = publish(clients.value, await limits.sweep(clients.value), metrics, before=budgets)
            filling = await warn(store, clients.value, metrics, log, filling=filling)
            await asyncio.sleep(SWEEP_SECONDS)
    finally:
        await store.aclose()


def publish(
    clients: Clients, used: Mapping[tuple[str, str], int], metrics: Metrics, *, before: AbstractSet[tuple[str, str]]
) -> AbstractSet[tuple[str, str]]:
    """Set the gauges of the budgets and return which there are; what could not be asked stays as it was."""
    limits = {(client.name, budget): getattr(client, budget) for client in clients for budget in BUDGETS}
    limits = {budget: limit for budget, limit in limits.items() if limit is not None}
    for gone in before - limits.keys():  # a gauge cannot be taken out of its file; a limit of 0 is none
        metrics.child(metrics.limit, *gone).set(0)
        metrics.child(metrics.limit_used, *gone).set(0)
    for budget, limit in limits.items():
        metrics.child(metrics.limit, *budget).set(limit)
        if budget in used:
            metrics.child(metrics.limit_used, *budget).set(used[budget])
    return limits.keys()


async def warn(store: Store, clients: Clients, metrics: Metrics, log: Log, *, filling: bool) -> bool:
    """Publish how full the store is; say it once when it fills up, and once when there is room again.

    Returns which of the two holds.
    """
    try:
        full = await store.fullness(key(client.name, "limits") for client in clients)
    except StoreAway:
        return filling
    metrics.child(metrics.store_full, "state").set(full)
    if not filling and full >= FILLING:
        log.event("store_filling", level="warning", store="state", full_percent=round(full * 100))
        return True
    if filling and full < ROOMY:
        log.event("store_has_room", store="state", full_percent=round(full * 100))
        return False
    return filling
