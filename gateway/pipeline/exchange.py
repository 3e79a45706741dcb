"""What belongs to one request while it is served, and what stands on every answer to it?"""

from dataclasses import dataclass, field

from gateway.asgi import RawHeader, Receive, Reply, Request
from gateway.cache import CacheResult
from gateway.call import Route
from gateway.errors import ErrorShape, shape_for
from gateway.memory import MemoryLease
from gateway.tasks import Task
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
    route: Route | None = None
    source: CacheResult | None = None  # where the answer comes from
    task: Task | None = None  # the client's own, that the path names
    more_headers: list[RawHeader] = field(default_factory=list)  # of the answer
    events: bool = False  # an answer has begun that is a stream of events, which one more can end

    @property
    def errors(self) -> ErrorShape:
        """How this caller reads errors; without a route, as far as the request shows."""
        if self.route is not None:
            return self.route.dialect.errors
        return shape_for(self.request.raw_path, self.request.headers)

    def headers(self, content_type: str) -> list[RawHeader]:
        """What stands on every answer, as far as it is known by now."""
        entry = self.entry
        timing = f"gateway;dur={entry.overhead_seconds * 1000:.1f}"
        if entry.attempts:
            timing += f", upstream;dur={entry.upstream_seconds * 1000:.1f}"
        lines = [
            (b"content-type", content_type.encode("latin-1")),
            (b"x-request-id", entry.request_id.encode()),  # OpenAI's SDKs read this one
            (b"request-id", entry.request_id.encode()),  # and Anthropic's that one
            (b"server-timing", timing.encode()),
        ]
        lines += self.more_headers
        if self.route is not None and self.route.operation.task == "reads":
            lines.append((b"cache-control", b"private, no-store"))  # the upstream allows any cache to keep a file
        if self.source is not None:
            lines += self.source.headers()
        if entry.permit is not None:
            lines += entry.permit.headers
        if self.drain.draining:
            self.reply.connection.close_after()
        return lines
