"""Who looks after the leases of workers that died, also of clients that are quiet?

The parent, every few seconds: it takes them back with the workers' own script, counts their calls as lost, and
publishes how much of each budget is used.
"""

import asyncio
from collections.abc import Mapping

from gateway.app import watched_store
from gateway.catalogue import Catalogue
from gateway.clients import Clients
from gateway.files import Watched
from gateway.ledger import Ledger
from gateway.limits import Limits
from gateway.logs import Log
from gateway.metrics import Metrics
from gateway.settings import Settings, watched_clients

SWEEP_SECONDS = 5.0
BUDGETS = ("tokens_per_day", "images_per_day")


async def sweep(settings: Settings, log: Log) -> None:
    """Sweep until cancelled."""
    assert settings.redis_url is not None  # noqa: S101  the parent has filled it in
    clients, catalogue = watched_clients(settings), Catalogue.load()
    metrics = Metrics(None, catalogue.models.__contains__)
    store = watched_store(settings.redis_url, "state", metrics, log)
    limits = Limits(store, catalogue, Ledger(metrics, log), worker="parent")
    try:
        while True:
            clients.refresh()
            publish(clients, await limits.sweep(clients.value), metrics)
            await asyncio.sleep(SWEEP_SECONDS)
    finally:
        await store.aclose()


def publish(clients: Watched[Clients], used: Mapping[tuple[str, str], int], metrics: Metrics) -> None:
    """Set the gauges of the budgets."""
    for client in clients.value:
        for budget in BUDGETS:
            limit = getattr(client, budget)
            if limit is not None:
                metrics.child(metrics.limit, client.name, budget).set(limit)
                metrics.child(metrics.limit_used, client.name, budget).set(used.get((client.name, budget), 0))
