"""The path of one call, from the first byte in to the last byte out.

Read `Pipeline._serve` from top to bottom.  Each numbered line is one stage and each stage is one module.  A stage
refuses by raising a `GatewayError`; there is no other way to leave early, and every way of leaving closes the entry.
"""

import asyncio
import difflib
import time
from contextlib import aclosing, suppress
from functools import partial

from gateway.asgi import Receive, Reply, Request, Scope, Send, read_body
from gateway.auth import Auth
from gateway.cache import Cache, CacheResult, SingleFlight
from gateway.call import Call, Meter
from gateway.config import Client
from gateway.dialects import ALL, Route
from gateway.errors import (
    BodyTooLarge,
    ClientGone,
    ContentType,
    Draining,
    GatewayError,
    Internal,
    MethodNotAllowed,
    ModelNotAllowed,
    ModelUnknown,
    RouteUnknown,
    UpstreamRefused,
)
from gateway.framing import JSON, is_json, sse
from gateway.limits import Limits
from gateway.memory import MemoryBudget, MemoryLease
from gateway.pipeline import relay
from gateway.pipeline.deadline import Deadline, OrphanedCalls
from gateway.pipeline.exchange import DrainState, Exchange, error_headers
from gateway.pipeline.model_list import Listing
from gateway.pipeline.responder import Responder, Sink
from gateway.telemetry import Ledger, logs
from gateway.upstream import Account, Attempts, Upstream

MODEL_NOT_FOUND = "model_not_found"  # the vendor's code; it comes with 503, as if it were busy


class Pipeline:
    """Orders the stages; decides nothing itself."""

    def __init__(
        self,
        *,
        auth: Auth,
        limits: Limits,
        cache: Cache,
        upstream: Upstream,
        ledger: Ledger,
        memory_budget: MemoryBudget,
        log: logs.Log,
        max_body_bytes: int,
        call_seconds: float,
        stream_seconds: float,
        idle_seconds: float,
    ) -> None:
        self.drain = DrainState()
        self.waits = relay.Waits(idle_seconds)
        self._auth, self._limits, self._cache, self._upstream, self._ledger = auth, limits, cache, upstream, ledger
        self._memory_budget, self._log = memory_budget, log
        self._max_body_bytes, self._call_seconds = max_body_bytes, call_seconds
        self._stream_seconds = stream_seconds
        self._listing = Listing(call_seconds)
        self._orphaned = OrphanedCalls()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, reply = Request.of(scope), Reply(scope, receive, send)
        async with self._ledger.entry(request.request_id, address_of(scope)) as entry:
            with self._memory_budget.lease() as memory:
                exchange = Exchange(request, receive, reply, entry, memory, self.drain, unread=request.has_body)
                try:
                    await self._serve(exchange)
                    entry.conclude(entry.outcome_so_far)
                except GatewayError as error:
                    await self._refuse(exchange, error)
                except asyncio.CancelledError:  # the drain is over: whoever still waits is told so
                    exchange.unread = False  # nor is a body waited for any more
                    await self._refuse(exchange, Draining())
                except Exception as error:  # noqa: BLE001  a defect of ours must neither leak nor go uncounted
                    self._log.event(
                        "defect", level="error", request_id=request.request_id, **logs.exception_fields(error)
                    )
                    await self._refuse(exchange, Internal())
                if exchange.found is not None:
                    with suppress(asyncio.CancelledError):  # as above, and the others are told too
                        await exchange.found.done()  # what others still wait for is on this call's bill
            entry.status = entry.status or reply.status
            entry.bytes_out = reply.bytes_out
            entry.waiting_seconds += reply.waited

    async def _serve(self, exchange: Exchange) -> None:
        request, entry = exchange.request, exchange.entry
        arrived = asyncio.get_running_loop().time()
        route = self._route(exchange)  # 1 where to?  404, 405
        credentials = self._auth.credentials(request)  # 2 who?  400, 401
        entry.key_fingerprint = credentials.fingerprint or None
        client = self._auth.identify(credentials)
        self._ledger.identify(entry, client)
        exchange.memory.owner = client.name
        entry.model = model = exchange.dialect.model(route)  # 3 what?  400
        self._allow(client, model)  # 403
        body = await self._body(exchange, client)  # 4 read  415, 413, 408, 503
        deadline = arrived + server_timeout(request, self._call_seconds)
        if len(body) < relay.LARGE_BYTES:
            demand = exchange.dialect.read_body(body)
        else:
            demand = await asyncio.to_thread(exchange.dialect.read_body, body)
        entry.call = call = exchange.dialect.read(route, model, request, body, client, deadline=deadline, demand=demand)
        entry.permit = await self._limits.admit(call, exchange.standing)  # 5 may they?  429, 503
        try:
            await self._answer(exchange, route, call)  # 6 known? ask?  and pass it on
        except UpstreamRefused as error:
            if error.upstream_code != MODEL_NOT_FOUND or error.upstream_status != 503 or exchange.reply.started:
                raise
            unknown = await self._unknown_model(call)
            raise unknown or error from None

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
        if self.drain.stopping:
            raise Draining
        if model and not client.may_use(model):
            raise ModelNotAllowed(model)

    async def _body(self, exchange: Exchange, client: Client) -> bytes:
        request = exchange.request
        if request.http_method != "POST":
            return b""
        if not is_json(request.headers.get(b"content-type") or JSON):
            raise ContentType("Send the body as application/json.")
        codings = ",".join(request.headers.all(b"content-encoding")).lower()
        if not {coding.strip() for coding in codings.split(",")} <= {"", "identity"}:
            raise ContentType("Send the body without a content-encoding.")
        if (request.content_length or 0) > self._max_body_bytes:
            raise BodyTooLarge(self._max_body_bytes)
        before = time.perf_counter()
        try:
            with self._limits.reading(client):
                body = await read_body(
                    request, exchange.receive, exchange.memory, self._max_body_bytes,
                    arrived=exchange.reply.connection.body_arrived,
                )  # fmt: skip
        finally:
            exchange.entry.waiting_seconds += time.perf_counter() - before
        exchange.unread = False
        exchange.entry.bytes_in = len(body)
        return body

    async def _answer(self, exchange: Exchange, route: Route, call: Call) -> None:
        """Find out where the answer comes from, and pass it on."""
        deadline = Deadline(call, exchange.entry, exchange.reply, self._orphaned, stream_seconds=self._stream_seconds)
        async with deadline:
            responder = Responder(exchange, deadline)
            if call.lists:
                body = await self._listing.answer(call, partial(self._page, exchange.entry), openai=route.openai_list)
                return await responder.whole(200, JSON, body)
            async with await self._find(exchange, call) as found:
                if found.flight is None:
                    await self._ask(exchange, call, responder, exchange.memory)
                else:
                    await self._play(exchange, call, found.flight, responder)
                await responder.end()
        return None

    async def _find(self, exchange: Exchange, call: Call) -> CacheResult:
        """Where the answer comes from; counted also for those who leave, or run out of time, while they wait for it."""
        found = exchange.found = CacheResult()
        try:
            return await self._cache.open(call, partial(self._fill, exchange), found)
        finally:
            self._ledger.cache_result(exchange.entry, found.result, found.waited_seconds)

    async def _ask(self, exchange: Exchange, call: Call, sink: Sink, memory: MemoryLease) -> Meter:
        """Ask the upstream, and pass on what it says, whose bytes count in `memory`."""
        meter = exchange.dialect.meter(call)
        async with await self._upstream.send(call, exchange.dialect, exchange.entry, memory) as answer:
            if answer.chunks is None:
                redacted = partial(self._upstream.redacted, exchange.dialect)
                await relay.whole(answer, meter, sink, entry=exchange.entry, memory=memory, redacted=redacted)
            else:
                await relay.stream(
                    call, answer, meter, sink,
                    entry=exchange.entry, memory=memory, waits=self.waits,
                    refusal=partial(self._upstream.refusal_within, exchange.dialect),
                )  # fmt: skip
        return meter

    async def _fill(self, exchange: Exchange, call: Call, flight: SingleFlight) -> None:
        """Ask the upstream for all who ask the same; what it costs is this call's."""
        meter = await self._ask(exchange, call, flight, flight.memory)
        flight.mark_storable(storable=meter.storable, tokens=meter.usage.total)

    async def _play(self, exchange: Exchange, call: Call, flight: SingleFlight, responder: Responder) -> None:
        """Pass on what a flight brings."""
        if call.stream:
            async with aclosing(flight.play()) as chunks:
                async for chunk in chunks:
                    if not responder.started:
                        await responder.begin(flight.status, flight.content_type)
                    if chunk:
                        await responder.write(chunk)
        kept = await flight.answer()
        if exchange.found is not None and not exchange.found.leads:
            exchange.entry.saved_tokens = kept.tokens
        if not call.stream:
            await responder.whole(flight.status, kept.content_type, kept.chunks[0])

    async def _page(self, account: Account, call: Call) -> bytes:
        with self._memory_budget.lease() as memory:
            async with await self._upstream.send(call, ALL[0], account, memory) as answer:
                return answer.body

    async def _unknown_model(self, call: Call) -> ModelUnknown | None:
        """What to say of a model that the upstream's own list does not name; None where it does, or is not known."""
        names = await self._listing.names(call, partial(self._page, Attempts()))
        if names is None or call.model in names:
            return None
        usable = [name for name in names if call.client.may_use(name)]
        return ModelUnknown(call.model, difflib.get_close_matches(call.model, usable, n=3, cutoff=0.4))

    async def _refuse(self, exchange: Exchange, error: GatewayError) -> None:
        """The one way an error leaves: as an answer, or as the end of an answer that has begun."""
        entry, reply = exchange.entry, exchange.reply
        entry.fail(error)
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
                if exchange.events:
                    await reply.write(sse.event(body))
                reply.cut()
            else:
                entry.first_byte_sent()
                await reply.refuse(
                    status,
                    [*exchange.headers(JSON), *error_headers(error)],
                    body,
                    unread=exchange.unread,
                )
        except ClientGone:  # while being told
            pass


def server_timeout(request: Request, limit: float) -> float:
    """Seconds the call may take: the caller's `X-Server-Timeout`, where it is a good one, within our own limit."""
    asked = request.headers.get(b"x-server-timeout")
    return min(float(asked), limit) if asked.isascii() and asked.isdigit() and len(asked) < 10 and int(asked) else limit


def address_of(scope: Scope) -> str | None:
    """Where the caller's connection comes from; nothing behind a unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else None
