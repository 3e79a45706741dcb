"""Is every call counted exactly once?

An entry is opened before anything is known of a call and closed once, whatever happens to it: metrics, the access
line and the settlement of its permit all stand in `Entry.close`.  Nobody else counts.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Self

from msgspec import structs

from gateway.call import Call, Permit, Usage
from gateway.config import Client
from gateway.errors import GatewayError
from gateway.telemetry.logs import CallLine, Log
from gateway.telemetry.metrics import Metrics


@dataclass(slots=True, kw_only=True)
class Entry:
    """What is known of one call so far."""

    request_id: str
    close: Callable[["Entry"], Awaitable[None]]
    started: float = field(default_factory=time.perf_counter)
    method: str = "other"
    model: str = ""
    client: Client | None = None
    call: Call | None = None
    permit: Permit | None = None
    usage: Usage = field(default_factory=Usage)
    whole: bool = False  # the answer is complete, so its usage is exact even when the caller did not wait for it
    outcome: str = "lost"  # until something better is known
    reason: str | None = None  # of an error of ours or the upstream's
    settled: bool = False  # outcome and usage stand: record, metrics and access line agree
    unreported: bool = False  # the answer reported no usage
    task: str = ""  # the id of a task that the call asks for, or has created
    creates_task: bool = False  # it has created that one
    address: str | None = None  # where the caller calls from
    key_fingerprint: str | None = None
    upstream_status: int | None = None  # of its last answer
    upstream_request_id: str | None = None  # of that answer
    served_model: str = ""  # that the answer names
    status: int = 0
    cache: str = "bypass"  # what the cache did: hit, miss, bypass, collapsed
    saved_tokens: int = 0  # what the cached answer had cost
    attempts: int = 0
    sent: bool = False  # the upstream may have seen, and billed, it
    bytes_in: int = 0
    bytes_out: int = 0
    upstream_seconds: float = 0.0
    waiting_seconds: float = 0.0  # for the caller, sending or reading
    first_byte_seconds: float | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close(self)

    async def settle(self) -> None:
        """Settle before the caller has the last byte: a caller that calls again at once must find its place free."""
        self.conclude(self.outcome_so_far)
        if self.permit is not None:
            await self.permit.settle(self.usage, self.outcome, self.notes)

    def fail(self, error: GatewayError) -> None:
        """The call ends with an error, unless it had ended before."""
        if not self.settled:
            self.outcome, self.reason = error.outcome, error.reason

    def conclude(self, outcome: str) -> None:
        """Decide, once, how the call has ended and what it is charged."""
        if self.settled:
            return
        self.settled, self.outcome, usage = True, outcome, self.usage
        self.unreported = usage.source != "reported"
        if (
            self.call is not None
            and self.call.operation.bills != "nothing"
            and self.sent
            and not self.whole
            and outcome not in EXACT
        ):
            usage = structs.replace(usage, source="estimated")  # it cost something, nobody knows what
        self.usage = usage if self.permit is None else self.permit.charged(usage, outcome)

    @property
    def outcome_so_far(self) -> str:
        """The outcome if nothing fails any more."""
        return ANSWERED.get(self.cache, "ok") if self.outcome == "lost" else self.outcome

    @property
    def notes(self) -> Mapping[str, str]:
        """What the record of the call says beside its cost."""
        noted = {"served": self.served_model, "upstream_request": self.upstream_request_id}
        if self.creates_task:
            noted["task"] = self.task
        return {name: text for name, text in noted.items() if text}

    def first_byte_sent(self) -> None:
        """Record when the first byte of the answer was sent."""
        if self.first_byte_seconds is None:
            self.first_byte_seconds = time.perf_counter() - self.started

    @property
    def overhead_seconds(self) -> float:
        """Time in the gateway so far: upstream and caller taken out."""
        return max(time.perf_counter() - self.started - self.upstream_seconds - self.waiting_seconds, 0.0)


ANSWERED = {"hit": "cache_hit", "collapsed": "collapsed"}  # outcomes of calls that the upstream was not asked for
EXACT = frozenset({"ok", "upstream_error"})  # outcomes of calls whose usage is what the upstream reported


class Ledger:
    """Where entries are opened and closed."""

    def __init__(self, metrics: Metrics, log: Log) -> None:
        self._metrics = metrics
        self._log = log

    def entry(self, request_id: str, address: str | None = None) -> Entry:
        """Open an entry; it is closed at the end of its context."""
        return Entry(request_id=request_id, close=self._close, address=address)

    async def _close(self, entry: Entry) -> None:
        entry.conclude(entry.outcome)
        if entry.client is not None:
            self._metrics.child(self._metrics.in_flight, entry.client.name).dec()
        self._count(entry)
        self._write(entry)
        if entry.permit is not None:
            await entry.permit.settle(entry.usage, entry.outcome, entry.notes)

    def count_refusal(self, request_id: str, error: GatewayError, address: str | None = None) -> None:
        """Count a call that the HTTP protocol answered itself: it never became a request."""
        entry = Entry(
            request_id=request_id, close=self._close, outcome=error.outcome, reason=error.reason, status=error.code,
            address=address,
        )  # fmt: skip
        self._count(entry)
        self._write(entry)

    def identify(self, entry: Entry, client: Client) -> None:
        """Record the client of the call; from here on it is in flight."""
        entry.client = client
        self._metrics.child(self._metrics.in_flight, client.name).inc()

    def cache_result(self, entry: Entry, result: str, waited_seconds: float) -> None:
        """Record what the cache did; the time of waiting for another call's answer counts as upstream time."""
        entry.cache = result
        entry.upstream_seconds += waited_seconds
        if entry.client is not None:
            self.count_cache(entry.client.name, result)

    def count_cache(self, client: str, result: str) -> None:
        """Count a result of the cache: of a lookup (hit, miss, ...), or of storing (stored, refused)."""
        self._metrics.child(self._metrics.cache_requests, client, result).inc()

    def limited(self, client: str, limit: str) -> None:
        """A limit refused a call."""
        self._metrics.child(self._metrics.limited, client, limit).inc()

    def lost(self, client: str, model: str, method: str) -> None:
        """A call ended with its worker; nobody else is left to count it."""
        labels = (client, self._metrics.model(model), method, "0", "lost")
        self._metrics.child(self._metrics.requests, *labels).inc()

    def late(self) -> None:
        """A call that had been recorded as lost ended all the same."""
        self._metrics.late.inc()

    def dropped(self) -> None:
        """A usage record was dropped."""
        self._metrics.child(self._metrics.dropped, "usage records").inc()

    def corrected(self, client: str, model: str, tokens: int) -> None:
        """A task has ended: what it has cost is counted now, since a counter cannot take an estimate back."""
        if tokens:
            labels = (client, self._metrics.model(model), "output", "video")
            self._metrics.child(self._metrics.tokens, *labels).inc(tokens)

    def id_missing(self, entry: Entry) -> None:
        """An answer has created a task and names no id for it."""
        self._metrics.child(self._metrics.task_id_missing, self._metrics.model(entry.model)).inc()
        self._log.event("task_id_missing", level="error", request_id=entry.request_id, model=entry.model)

    def _count(self, entry: Entry) -> None:
        metrics, child = self._metrics, self._metrics.child
        client = entry.client.name if entry.client else "unknown"
        model = metrics.model(entry.model)
        code = str(entry.status)
        child(metrics.requests, client, model, entry.method, code, entry.outcome).inc()
        child(metrics.duration, model, entry.method, entry.cache).observe(time.perf_counter() - entry.started)
        child(metrics.overhead, entry.method).observe(entry.overhead_seconds)
        if entry.first_byte_seconds is not None:
            child(metrics.first_byte, model, entry.method).observe(entry.first_byte_seconds)
        if entry.attempts:
            child(metrics.upstream_duration, model, code).observe(entry.upstream_seconds)
        creates_task = entry.call is not None and entry.call.operation.task == "creates"
        for (kind, modality), count in entry.usage.tokens.items():
            if count and not creates_task:  # see `corrected`
                child(metrics.tokens, client, model, kind, modality).inc(count)
        if entry.usage.images_out:
            child(metrics.images, client, model, "out").inc(entry.usage.images_out)
        if entry.usage.videos:
            child(metrics.videos, client, model).inc(entry.usage.videos)
        if entry.saved_tokens and entry.outcome in ANSWERED.values():
            child(metrics.saved_tokens, client, model).inc(entry.saved_tokens)
        if entry.call is not None and entry.call.plan.demand.images and entry.sent:
            child(metrics.images, client, model, "in").inc(entry.call.plan.demand.images)
        if entry.outcome == "ok" and entry.call is not None and entry.call.operation.expects_usage and entry.unreported:
            child(metrics.usage_missing, model).inc()

    def _write(self, entry: Entry) -> None:
        """The access line.  Never a key, a query, a prompt, a picture or an upstream error's text."""
        self._log.call(CallLine(
            request_id=entry.request_id,
            client=entry.client.name if entry.client else "unknown",
            model=entry.model,
            method=entry.method,
            status=entry.status,
            outcome=entry.outcome,
            reason=entry.reason,
            upstream_status=entry.upstream_status,
            key_fingerprint=entry.key_fingerprint,
            client_address=entry.address,
            cache=entry.cache,
            attempts=entry.attempts,
            duration_ms=milliseconds(time.perf_counter() - entry.started),
            overhead_ms=milliseconds(entry.overhead_seconds),
            upstream_ms=milliseconds(entry.upstream_seconds),
            first_byte_ms=None if entry.first_byte_seconds is None else milliseconds(entry.first_byte_seconds),
            bytes_in=entry.bytes_in,
            bytes_out=entry.bytes_out,
            tokens_in=entry.usage.tokens_in,
            tokens_out=entry.usage.tokens_out,
            usage=entry.usage.source,
            served_model=entry.served_model or None,
            upstream_request_id=entry.upstream_request_id,
            task=entry.task or None,
        ))  # fmt: skip


def milliseconds(seconds: float) -> float:
    """As the access line has them: three places suffice."""
    return round(seconds * 1000, 3)
