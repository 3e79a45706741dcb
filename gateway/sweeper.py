"""Who looks after the leases of workers that died, also of clients that are quiet?

The parent, every few seconds: it takes them back with the workers' own script, counts their calls as lost, and
publishes how much of each budget is used.  It also warns before the store is full, since records are kept for 90 days.
"""

import asyncio
from collections.abc import Mapping

from gateway.app import watched_store
from gateway.catalogue import Catalogue
from gateway.clients import Clients
from gateway.files import Watched
from gateway.ledger import Ledger
from gateway.limits import Limits
from gateway.limits.account import key
from gateway.logs import Log
from gateway.metrics import Metrics
from gateway.settings import Settings, watched_clients
from gateway.store import Store
from gateway.store.command import StoreAway

SWEEP_SECONDS = 5.0
FILLING, ROOMY = 0.8, 0.7  # of the store's memory; apart, so that a level between them is not told over and over
BUDGETS = ("tokens_per_day", "images_per_day")


async def sweep(settings: Settings, log: Log) -> None:
    """Sweep until cancelled."""
    assert settings.redis_url is not None  # noqa: S101  the parent has filled it in
    clients, catalogue = watched_clients(settings), Catalogue.load()
    metrics = Metrics(None, catalogue.models.__contains__)
    store = watched_store(settings.redis_url, "state", metrics, log)
    limits = Limits(store, catalogue, Ledger(metrics, log), worker="parent")
    filling = False
    try:
        while True:
            clients.refresh()
            publish(clients, await limits.sweep(clients.value), metrics)
            filling = await warn(store, clients, log, filling=filling)
            await asyncio.sleep(SWEEP_SECONDS)
    finally:
        await store.aclose()


def publish(clients: Watched[Clients], used: Mapping[tuple[str, str], int], metrics: Metrics) -> None:
    """Set the gauges of the budgets; what could not be asked stays as it was."""
    for client in clients.value:
        for budget in BUDGETS:
            limit = getattr(client, budget)
            if limit is not None:
                metrics.child(metrics.limit, client.name, budget).set(limit)
                if (spent := used.get((client.name, budget))) is not None:
                    metrics.child(metrics.limit_used, client.name, budget).set(spent)


async def warn(store: Store, clients: Watched[Clients], log: Log, *, filling: bool) -> bool:
    """Say it once when the store fills up, and once when there is room again; returns which of the two holds."""
    try:
        full = await store.fullness(key(client.name, "limits") for client in clients.value)
    except StoreAway:
        return filling
    if not filling and full >= FILLING:
        log.event("store_filling", level="warning", store="state", full_percent=round(full * 100))
        return True
    if filling and full < ROOMY:
        log.event("store_has_room", store="state", full_percent=round(full * 100))
        return False
    return filling
