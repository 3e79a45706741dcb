"""What happens between a call and its answer?

A failed attempt is repeated only when nothing was sent, or when the upstream said that it is overloaded; at most
twice, within the call's deadline and the retry budget, and never once an answer has begun.  Deadlines are the
pipeline's: it cancels what takes too long.
"""

import asyncio
import math
import random
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from gateway.call import Call
from gateway.errors import (
    BreakerOpen,
    Failed,
    Fault,
    GatewayError,
    UpstreamBroke,
    UpstreamError,
    UpstreamKeyRefused,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from gateway.memory import MemoryLease
from gateway.telemetry import Metrics
from gateway.upstream.answer import Answer, failure_of, read
from gateway.upstream.breaker import LISTS, POLLS, Breaker, Breakers, RetryBudget
from gateway.upstream.fault import code_within, fault_of
from gateway.upstream.redact import redacted
from gateway.upstream.request import Requests
from gateway.upstream.seam import Transport

MAX_ATTEMPTS = 3
MAX_FILE_BYTES = 2 * 2**30  # of a download
MAX_WAIT_SECONDS = 5.0  # longer waits are the caller's business
EARLY_SECONDS = 0.1  # timers are as exact as that
FOR_OPERATORS = {  # a caller can do nothing about these, and a client would ask its user for a password
    407: "the forward proxy refuses our user or password",
    511: "a network on the way wants somebody to log in",
}
NOT_MODIFIED, NOT_SATISFIABLE = 304, 416
LENGTH = re.compile(r"bytes \*/\d{1,18}")  # RFC 9110, section 14.4
ERROR_STATUSES = frozenset(map(str, range(400, 600)))
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Attempts(Protocol):
    """Where it is written down what was sent and how long it took."""

    started: float  # by `time.perf_counter`
    attempts: int
    sent: bool  # whether the upstream may have seen, and billed, any of it
    upstream_seconds: float
    upstream_status: int | None  # of the last answer
    upstream_request_id: str | None  # by which the vendor finds that answer in its own log


@dataclass(slots=True, kw_only=True)
class NobodysAttempts:
    """Those of what is asked for nobody's call in particular."""

    started: float = field(default_factory=time.perf_counter)
    attempts: int = 0
    sent: bool = False
    upstream_seconds: float = 0.0
    upstream_status: int | None = None
    upstream_request_id: str | None = None


class Upstream:
    """The one paid service behind the gateway."""

    def __init__(
        self,
        transport: Transport,
        *,
        url: str,
        key: Callable[[], str],
        max_answer_bytes: int,
        call_seconds: float,
        backoff_seconds: float,
        metrics: Metrics,
        on_trouble: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Before an attempt is repeated it waits for up to twice `backoff_seconds`, then four times.

        `on_trouble` receives, in words for operators, why an attempt failed that reached nobody.
        """
        self._transport = transport
        self._requests = Requests(url, key)
        self._key = key
        self._max_answer_bytes = max_answer_bytes
        self._call_seconds, self._backoff_seconds = call_seconds, backoff_seconds
        self._metrics = metrics
        self._breakers = Breakers()
        self._on_trouble = on_trouble
        self._told: set[str] = set()  # labels whose breaker has been open
        self._budget = RetryBudget()

    async def send(self, call: Call, attempts: Attempts, memory: MemoryLease) -> Answer:
        """Ask, and return a 2xx answer, to be closed by leaving its context; `memory` counts what came of it.

        Raises `Failed`.
        """
        breaker = self._breakers.of(_breaker_of(call))
        if wait := breaker.wait():
            raise BreakerOpen(call.model, math.ceil(wait))
        self._budget.earn()
        began = time.perf_counter()
        try:
            answer, fault = await self._persist(call, attempts, memory)
        except (UpstreamUnreachable, UpstreamBroke):
            self._record(breaker, failed=True)
            raise
        finally:
            attempts.upstream_seconds += time.perf_counter() - began
        self._record(breaker, failed=fault is not None and fault.kind == "overloaded")
        if not (call.operation.download and answer.status == NOT_MODIFIED):
            self._check(answer, fault)
        return answer

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _persist(self, call: Call, attempts: Attempts, memory: MemoryLease) -> tuple[Answer, Fault | None]:
        """Attempt until there is an answer or a failure that is final."""
        attempt = 0
        while True:
            attempt, unreachable, fault = attempt + 1, False, None
            try:
                answer = await self._attempt(call, attempts, memory)
            except UpstreamUnreachable:
                unreachable = True
            else:
                fault = self._fault(answer) if answer.status >= 400 else None
                if fault is None or fault.kind != "overloaded" or not call.operation.repeatable:
                    break
                memory.release(len(answer.body))
            wait = (
                random.uniform(0, self._backoff_seconds * 2**attempt)
                if fault is None or fault.retry_after is None
                else fault.retry_after + random.uniform(0, 0.1)
            )
            late = wait > MAX_WAIT_SECONDS or asyncio.get_running_loop().time() + wait >= call.deadline
            if attempt == MAX_ATTEMPTS or late or not self._budget.spend():
                if unreachable:
                    raise UpstreamUnreachable
                break
            await asyncio.sleep(wait)
        return answer, fault

    async def _attempt(self, call: Call, attempts: Attempts, memory: MemoryLease) -> Answer:
        outcome, sent_before = "cancelled", attempts.sent
        attempts.attempts += 1
        attempts.sent = True
        try:
            incoming = await self._transport.send(self._requests.of(call))
            attempts.upstream_status = incoming.status
            attempts.upstream_request_id = _request_id(incoming.headers)
            limit = MAX_FILE_BYTES if call.operation.download else self._max_answer_bytes
            answer = await read(incoming, stream=call.stream, limit=limit, memory=memory)
            outcome = str(answer.status)
        except httpx.TransportError as error:
            failure = failure_of(error)
            if failure is UpstreamUnreachable:
                self._on_trouble(str(error))
            outcome = failure.reason.lower()
            attempts.sent = sent_before or not issubclass(failure, UpstreamUnreachable)
            raise failure from None
        except GatewayError as error:
            outcome = error.reason.lower()
            raise
        except asyncio.CancelledError:
            # Whoever leaves or shortens the deadline says nothing of the upstream; our own deadline does.
            if time.perf_counter() - attempts.started >= self._call_seconds - EARLY_SECONDS:
                outcome = UpstreamTimeout.reason.lower()
            raise
        finally:
            self._metrics.child(self._metrics.attempts, outcome).inc()
        return answer

    def _check(self, answer: Answer, fault: Fault | None) -> None:
        """Let a 2xx through; raise what the caller gets of anything else."""
        if 200 <= answer.status < 300:
            return
        if answer.status < 400:
            raise UpstreamError("The upstream answered with a redirect, which is never followed.")
        if answer.status in FOR_OPERATORS:
            self._on_trouble(FOR_OPERATORS[answer.status])
            raise UpstreamError("A proxy between the gateway and the upstream refused the call.")
        raise self._refusal(fault or self._fault(answer), answer.headers.get("content-range", ""))

    def redacted(self, body: bytes) -> bytes:
        """The body without our key."""
        return redacted(body, self._key())

    def refusal_within(self, body: bytes) -> Failed:
        """What an error means that stands inside a stream: its own code is its status."""
        code = code_within(body)
        status = int(code) if code in ERROR_STATUSES else UpstreamError.code
        return self._refusal(fault_of(status, "", body, self._key()))

    def _fault(self, answer: Answer) -> Fault:
        said = answer.headers.get
        return fault_of(
            answer.status,
            answer.content_type,
            answer.body,
            self._key(),
            retry_after=said("retry-after", ""),
            should_retry=said("x-should-retry", ""),
        )

    def _refusal(self, fault: Fault, content_range: str = "") -> Failed:
        if fault.kind in {"key", "balance"}:
            self._metrics.key_refused.inc()
            return UpstreamKeyRefused()
        if str(fault.status) not in ERROR_STATUSES:
            return UpstreamError("The upstream answered with a status that HTTP does not have.")
        known = fault.status == NOT_SATISFIABLE and LENGTH.fullmatch(content_range)
        return UpstreamRefused(fault, content_range=content_range if known else "")

    def _record(self, breaker: Breaker, *, failed: bool) -> None:
        was_open = breaker.is_open
        breaker.record(failed=failed)
        if breaker.is_open != was_open:  # many models may share a label, which is open while one of them is
            is_open = {self._label(name) for name in self._breakers.open()}
            self._told |= is_open
            for label in self._told:
                self._metrics.child(self._metrics.breaker_open, label).set(label in is_open)

    def _label(self, name: str) -> str:
        return POLLS.removeprefix(":") if name == POLLS else self._metrics.model(name)


def _breaker_of(call: Call) -> str:
    """Polls say nothing of how busy a model is, nor does a busy model keep anybody from them."""
    if call.operation.task == "reads":
        return POLLS
    return LISTS if call.operation.lists else call.model


def _request_id(headers: Mapping[str, str]) -> str | None:
    named = headers.get("x-oneapi-request-id", "")
    return named if REQUEST_ID.fullmatch(named) else None
