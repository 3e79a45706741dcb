"""What happens between a call and its answer?

The key is added in one place.  A failed attempt is repeated only when nothing was sent, or when the upstream said that
it is overloaded; at most twice, within the call's deadline and the retry budget, and never once an answer has begun.
Deadlines are the pipeline's: it cancels what takes too long.
"""

import asyncio
import contextlib
import math
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Protocol

import httpx

from gateway import __version__
from gateway.call import Call
from gateway.errors import (
    BreakerOpen,
    GatewayError,
    UpstreamBroke,
    UpstreamError,
    UpstreamKeyRefused,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.metrics import Metrics
from gateway.upstream.breaker import Breaker, Breakers, RetryBudget
from gateway.upstream.encoding import Decoder

MAX_ATTEMPTS = 3
MAX_WAIT_SECONDS = 5.0  # longer waits are the caller's business
BACKOFF_SECONDS = 0.5
MAX_URLS = 4096

# httpx's exceptions, the most special first.  Unreachable means that nothing was sent.
FAILURES: tuple[tuple[type[httpx.TransportError], type[UpstreamUnreachable | UpstreamTimeout | UpstreamBroke]], ...] = (
    (httpx.ConnectError, UpstreamUnreachable),
    (httpx.ConnectTimeout, UpstreamUnreachable),
    (httpx.PoolTimeout, UpstreamUnreachable),
    (httpx.ProxyError, UpstreamUnreachable),
    (httpx.UnsupportedProtocol, UpstreamUnreachable),
    (httpx.LocalProtocolError, UpstreamUnreachable),
    (httpx.TimeoutException, UpstreamTimeout),
    (httpx.TransportError, UpstreamBroke),
)


class ErrorReader(Protocol):
    """What a dialect knows of the upstream's error bodies."""

    def upstream_code(self, body: bytes) -> str:
        """The vendor's own word for what went wrong."""

    def retry_delay(self, body: bytes) -> float | None:
        """Seconds the body asks to wait."""

    def key_refused(self, status: int, body: bytes) -> bool:
        """Whether it is our own key or balance that was refused."""

    def mend(self, status: int, content_type: str, body: bytes, secret: str) -> bytes:
        """The body as the caller may see it."""


class Account(Protocol):
    """Where it is written down what was sent and how long it took."""

    attempts: int
    sent: bool  # whether the upstream may have seen, and billed, any of it
    upstream_seconds: float


@dataclass(slots=True, kw_only=True)
class Answer:
    """What the upstream said: whole (`body`), or a stream that is still to be read (`chunks`)."""

    status: int
    headers: httpx.Headers
    body: bytes
    chunks: AsyncIterator[bytes] | None = None

    @property
    def content_type(self) -> str:
        return str(self.headers.get("content-type", "")).partition(";")[0].strip().lower()


class Upstream:
    """The one paid service behind the gateway."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        *,
        url: str,
        key: Callable[[], str],
        max_answer_bytes: int,
        metrics: Metrics,
    ) -> None:
        self._transport = transport
        self._origin = url
        self._key = key
        self._max_answer_bytes = max_answer_bytes
        self._metrics = metrics
        self._urls: dict[str, httpx.URL] = {}
        self._breakers = Breakers()
        self._budget = RetryBudget()

    @contextlib.asynccontextmanager
    async def send(self, call: Call, errors: ErrorReader, account: Account) -> AsyncIterator[Answer]:
        """Ask, and hand out a 2xx answer for as long as the context lasts.  Raises `Failed` and `UpstreamRefused`."""
        breaker = self._breakers.of(call.model)
        if wait := breaker.wait():
            raise BreakerOpen(call.model, math.ceil(wait))
        self._budget.earn()
        began = time.perf_counter()
        try:
            response, answer = await self._persist(call, errors, account)
        except (UpstreamUnreachable, UpstreamBroke):
            self._record(call, breaker, failed=True)
            raise
        finally:
            account.upstream_seconds += time.perf_counter() - began
        try:
            self._record(call, breaker, failed=overloaded(answer, errors))
            self._check(answer, errors)
            yield answer
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _persist(self, call: Call, errors: ErrorReader, account: Account) -> tuple[httpx.Response, Answer]:
        """Attempt until there is an answer or a failure that is final."""
        for attempt in range(1, MAX_ATTEMPTS + 1):
            unreachable, asked_to_wait = None, None
            try:
                response, answer = await self._attempt(call, account)
            except UpstreamUnreachable as error:
                unreachable = error
            else:
                if not overloaded(answer, errors):
                    break
                asked_to_wait = seconds_asked(answer, errors)
            wait = (
                random.uniform(0, BACKOFF_SECONDS * 2**attempt)
                if asked_to_wait is None
                else asked_to_wait + random.uniform(0, 0.1)
            )
            late = wait > MAX_WAIT_SECONDS or asyncio.get_running_loop().time() + wait >= call.deadline
            if attempt == MAX_ATTEMPTS or late or not self._budget.spend():
                if unreachable is not None:
                    raise unreachable
                break
            await asyncio.sleep(wait)
        return response, answer

    async def _attempt(self, call: Call, account: Account) -> tuple[httpx.Response, Answer]:
        outcome, sent_before = "cancelled", account.sent
        account.attempts += 1
        account.sent = True
        try:
            response = await self._transport.handle_async_request(self._request(call))
            answer = await self._answer(call, response)
            outcome = str(answer.status)
        except httpx.TransportError as error:
            failure = failure_of(error)
            outcome = failure.reason.lower()
            account.sent = sent_before or not isinstance(failure, UpstreamUnreachable)
            raise failure from None
        except GatewayError as error:
            outcome = error.reason.lower()
            raise
        finally:
            self._metrics.child(self._metrics.attempts, outcome).inc()
        return response, answer

    def _check(self, answer: Answer, errors: ErrorReader) -> None:
        """Let a 2xx through; raise what the caller is told of anything else."""
        if 200 <= answer.status < 300:
            return
        if errors.key_refused(answer.status, answer.body):
            self._metrics.key_refused.inc()
            raise UpstreamKeyRefused
        if answer.status < 400:
            raise UpstreamError("The upstream answered with a redirect, which is never followed.")
        body = errors.mend(answer.status, answer.content_type, answer.body, self._key())
        raise UpstreamRefused(answer.status, body, answer.headers.get("retry-after", ""))

    def _request(self, call: Call) -> httpx.Request:
        """Build the request: the allow-list of what crosses, and the one place that adds the key."""
        target = f"{self._origin}{call.path}" + (f"?{call.query}" if call.query else "")
        url = self._urls.get(target)
        if url is None:
            if len(self._urls) >= MAX_URLS:
                self._urls.clear()
            url = self._urls[target] = httpx.URL(target)
            if not str(url).startswith(f"{self._origin}/v1beta/models"):
                raise UpstreamError("The call would leave the upstream.")
        headers = {
            "authorization": f"Bearer {self._key()}",
            "accept": call.accept,
            "accept-encoding": "identity",
            "user-agent": f"tokenhot-gateway/{__version__}",
            "x-request-id": call.request_id,
        }
        if call.body:
            headers["content-type"] = "application/json"
        return httpx.Request(
            call.http_method, url, headers=headers, content=call.body, extensions={} if call.stream else {"whole": True}
        )

    async def _answer(self, call: Call, response: httpx.Response) -> Answer:
        """Read what is to be taken whole: unary answers and all errors."""
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)  # noqa: S101  httpx's own type says it could be a sync one
        coding = response.headers.get("content-encoding", "identity").strip().lower()
        decoder = Decoder(coding, self._max_answer_bytes) if coding not in {"identity", ""} else None
        chunks = self._decoded(stream, decoder)
        answer = Answer(status=response.status_code, headers=response.headers, body=b"")
        if call.stream and 200 <= answer.status < 300:
            answer.chunks = chunks
        else:
            try:
                answer.body = b"".join([chunk async for chunk in chunks])
            finally:
                await response.aclose()
        return answer

    async def _decoded(self, stream: httpx.AsyncByteStream, decoder: Decoder | None) -> AsyncIterator[bytes]:
        taken = 0
        try:
            async for chunk in stream:
                plain = decoder.feed(chunk) if decoder else chunk
                taken += len(plain)
                if taken > self._max_answer_bytes:
                    raise UpstreamBroke("The upstream's answer is larger than the gateway takes.")
                yield plain
        except httpx.TransportError as error:
            raise failure_of(error) from None
        if decoder:
            decoder.end()

    def _record(self, call: Call, breaker: Breaker, *, failed: bool) -> None:
        was_open = breaker.is_open
        breaker.record(failed=failed)
        if breaker.is_open != was_open:
            gauge = self._metrics.child(self._metrics.breaker_open, self._metrics.model(call.model))
            gauge.set(breaker.is_open)


def failure_of(error: httpx.TransportError) -> UpstreamUnreachable | UpstreamTimeout | UpstreamBroke:
    """Our name for a failure of the transport; its text stays behind, since it may hold the URL."""
    return next(ours for theirs, ours in FAILURES if isinstance(error, theirs))()


def overloaded(answer: Answer, errors: ErrorReader) -> bool:
    """Whether the upstream is too busy, as opposed to not knowing the model, which it also answers with 503."""
    return answer.status in {429, 503} and errors.upstream_code(answer.body) != "model_not_found"


def seconds_asked(answer: Answer, errors: ErrorReader) -> float | None:
    """How long the upstream asks to wait, by header or by Google's RetryInfo."""
    header = answer.headers.get("retry-after", "")
    if header.isascii() and header.isdigit():
        return float(header)
    return errors.retry_delay(answer.body)
