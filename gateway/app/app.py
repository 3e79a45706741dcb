"""What is a worker made of?  `create` builds every part once and hands each what it needs.

The app is FastAPI for the probes and the docs.  Calls do not pass through it: `App.__call__` hands them to the
pipeline, which is plain ASGI, since FastAPI's layers would cost as much as the rest of the gateway.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
from fastapi import FastAPI
from fastapi.requests import Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from gateway import __version__, asgi
from gateway.app.housekeeping import Housekeeping
from gateway.app.intervals import Intervals
from gateway.asgi import probes
from gateway.auth import Auth
from gateway.background import Background, Report
from gateway.cache import PROBE as CACHE_PROBE
from gateway.cache import Cache, CacheStore
from gateway.call import Dialect
from gateway.config import Catalogue, Clients, Settings, Watched, watched_clients, watched_key
from gateway.dialects import ALL, Router
from gateway.errors import GOOGLE, GatewayError, MethodNotAllowed
from gateway.limits import PROBE as STATE_PROBE
from gateway.limits import Limits
from gateway.memory import MemoryBudget
from gateway.pipeline import Pipeline
from gateway.store import Store
from gateway.tasks import Tasks
from gateway.telemetry import CollectorRegistry, Ledger, MetricFile, Metrics, VendorModels, logs, reporter
from gateway.upstream import HttpxTransport, PyqwestTransport, Transport, Trial, Trouble, Upstream, UpstreamKey

NOWHERE = "unix:///nonexistent"  # the store's URL where none is set: unavailable
PROBES = {"state": STATE_PROBE, "cache": CACHE_PROBE}
CACHE_OPTIONS = {"connections": 4, "full_is_unavailable": False}  # answers of some MB; a full store can still be read


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a worker is made of."""

    settings: Settings
    clients: Watched[Clients]
    key: UpstreamKey
    metrics: Metrics
    log: logs.Log
    report: Report
    vendor_models: VendorModels
    memory_budget: MemoryBudget
    state_store: Store
    cache_store: Store
    ledger: Ledger
    limits: Limits
    tasks: Tasks
    cache: Cache
    upstream: Upstream
    pipeline: Pipeline


class App(FastAPI):
    """One worker's ASGI app."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=self._live)
        self.parts = parts
        self._pipeline = parts.pipeline
        self.include_router(probes.router(ready=self.ready, degraded=self.degraded))
        self.add_exception_handler(HTTPException, probe_error)

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif scope["path"] in probes.PATHS:
            await super().__call__(scope, receive, probes.stamped(scope, send))
        else:
            await self._pipeline(scope, receive, send)

    def count_refusal(self, request_id: str, error: GatewayError, address: str | None) -> None:
        """Count what the HTTP protocol has answered itself."""
        self.parts.ledger.count_refusal(request_id, error, address)

    def ready(self) -> bool:
        """Whether calls are taken."""
        parts = self.parts
        return not parts.pipeline.drain.draining and (parts.state_store.up or parts.settings.state_lost == "local")

    def degraded(self) -> dict[str, str]:
        """What is unavailable without making the gateway unready, and why."""
        parts = self.parts
        stores = {"state": parts.state_store}
        if parts.settings.cache_redis_url not in {None, parts.settings.redis_url}:  # else they are one
            stores["cache"] = parts.cache_store
        unavailable = {name: store.why for name, store in stores.items() if not store.up}
        return unavailable | (
            {"metrics": "no room for metric files; numbers are held in memory"} if MetricFile.held else {}
        )

    def begin_drain(self) -> None:
        """Say 503 on `/readyz` and close each connection with its answer."""
        self._pipeline.drain.draining = True

    def stop_accepting(self) -> None:
        """Refuse calls that still come."""
        self._pipeline.drain.stopping = True

    @contextlib.asynccontextmanager
    async def _live(self, _: FastAPI) -> AsyncIterator[None]:
        parts = self.parts
        parts.metrics.child(parts.metrics.build_info, __version__).set(1)
        parts.metrics.buffered_limit.set(parts.settings.max_buffered_bytes)
        await asyncio.gather(parts.state_store.probe(), parts.cache_store.probe())
        await parts.vendor_models.sync(parts.state_store)  # so that the first call has its label
        housekeeping = Housekeeping(
            clients=parts.clients, key=parts.key, memory_budget=parts.memory_budget, metrics=parts.metrics,
            log=parts.log,
        )  # fmt: skip
        try:
            async with Background(parts.report) as background:
                background.keep("housekeeping", housekeeping.run)
                background.keep("upstream key", housekeeping.watch_key)
                background.keep("vendor models", partial(parts.vendor_models.share, parts.state_store))
                background.keep("lease renewal", parts.limits.run)
                background.keep("task owners", parts.tasks.run)
                background.keep("state probe", parts.state_store.monitor)
                background.keep("cache probe", parts.cache_store.monitor)
                yield
        finally:
            await parts.cache.aclose()
            await parts.tasks.aclose()
            await parts.limits.aclose()
            await parts.state_store.aclose()
            await parts.cache_store.aclose()
            await parts.upstream.aclose()
            parts.log.close()


def create(
    settings: Settings,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    log: logs.Log | None = None,
    registry: CollectorRegistry | None = None,
    dialects: Sequence[Dialect] = ALL,
    intervals: Intervals = Intervals(),  # noqa: B008  it is frozen
) -> App:
    """Build a worker's app.

    `transport`, `log` and `registry` take the place of the real ones; `intervals` are those that no setting gives.
    """
    clients, catalogue, vendor_models = watched_clients(settings), Catalogue.load(), VendorModels()
    outbound = build_transport(settings) if transport is None else HttpxTransport(transport)
    key = build_key(settings, outbound, intervals)
    metrics = build_metrics(registry, catalogue, vendor_models, clients)
    log = log or build_log(settings, metrics)
    report, memory_budget = reporter(log, metrics), MemoryBudget(settings.max_buffered_bytes)
    upstream = build_upstream(settings, outbound, key, metrics, log, backoff_seconds=intervals.backoff_seconds)
    ledger, timeout = Ledger(metrics, log), intervals.store_timeout_seconds
    state_store = watched_store(settings.redis_url or NOWHERE, "state", metrics, log, timeout=timeout)
    limits, tasks = build_limits(settings, state_store, catalogue, ledger), build_tasks(state_store, metrics, log)
    cache_url = settings.cache_redis_url or settings.redis_url or NOWHERE
    cache_store = watched_store(cache_url, "cache", metrics, log, timeout=timeout, **CACHE_OPTIONS)
    cache = build_cache(settings, cache_store, ledger, memory_budget, report)
    pipeline = Pipeline(
        router=Router(dialects), limits=limits, cache=cache, auth=Auth(lambda: clients.value), upstream=upstream,
        tasks=tasks, ledger=ledger, memory_budget=memory_budget, log=log,
        max_body_bytes=settings.max_body_bytes,
        call_seconds=settings.call_timeout_seconds,
        stream_seconds=settings.stream_timeout_seconds,
        idle_seconds=settings.idle_timeout_seconds,
        models_seen=vendor_models.seen,
        body_seconds=intervals.body_seconds,
        listed_seconds=intervals.listed_seconds,
        file_idle_seconds=intervals.file_idle_seconds,
        shared_poll_seconds=intervals.shared_poll_seconds,
    )  # fmt: skip
    return App(Parts(
        settings=settings, clients=clients, key=key, metrics=metrics, log=log, report=report,
        vendor_models=vendor_models, memory_budget=memory_budget, state_store=state_store, cache_store=cache_store,
        ledger=ledger, limits=limits, tasks=tasks, cache=cache, upstream=upstream, pipeline=pipeline,
    ))  # fmt: skip


def build_log(settings: Settings, metrics: Metrics) -> logs.Log:
    """The log of the process, through which libraries log too."""
    log = logs.Log(settings.log_level, on_drop=metrics.child(metrics.dropped, "log lines").inc)
    logs.take_over(log, settings.log_level)
    return log


def build_metrics(
    registry: CollectorRegistry | None, catalogue: Catalogue, vendor_models: VendorModels, clients: Watched[Clients]
) -> Metrics:
    """The instruments; models of the catalogue, of the vendor's lists and of the clients file have labels."""
    return Metrics(
        registry,
        lambda name: name in catalogue.models or name in vendor_models or name in clients.value.literal_models,
    )


def build_key(settings: Settings, transport: Transport, intervals: Intervals) -> UpstreamKey:
    """The key of the upstream, which follows its file."""
    return UpstreamKey(
        watched_key(settings),
        Trial(transport, settings.upstream_url, intervals.trial_seconds),
        refused_seconds=intervals.refused_key_seconds,
        unreached_seconds=intervals.unreached_seconds,
    )


def build_cache(
    settings: Settings, cache_store: Store, ledger: Ledger, memory_budget: MemoryBudget, report: Report
) -> Cache:
    """The cached answers of the upstream, and those on their way to this worker."""
    return Cache(
        CacheStore(cache_store),
        ledger,
        upstream=settings.upstream_url,
        lease=memory_budget.lease,
        call_seconds=settings.call_timeout_seconds,
        stream_seconds=settings.stream_timeout_seconds,
        report=report,
    )


def build_upstream(
    settings: Settings,
    transport: Transport,
    key: UpstreamKey,
    metrics: Metrics,
    log: logs.Log,
    *,
    backoff_seconds: float,
) -> Upstream:
    """The upstream client, whose outages are logged."""
    trouble = Trouble(lambda why: log.event("upstream_unreachable", level="error", why=why))
    return Upstream(
        transport,
        url=settings.upstream_url,
        key=lambda: key.value,
        max_answer_bytes=settings.max_answer_bytes,
        call_seconds=settings.call_timeout_seconds,
        backoff_seconds=backoff_seconds,
        metrics=metrics,
        on_trouble=trouble.tell,
    )


def build_limits(settings: Settings, state_store: Store, catalogue: Catalogue, ledger: Ledger) -> Limits:
    """This worker's part of the limits."""
    return Limits(
        state_store,
        catalogue,
        ledger,
        worker=f"{os.getpid()}",
        replicas=settings.replicas,
        workers=settings.workers,
        state_lost=settings.state_lost,
    )


def build_tasks(state_store: Store, metrics: Metrics, log: logs.Log) -> Tasks:
    """Whose task is whose; an upstream that gives one id twice is logged."""
    return Tasks(
        state_store,
        taken=lambda: log.event("task_id_taken", level="error"),
        dropped=metrics.child(metrics.dropped, "task owners").inc,
    )


def watched_store(url: str, name: str, metrics: Metrics, log: logs.Log, **options: Any) -> Store:
    """A store whose outages and recoveries are logged, and whose round trips are measured; options are `Store`'s."""
    up = metrics.child(metrics.store_up, name)
    up.set(1)

    def changed(is_up: bool, why: str) -> None:
        up.set(is_up)
        if is_up:
            log.event("recovered", store=name)
        else:
            log.event("degraded", level="error", store=name, why=why[: logs.FIELD_CHARS])

    def failed(operation: str, why: str) -> None:
        log.event("store_error", level="error", store=name, operation=operation, why=why[: logs.FIELD_CHARS])

    def observe(operation: str, seconds: float) -> None:
        metrics.child(metrics.store_duration, operation).observe(seconds)

    report = reporter(log, metrics)
    return Store(url, probe=PROBES[name], on_change=changed, on_error=failed, observe=observe, report=report, **options)


def build_transport(settings: Settings) -> Transport:
    """The real transport to the upstream."""
    return PyqwestTransport(
        settings.upstream_url,
        connect_seconds=settings.connect_timeout_seconds,
        proxy=settings.upstream_proxy,
        ca_file=settings.upstream_ca_file,
        keepalive=settings.upstream_keepalive,
    )


async def probe_error(_: Request, error: Exception) -> Response:
    """Write in our error shape what FastAPI would in its own: only a wrong method can happen on the probes' paths."""
    assert isinstance(error, HTTPException)  # noqa: S101  it is registered for nothing else
    refusal = MethodNotAllowed("GET")
    return Response(GOOGLE.write(refusal), refusal.code, {"allow": "GET, HEAD"}, "application/json")
