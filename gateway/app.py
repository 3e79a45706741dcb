"""What is a worker made of?  `create` builds every part once and hands each what it needs.

The app is FastAPI for the probes and the docs.  Calls do not pass through it: `App.__call__` hands them to the
pipeline, which is plain ASGI, since FastAPI's layers would cost as much as the rest of the gateway.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import httpx
from fastapi import FastAPI
from fastapi.requests import Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from gateway import __version__, asgi, logs, probes
from gateway.auth import Auth
from gateway.catalogue import Catalogue
from gateway.clients import Clients
from gateway.errors import MethodNotAllowed, in_google_shape
from gateway.files import Fixed, Watched
from gateway.ledger import Ledger
from gateway.metrics import Metrics
from gateway.pipeline import Pipeline
from gateway.settings import Settings, watched_clients, watched_key
from gateway.upstream import PyqwestTransport, Upstream

TICK_SECONDS = 0.25  # how often changed files are looked for


class App(FastAPI):
    """One worker's ASGI app."""

    def __init__(self, pipeline: Pipeline, **fastapi: object) -> None:
        super().__init__(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, **fastapi)  # type: ignore[arg-type]
        self.pipeline = pipeline

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] == "http" and scope["path"] not in probes.PATHS:
            await self.pipeline(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    def begin_drain(self) -> None:
        """Say 503 on `/readyz` and close each connection with its answer."""
        self.pipeline.draining = True

    def stop_accepting(self) -> None:
        """Refuse calls that still come."""
        self.pipeline.stopping = True


def create(settings: Settings, *, transport: httpx.AsyncBaseTransport | None = None) -> App:
    """Build a worker's app.  `transport` takes the place of the real way to the upstream."""
    clients = watched_clients(settings)
    key = watched_key(settings)
    catalogue = Catalogue.load()
    metrics = Metrics(known_model=lambda model: model in catalogue.models or model in clients.value.literal_models)
    log = logs.Log(settings.log_level, on_drop=lambda count: metrics.child(metrics.dropped, "log lines").inc(count))
    logs.take_over(log, settings.log_level)
    buffered = asgi.Buffered(settings.max_buffered_bytes)
    upstream = Upstream(
        transport or PyqwestTransport(
            settings.upstream_url,
            connect_seconds=settings.connect_timeout_seconds,
            proxy=settings.upstream_proxy,
            ca_file=settings.upstream_ca_file,
            keepalive=settings.upstream_keepalive,
        ),
        url=settings.upstream_url,
        key=lambda: key.value,
        max_answer_bytes=settings.max_answer_bytes,
        metrics=metrics,
    )  # fmt: skip
    pipeline = Pipeline(
        auth=Auth(lambda: clients.value),
        upstream=upstream,
        ledger=Ledger(metrics, log),
        buffered=buffered,
        log=log,
        max_body_bytes=settings.max_body_bytes,
        call_seconds=settings.call_timeout_seconds,
        idle_seconds=settings.idle_timeout_seconds,
    )

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        metrics.child(metrics.build_info, __version__).set(1)
        metrics.buffered_limit.set(settings.max_buffered_bytes)
        ticking = asyncio.create_task(tick([clients, key], buffered, metrics, log))
        try:
            yield
        finally:
            ticking.cancel()
            await upstream.aclose()
            log.close()

    app = App(pipeline, lifespan=lifespan)
    app.include_router(probes.router(ready=lambda: not pipeline.draining, degraded=list))
    app.add_exception_handler(HTTPException, probe_error)
    return app


async def probe_error(_: Request, error: Exception) -> Response:
    """Say in our shape what FastAPI would say in its own: only a wrong method can happen on the probes' paths."""
    assert isinstance(error, HTTPException)  # noqa: S101  it is registered for nothing else
    refusal = MethodNotAllowed("GET")
    return Response(in_google_shape(refusal), refusal.code, {"allow": "GET, HEAD"}, "application/json")


async def tick(
    files: Sequence[Watched[Clients] | Watched[str] | Fixed[str]],
    buffered: asgi.Buffered,
    metrics: Metrics,
    log: logs.Log,
) -> None:
    """Look after what changes by itself: files that are replaced, and a gauge too busy to be set at each change."""
    while True:
        for file in files:
            match file.refresh():
                case "changed":
                    log.event("reloaded", file=file.path.name)
                case "failed":
                    metrics.reload_failures.inc()
                    log.event("reload_failed", level="error", file=file.path.name, problem=file.problem)
        metrics.buffered.set(buffered.held)
        await asyncio.sleep(TICK_SECONDS)
