"""Any ASGI app on a real socket of 127.0.0.1, in the test's own loop, with the gateway's own protocol if asked."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn

from gateway.asgi.protocol import GatewayProtocol
from tests.support.waiting import until


class Server(uvicorn.Server):
    """A uvicorn server that leaves the test run's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@contextlib.asynccontextmanager
async def serving(app: Any, *, http: Any = GatewayProtocol, lifespan: str = "on") -> AsyncIterator[str]:
    """Serve while the context is open; the value is the base URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # uvloop does; asyncio overlooks a socket like this
    config = uvicorn.Config(
        app, http=http, ws="none", lifespan=lifespan, log_config=None, access_log=False, server_header=False,  # type: ignore[arg-type]
        timeout_keep_alive=75, timeout_graceful_shutdown=2, proxy_headers=False,
    )  # fmt: skip
    server = Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await until(lambda: server.started or task.done())
        if task.done():
            task.result()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
