"""Is it alive, is it ready, and what does it offer?  The routes that are no calls: health checks and documentation.

Alive means that the event loop runs.  Ready means that the clients file is loaded and calls are taken; a store that is
unavailable is named as degraded, and only where the operator chose `closed` does it make the gateway unready.
"""

from collections.abc import Callable, Mapping, MutableMapping
from importlib import resources
from typing import Any

from fastapi import APIRouter
from fastapi.responses import HTMLResponse, JSONResponse, Response

from gateway import __version__
from gateway.asgi.request import Request, Scope, Send

PATHS = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
)
METHODS = ["GET", "HEAD"]


def router(*, ready: Callable[[], bool], degraded: Callable[[], Mapping[str, str]]) -> APIRouter:
    """The routes; `ready` and `degraded` are called at each probe."""
    routes = APIRouter()
    files = resources.files("gateway.asgi") / "static"
    openapi = files.joinpath("openapi.json").read_text().replace("{version}", __version__)
    page = files.joinpath("page.html").read_text()

    @routes.api_route("/healthz", methods=METHODS)
    async def healthz() -> Response:
        return JSONResponse({"status": "alive", "version": __version__})

    @routes.api_route("/readyz", methods=METHODS)
    async def readyz() -> Response:
        good, reasons = ready(), degraded()
        return JSONResponse(
            {"status": "ready" if good else "not ready", "degraded": list(reasons)}
            | ({"why": reasons} if reasons else {}),
            status_code=200 if good else 503,
            headers=None if good else {"retry-after": "1"},
        )

    @routes.api_route("/openapi.json", methods=METHODS)
    async def spec() -> Response:
        return Response(openapi, media_type="application/json")

    @routes.api_route("/docs", methods=METHODS)
    async def docs() -> Response:
        return HTMLResponse(page, headers={"content-security-policy": PAGE_POLICY})

    return routes


def stamped(scope: Scope, send: Send) -> Send:
    """A `send` that adds the request's id, as every answer to a call has it."""
    request_id = Request.of(scope).request_id.encode()
    lines = [(b"x-request-id", request_id), (b"request-id", request_id)]

    async def stamp(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message["headers"].extend(lines)
        await send(message)

    return stamp
