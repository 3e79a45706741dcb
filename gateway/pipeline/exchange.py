"""What belongs to one request while it is served, and what stands on every answer to it?"""

from dataclasses import dataclass, field

from gateway.asgi import RawHeader, Receive, Reply, Request
from gateway.cache import CacheResult
from gateway.dialects import ALL, Dialect
from gateway.errors import GatewayError, KeyMissing, MethodNotAllowed, UpstreamRefused
from gateway.memory import MemoryLease
from gateway.telemetry import Entry


@dataclass(slots=True)
class DrainState:
    """Whether this worker is about to stop."""

    draining: bool = False  # connections close behind their answers
    stopping: bool = False  # new calls are refused


@dataclass(slots=True)
class Exchange:
    """One request and what belongs to it."""

    request: Request
    receive: Receive
    reply: Reply
    entry: Entry
    memory: MemoryLease
    drain: DrainState
    unread: bool  # a body that nobody has read yet
    dialect: Dialect = ALL[0]
    standing: list[RawHeader] = field(default_factory=list)  # what the limits tell the caller
    found: CacheResult | None = None  # where the answer comes from
    events: bool = False  # an answer has begun that is a stream of events, which one more can end

    def headers(self, content_type: str) -> list[RawHeader]:
        """What stands on every answer, as far as it is known by now."""
        entry = self.entry
        timing = f"gateway;dur={entry.overhead_seconds * 1000:.1f}"
        if entry.attempts:
            timing += f", upstream;dur={entry.upstream_seconds * 1000:.1f}"
        lines = [
            (b"content-type", content_type.encode("latin-1")),
            (b"x-request-id", entry.request_id.encode()),
            (b"server-timing", timing.encode()),
        ]
        if self.found is not None:
            lines += self.found.headers()
        lines += self.standing
        if self.drain.draining:
            self.reply.connection.close_after()
        return lines


def error_headers(error: GatewayError) -> list[RawHeader]:
    """What only some errors carry."""
    if isinstance(error, MethodNotAllowed):
        return [(b"allow", error.allow.encode())]
    if isinstance(error, KeyMissing):
        return [(b"www-authenticate", b"Bearer")]
    if isinstance(error, UpstreamRefused):
        return [(b"retry-after", error.retry_after_header.encode("latin-1"))] if error.retry_after_header else []
    return [(b"retry-after", b"%d" % error.retry_after)] if error.retry_after is not None else []
