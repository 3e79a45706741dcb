"""What does the operators' port serve?  `/metrics`, of all workers, and nothing else.

It asks for no key, so it checks the Host header: it answers only under names that nobody on the internet can point to
its address.  Otherwise a web page in an operator's browser could read the metrics by resolving its own name to this
address (DNS rebinding).
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Generator

import uvicorn

from gateway import errors
from gateway.asgi import Receive, Scope, Send
from gateway.telemetry import metrics

STOP_SECONDS = 1  # no longer is waited for a scraper that reads slowly


class ForbiddenHost(errors.Refused):
    """The Host header holds a name that anybody could point to this address."""

    code, status, reason = 403, "PERMISSION_DENIED", "FORBIDDEN_HOST"
    message = "This port is not served under that name."
    hint = "Ask by IP address or by a name without a dot, or let its operator add the name to GATEWAY_OPERATOR_HOSTS."


class MetricsPage:
    """An ASGI app.  Concurrent scrapes share one collection and get the same answer."""

    def __init__(self, exposition: Callable[[], bytes], names: frozenset[str]) -> None:
        self._exposition, self._names = exposition, names
        self._collecting: asyncio.Task[bytes] | None = None

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        if not host_allowed(host.decode("latin-1"), self._names):
            error: errors.GatewayError = ForbiddenHost()
            await _answer(send, error.code, "application/json", errors.GOOGLE.write(error))
        elif scope["path"] == "/metrics" and scope["method"] in {"GET", "HEAD"}:
            await _answer(send, 200, metrics.CONTENT_TYPE, await self._collect())
        else:
            error = errors.RouteUnknown("Only GET /metrics is served here.")
            await _answer(send, error.code, "application/json", errors.GOOGLE.write(error))

    async def _collect(self) -> bytes:
        if self._collecting is None or self._collecting.done():
            metrics.write_again()  # the parent's own
            self._collecting = asyncio.create_task(asyncio.to_thread(self._exposition))
        return await asyncio.shield(self._collecting)


def host_allowed(host: str, names: frozenset[str]) -> bool:
    """Whether a Host header holds an IP address, a name without a dot, or one of these names, in lower case.

    Forms of an address that only browsers read, such as `0x7f.1`, count as names: browsers send the address.
    """
    name, _, port = host.rpartition(":")
    name = (name if port.isdecimal() else host).lower().removesuffix(".")
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]").replace("%25", "%"))
        return True
    return bool(name) and ("." not in name or name in names)


class Server(uvicorn.Server):
    """A uvicorn server that leaves the process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


async def serve(listener: socket.socket, exposition: Callable[[], bytes], names: str | None) -> None:
    """Serve on the socket until cancelled; `names`, separated by commas, are allowed beside those that always are."""
    config = uvicorn.Config(
        MetricsPage(exposition, frozenset((names or "").split(","))),
        http="gateway.asgi.protocol:GatewayProtocol",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    server, own = Server(config), [listener.dup()]  # it closes what it is given
    try:
        await server.serve(sockets=own)
    finally:
        if server.started:
            await server.shutdown(sockets=own)


async def _answer(send: Send, status: int, content_type: str, body: bytes) -> None:
    headers = [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
