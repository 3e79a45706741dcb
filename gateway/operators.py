"""What does the operators' port serve?  `/metrics`, of all workers, and nothing else."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Generator

import uvicorn

from gateway import errors, google_shape, metrics
from gateway.asgi import Receive, Scope, Send

STOP_SECONDS = 1  # a scraper that reads slowly is not waited for longer


class MetricsPage:
    """An ASGI app.  Scrapes that come while one is being collected get the same answer."""

    def __init__(self) -> None:
        self._collecting: asyncio.Task[bytes] | None = None

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["path"] == "/metrics" and scope["method"] in {"GET", "HEAD"}:
            await _answer(send, 200, metrics.CONTENT_TYPE, await self._collect())
        else:
            error = errors.RouteUnknown("Only GET /metrics is served here.")
            await _answer(send, error.code, "application/json", google_shape.written(error))

    async def _collect(self) -> bytes:
        if self._collecting is None or self._collecting.done():
            self._collecting = asyncio.create_task(asyncio.to_thread(metrics.exposition))
        return await asyncio.shield(self._collecting)


class Server(uvicorn.Server):
    """A uvicorn server that leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(listener: socket.socket) -> AsyncIterator[None]:
    """Serve on the socket while the context is open."""
    config = uvicorn.Config(
        MetricsPage(),
        http="gateway.listener:GatewayProtocol",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task


async def _answer(send: Send, status: int, content_type: str, body: bytes) -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
