"""The path of one call, from the first byte in to the last byte out.

Read `Pipeline._serve` from top to bottom.  Each line is one stage and each stage is one module.  A stage refuses by
raising a `GatewayError`; there is no other way to leave early, and every way of leaving closes the entry.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import suppress

from msgspec import structs

from gateway import background
from gateway.asgi import Receive, Reply, Request, Scope, Send, read_body
from gateway.auth import Auth
from gateway.cache import Cache, CacheResult
from gateway.call import Call, Operation, Plan, Route, UpstreamRequest
from gateway.config import Client
from gateway.dialects import Router
from gateway.errors import (
    BodyTooLarge,
    ClientGone,
    ContentType,
    Draining,
    GatewayError,
    Internal,
    ModelNotAllowed,
    ModelUnknown,
    UpstreamBroke,
    UpstreamError,
    UpstreamKeyRefused,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.framing import FORM, JSON, is_form, is_json
from gateway.limits import Limits
from gateway.memory import MemoryBudget
from gateway.pipeline.deadline import Deadline, OrphanedCalls
from gateway.pipeline.download import Downloaded
from gateway.pipeline.exchange import DrainState, Exchange
from gateway.pipeline.missing import MissingOperations
from gateway.pipeline.model_list import ListedModels, ModelList
from gateway.pipeline.relay import Relay, Waits
from gateway.pipeline.responder import Responder
from gateway.pipeline.task_calls import Polled, TaskCalls
from gateway.tasks import Tasks
from gateway.telemetry import Ledger, logs
from gateway.upstream import Attempts, NobodysAttempts, Upstream

Source = CacheResult | ListedModels | Polled | Downloaded
TAKEN: Mapping[str, tuple[str, ...]] = {"json": (JSON,), "multipart": (FORM,), "either": (FORM, JSON), "nothing": ()}


class Pipeline:
    """Orders the stages; decides nothing itself."""

    def __init__(
        self,
        *,
        router: Router,
        auth: Auth,
        limits: Limits,
        cache: Cache,
        upstream: Upstream,
        ledger: Ledger,
        memory_budget: MemoryBudget,
        tasks: Tasks,
        log: logs.Log,
        max_body_bytes: int,
        call_seconds: float,
        stream_seconds: float,
        idle_seconds: float,
        models_seen: Callable[[Iterable[str]], None],
        body_seconds: float,
        listed_seconds: float,
        file_idle_seconds: float,
        shared_poll_seconds: float,
    ) -> None:
        """`models_seen` receives the names of each page of the upstream's lists of models."""
        self.drain = DrainState()
        self.relay = Relay(upstream, Waits(idle_seconds))
        self._router, self._auth, self._limits, self._cache = router, auth, limits, cache
        self._upstream, self._ledger = upstream, ledger
        self._memory_budget, self._log = memory_budget, log
        self._max_body_bytes, self._body_seconds = max_body_bytes, body_seconds
        self._call_seconds, self._stream_seconds = call_seconds, stream_seconds
        self._model_list = ModelList(self._fetch, call_seconds, listed_seconds, models_seen)
        self._missing = MissingOperations()
        self._orphaned = OrphanedCalls()
        self._tasks, self._file_idle_seconds = tasks, file_idle_seconds
        self._task_calls = TaskCalls(
            tasks, limits, self.relay, ledger, memory_budget.lease,
            poll_seconds=call_seconds, shared_seconds=shared_poll_seconds,
        )  # fmt: skip

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
                except asyncio.CancelledError:  # the drain is over: whoever still waits gets to know
                    exchange.unread = False  # nor is a body waited for any more
                    await self._refuse(exchange, Draining())
                except Exception as error:  # noqa: BLE001  a defect of ours must neither leak nor go uncounted
                    self._log.event(
                        "defect", level="error", request_id=request.request_id, **logs.exception_fields(error)
                    )
                    await self._refuse(exchange, Internal())
                if exchange.source is not None:
                    with suppress(asyncio.CancelledError):  # as above, and so do the others
                        await exchange.source.done()  # what others still wait for is on this call's bill
            entry.status = entry.status or reply.status
            entry.bytes_out = reply.bytes_out
            entry.waiting_seconds += reply.waited

    async def _serve(self, exchange: Exchange) -> None:
        request, entry = exchange.request, exchange.entry
        arrived = asyncio.get_running_loop().time()
        route = exchange.route = self._router.find(request)  # 404, 405
        entry.method = route.operation.name
        client = self._identify(exchange)  # 400, 401
        route = await self._gate(exchange, client, route)  # 400, 503, 404, 403: whose task, which model, by the path
        body = await self._body(exchange, route.operation, client)  # 415, 413, 408, 503
        self._missing.check(route.operation)  # 404: what the upstream was found not to have
        plan = await background.off_loop(len(body), route.dialect.plan, route, request, body)  # 400
        self._allow(exchange, client, plan.model)  # 403: a model that the body names
        deadline = arrived + server_timeout(request, self._call_seconds)
        call = entry.call = call_of(route, plan, request, body, client=client, deadline=deadline)
        await self._admit(exchange, call)  # 429, 503
        try:
            await self._answer(exchange, call)  # 502, 503, 504
        except UpstreamRefused as error:
            if exchange.reply.started:
                raise
            self._missing.learn(route.operation, error)  # 404
            if error.fault.kind != "model" or error.fault.status != 503:
                raise
            raise await self._unknown_model(call) or error from None  # 404

    async def _answer(self, exchange: Exchange, call: Call) -> None:
        entry = exchange.entry
        async with Deadline(call, entry, exchange.reply, self._orphaned, stream_seconds=self._stream_seconds) as wait:
            responder = Responder(exchange, wait)
            async with self._source(exchange, call) as source:
                await source.play(responder)  # all but the last byte: known, on its way, or asked for now
                entry.saved_tokens = source.saved_tokens
                await entry.settle()  # whoever asks again at once finds the place free
                await responder.finish()

    def _identify(self, exchange: Exchange) -> Client:
        credentials = self._auth.credentials(exchange.request)
        exchange.entry.key_fingerprint = credentials.fingerprint or None
        client = self._auth.identify(credentials)
        self._ledger.identify(exchange.entry, client)
        exchange.memory.owner = client.name
        return client

    async def _gate(self, exchange: Exchange, client: Client, route: Route) -> Route:
        """Refuse what can be refused before a byte of the body is read.  A client's own task says its model."""
        if route.refusal is not None:
            raise route.refusal()
        if self.drain.stopping:
            exchange.entry.model = route.model or ""
            raise Draining
        if route.task is not None:
            task = exchange.task = await self._tasks.find(client.name, route.task)
            exchange.entry.task = route.task
            route = structs.replace(route, model=task.model)
        self._allow(exchange, client, route.model)
        return route

    async def _admit(self, exchange: Exchange, call: Call) -> None:
        """Take what the call needs of its client's limits; polls need nothing of them but an allowance of their own."""
        if call.operation.task == "reads":
            await self._limits.allow_poll(call.client)
            if not call.operation.download:
                return
        exchange.entry.permit = await self._limits.admit(call)
        if call.operation.task == "creates":
            self._tasks.check()  # just now the store has answered, or not

    def _allow(self, exchange: Exchange, client: Client, model: str | None) -> None:
        exchange.entry.model = model or ""
        if model and not client.may_use(model):
            raise ModelNotAllowed(model)

    async def _body(self, exchange: Exchange, operation: Operation, client: Client) -> bytes:
        request = exchange.request
        if operation.takes == "nothing":
            return b""
        check_content_type(operation, request.headers.get(b"content-type"))
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
                    seconds=self._body_seconds, arrived=exchange.reply.connection.body_arrived,
                )  # fmt: skip
        finally:
            exchange.entry.waiting_seconds += time.perf_counter() - before
        exchange.unread = False
        exchange.entry.bytes_in = len(body)
        return body

    @contextlib.asynccontextmanager
    async def _source(self, exchange: Exchange, call: Call) -> AsyncIterator[Source]:
        """Where the answer comes from; counted also for those who leave, or run out of time, while they wait for it."""
        entry = exchange.entry
        if call.operation.lists:
            yield self._model_list.answer(call, entry)
            return
        if call.operation.download:
            yield Downloaded(self._upstream, call, exchange, idle_seconds=self._file_idle_seconds)
            return
        if call.operation.task == "reads":
            yield self._task_calls.poll(call, exchange)
            return
        ask = self._task_calls.create if call.operation.task == "creates" else self.relay.ask
        source = exchange.source = self._cache.open(call, entry, ask)
        try:
            try:
                await source.find()
            finally:
                self._ledger.cache_result(entry, source.result, source.waited_seconds)
            yield source
        finally:
            source.leave()

    async def _fetch(self, call: Call, attempts: Attempts) -> bytes:
        """Ask for a page of the list of models."""
        with self._memory_budget.lease() as memory:
            async with await self._upstream.send(call, attempts, memory) as answer:
                return answer.body

    async def _unknown_model(self, call: Call) -> ModelUnknown | None:
        """What to say of a model that the upstream's own list does not name; None where it does, or is not known."""
        names = await self._model_list.names(call, NobodysAttempts())
        if names is None or call.model in names:
            return None
        return ModelUnknown.beside(call.model, filter(call.client.may_use, names))

    async def _refuse(self, exchange: Exchange, error: GatewayError) -> None:
        """The one way an error leaves: as an answer, or as the end of an answer that has begun."""
        entry, reply, shape = exchange.entry, exchange.reply, exchange.errors
        entry.fail(error)
        if entry.sent and entry.call is not None and entry.call.operation.task == "creates" and may_have_acted(error):
            error.leaves_task_in_doubt()
        if isinstance(error, ClientGone):
            entry.status = error.code
            return
        if isinstance(error, UpstreamRefused):
            status, body = error.fault.status, shape.pass_on(error.fault, entry.request_id)
        else:
            client = entry.client.name if entry.client else None
            status, body = error.code, shape.write(error, entry.request_id, client)
        if status >= 500 and pays_twice(exchange, error):
            error.retryable = False
        try:
            if reply.started:
                if exchange.events:
                    await reply.write(shape.ending(body))
                reply.cut()
            else:
                entry.first_byte_sent()
                headers = [*exchange.headers(JSON), *error.headers, *shape.headers(error)]
                await reply.refuse(status, headers, body, unread=exchange.unread)
        except ClientGone:  # meanwhile
            pass


def pays_twice(exchange: Exchange, error: GatewayError) -> bool:
    """Whether the upstream may have begun what it is paid for, this call's or the one that this call waited for."""
    if exchange.route is None or exchange.route.operation.repeatable:
        return False
    return exchange.entry.sent or isinstance(error, UpstreamBroke | UpstreamTimeout | UpstreamError)


def may_have_acted(error: GatewayError) -> bool:
    """Whether the upstream may have done what was asked, though the caller receives an error."""
    if isinstance(error, UpstreamRefused):
        return error.fault.status >= 500 or error.fault.status == 409
    return not isinstance(error, UpstreamUnreachable | UpstreamKeyRefused | ModelUnknown)


def check_content_type(operation: Operation, said: str) -> None:
    """Refuse what the operation does not take.  A body that says nothing is JSON.  Raises `ContentType`."""
    kind = FORM if is_form(said) else JSON if is_json(said or JSON) else said
    if kind not in TAKEN[operation.takes]:
        raise ContentType(f"Send the body as {' or '.join(TAKEN[operation.takes])}.")


def call_of(route: Route, plan: Plan, request: Request, body: bytes, *, client: Client, deadline: float) -> Call:
    """Put together what is known of a request.  Of its headers only what stands here reaches the upstream."""
    operation = route.operation
    headers = [("accept", request.headers.get(b"accept") or "*/*")]
    if operation.takes != "nothing":
        headers.append(("content-type", plan.content_type or JSON))
    headers += crossing(operation, request)
    target = f"{route.target}?{plan.query}" if plan.query else route.target
    return Call(
        client=client,
        route=route,
        plan=plan,
        upstream=UpstreamRequest(method=operation.http[0], target=target, headers=tuple(headers), body=body),
        request_id=request.request_id,
        deadline=deadline,
        cache_control=", ".join(request.headers.all(b"cache-control")).lower(),
    )


def crossing(operation: Operation, request: Request) -> Iterator[tuple[str, str]]:
    """The caller's headers that the operation passes on, in an order that is not the caller's.

    Of an open list, `name-*`, all cross but its private ones; a value that is not printable ASCII does not.
    """
    names, private = operation.upstream_headers, operation.private_headers
    opened = tuple(name.removesuffix(b"*") for name in names if name.endswith(b"*"))
    for name in sorted(request.headers) if names else ():
        if name in names or (opened and name.startswith(opened) and name not in private):
            value = ", ".join(request.headers.all(name))
            if value and value.isascii() and value.isprintable():
                yield name.decode("ascii"), value


def server_timeout(request: Request, limit: float) -> float:
    """Seconds the call may take: the caller's `X-Server-Timeout`, where it is a good one, within our own limit."""
    asked = request.headers.get(b"x-server-timeout")
    return min(float(asked), limit) if asked.isascii() and asked.isdigit() and len(asked) < 10 and int(asked) else limit


def address_of(scope: Scope) -> str | None:
    """Where the caller's connection comes from; nothing behind a unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else None
