"""The path of one call, from the first byte in to the last byte out.

Read `Pipeline._serve` from top to bottom.  Each numbered line is one stage and each stage is one module.  A stage
refuses by raising a `GatewayError`; there is no other way to leave early, and every way of leaving closes the entry.
"""

import asyncio
import time
from dataclasses import dataclass, field

from gateway import logs, relay
from gateway.asgi import CLOSE, Buffered, Hold, RawHeader, Receive, Reply, Request, Scope, Send, read_body
from gateway.auth import Auth
from gateway.call import Asked, Call
from gateway.clients import Client
from gateway.dialects import ALL, Dialect, Route
from gateway.errors import (
    ClientGone,
    ContentType,
    Draining,
    GatewayError,
    Internal,
    MethodNotAllowed,
    ModelNotAllowed,
    RouteUnknown,
    UpstreamRefused,
)
from gateway.ledger import Entry, Ledger
from gateway.limits import Limits
from gateway.listing import Listing
from gateway.patience import Drains, Patience
from gateway.upstream import Upstream


@dataclass(slots=True)
class Exchange:
    """One request and what belongs to it while it is served."""

    request: Request
    receive: Receive
    reply: Reply
    entry: Entry
    hold: Hold
    dialect: Dialect = ALL[0]
    unread: bool = False  # a body that nobody has read yet
    standing: list[RawHeader] = field(default_factory=list)  # what the limits tell the caller


class Pipeline:
    """Orders the stages; decides nothing itself."""

    def __init__(
        self,
        *,
        auth: Auth,
        limits: Limits,
        upstream: Upstream,
        ledger: Ledger,
        buffered: Buffered,
        log: logs.Log,
        max_body_bytes: int,
        call_seconds: float,
        idle_seconds: float,
    ) -> None:
        self.draining = False  # answers say `connection: close`
        self.stopping = False  # new calls are refused
        self._auth, self._limits, self._upstream, self._ledger = auth, limits, upstream, ledger
        self._buffered, self._log = buffered, log
        self._max_body_bytes, self._call_seconds = max_body_bytes, call_seconds
        self._listing = Listing()
        self._idle_seconds = idle_seconds
        self._drains = Drains()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, reply = Request.of(scope), Reply(scope, receive, send)
        async with self._ledger.entry(request.request_id) as entry:
            with self._buffered.hold() as hold:
                exchange = Exchange(request, receive, reply, entry, hold, unread=request.has_body)
                try:
                    await self._serve(exchange)
                    entry.outcome = "ok" if entry.outcome == "lost" else entry.outcome
                except GatewayError as error:
                    await self._refuse(exchange, error)
                except asyncio.CancelledError:  # the drain is over: whoever still waits is told so
                    await self._refuse(exchange, Draining())
                except Exception as error:  # noqa: BLE001  a defect of ours must neither leak nor go uncounted
                    self._log.event(
                        "defect", level="error", request_id=request.request_id, **logs.exception_fields(error)
                    )
                    await self._refuse(exchange, Internal())
            entry.status = entry.status or reply.status
            entry.bytes_out = reply.bytes_out
            entry.waiting_seconds += reply.waited

    async def _serve(self, exchange: Exchange) -> None:
        request, entry = exchange.request, exchange.entry
        arrived = asyncio.get_running_loop().time()
        route = self._route(exchange)  # 1 where to?  404, 405
        client = self._auth.identify(request)  # 2 who?  400, 401
        self._ledger.identify(entry, client)
        entry.model = model = exchange.dialect.model(route)  # 3 what?  400
        self._allow(client, model)  # 403
        body = await self._body(exchange, client)  # 4 read  415, 413, 408, 503
        deadline = arrived + server_timeout(request, self._call_seconds)
        asked = await self._asked(exchange.dialect, body)
        entry.call = call = exchange.dialect.read(route, model, request, body, client, deadline=deadline, asked=asked)
        entry.permit = await self._limits.admit(call, exchange.standing)  # 5 may they?  429, 503
        await self._ask(exchange, route, call)  # 6 ask and pass on

    def _route(self, exchange: Exchange) -> Route:
        for dialect in ALL:
            try:
                route = dialect.route(exchange.request)
            except MethodNotAllowed:
                exchange.dialect = dialect
                raise
            if route is not None:
                exchange.dialect, exchange.entry.method = dialect, route.method
                return route
        raise RouteUnknown

    def _allow(self, client: Client, model: str) -> None:
        if self.stopping:
            raise Draining
        if model and not client.may_use(model):
            raise ModelNotAllowed(model)

    async def _body(self, exchange: Exchange, client: Client) -> bytes:
        request = exchange.request
        if request.http_method != "POST":
            return b""
        content_type = request.headers.get(b"content-type").partition(";")[0].strip().lower()
        if content_type and content_type != "application/json" and not content_type.endswith("+json"):
            raise ContentType("Send the body as application/json.")
        if b"content-encoding" in request.headers:
            raise ContentType("Send the body without a content-encoding.")
        self._limits.refuse_early(client)
        before = time.perf_counter()
        body = await read_body(request, exchange.receive, exchange.hold, self._max_body_bytes)
        exchange.unread = False
        exchange.entry.bytes_in = len(body)
        exchange.entry.waiting_seconds += time.perf_counter() - before
        return body

    async def _asked(self, dialect: Dialect, body: bytes) -> Asked:
        if len(body) < relay.LARGE_BYTES:
            return dialect.read_body(body)
        return await asyncio.to_thread(dialect.read_body, body)

    async def _ask(self, exchange: Exchange, route: Route, call: Call) -> None:
        """Ask the upstream and pass on what it says."""
        dialect, entry = exchange.dialect, exchange.entry
        async with Patience(call, exchange.reply, self._drains) as patience:
            if call.lists:
                body = await self._listing.answer(
                    call, lambda page: self._page(exchange, page), openai=route.openai_list
                )
                return await self._deliver(exchange, patience, body)
            async with await self._upstream.send(call, dialect, entry) as answer:
                meter = dialect.meter(call)
                if answer.chunks is None:
                    body = await relay.whole(answer, meter, entry, exchange.hold)
                    await self._deliver(exchange, patience, body, answer.headers.get("content-type", relay.JSON))
                else:
                    await relay.stream(
                        call, answer, meter, reply=exchange.reply, entry=entry, hold=exchange.hold,
                        head=lambda kind: self._headers(exchange, kind), idle_seconds=self._idle_seconds,
                    )  # fmt: skip
        return None

    async def _page(self, exchange: Exchange, call: Call) -> bytes:
        async with await self._upstream.send(call, exchange.dialect, exchange.entry) as answer:
            return answer.body

    async def _deliver(
        self, exchange: Exchange, patience: Patience, body: bytes, content_type: str = relay.JSON
    ) -> None:
        if patience.gone:
            raise ClientGone
        await exchange.entry.settle()
        exchange.entry.began()
        await exchange.reply.whole(200, self._headers(exchange, content_type), body, exchange.hold)

    async def _refuse(self, exchange: Exchange, error: GatewayError) -> None:
        """The one way an error leaves: as an answer, or as the end of an answer that has begun."""
        entry, reply = exchange.entry, exchange.reply
        entry.outcome = error.outcome
        if isinstance(error, ClientGone):
            entry.status = error.code
            return
        client = entry.client.name if entry.client else None
        if isinstance(error, UpstreamRefused):
            status, body = error.upstream_status, error.body
        else:
            status, body = error.code, exchange.dialect.error(error, client)
        try:
            if reply.started:
                if farewell := entry.farewell(body):
                    await reply.write(farewell)
                reply.cut()
            else:
                entry.began()
                await reply.refuse(
                    status,
                    [*self._headers(exchange, relay.JSON), *error_headers(error)],
                    body,
                    unread=exchange.unread,
                )
        except ClientGone:  # while being told
            pass

    def _headers(self, exchange: Exchange, content_type: str) -> list[RawHeader]:
        """What stands on every answer."""
        entry = exchange.entry
        timing = f"gateway;dur={entry.overhead_seconds * 1000:.1f}"
        if entry.attempts:
            timing += f", upstream;dur={entry.upstream_seconds * 1000:.1f}"
        lines = [
            (b"content-type", content_type.encode("latin-1")),
            (b"x-request-id", entry.request_id.encode()),
            (b"server-timing", timing.encode()),
        ]
        if entry.call is not None and not entry.call.lists:
            lines.append((b"cache-status", b"tokenhot-gateway; fwd=bypass"))
        lines += exchange.standing
        if self.draining:
            lines.append(CLOSE)
        return lines


def error_headers(error: GatewayError) -> list[RawHeader]:
    """What only some errors carry."""
    if isinstance(error, MethodNotAllowed):
        return [(b"allow", error.allow.encode())]
    if isinstance(error, UpstreamRefused):
        return [(b"retry-after", error.retry_after_header.encode("latin-1"))] if error.retry_after_header else []
    return [(b"retry-after", b"%d" % error.retry_after)] if error.retry_after is not None else []


def server_timeout(request: Request, limit: float) -> float:
    """Seconds the call may take: the caller's `X-Server-Timeout`, where it is a good one, within our own limit."""
    asked = request.headers.get(b"x-server-timeout")
    return min(float(asked), limit) if asked.isascii() and asked.isdigit() and len(asked) < 10 and int(asked) else limit
