"""How long is a call waited for?

Until its deadline while the caller stays: a unary answer must be whole by then, a stream must have begun, which then
may go on for much longer. A whole answer has no deadline any more: who takes too long to read it meets the
listener's. When they leave, a stream ends at once; so does a call for which nothing was sent, such as one that waits
for another's answer. A unary answer that is paid for anyway is waited for a little longer, as long as not too many
are waited for like that.  The answer that names a new task is waited for in any case: nobody else knows whose it is.
"""

import asyncio
from types import TracebackType
from typing import Self

from gateway.asgi import Reply
from gateway.call import Call
from gateway.errors import ClientGone, UpstreamTimeout
from gateway.telemetry import Entry

ORPHANED_SECONDS, TASK_SECONDS = 15.0, 60.0
MAX_ORPHANED = 64


class OrphanedCalls:
    """How many answers are waited for whose callers have left."""

    def __init__(self, limit: int = MAX_ORPHANED, seconds: float = ORPHANED_SECONDS) -> None:
        self.limit = limit
        self.seconds = seconds
        self.count = 0


class Deadline:
    """Ends its context by `ClientGone` or `UpstreamTimeout` when the call has been waited for long enough."""

    def __init__(
        self, call: Call, entry: Entry, reply: Reply, orphaned: OrphanedCalls, *, stream_seconds: float
    ) -> None:
        self.gone = self._extended = False
        self._stream_seconds = stream_seconds
        self._call, self._entry, self._reply, self._orphaned = call, entry, reply, orphaned
        self._waits_on = 0
        self._timeout = asyncio.timeout_at(call.deadline)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._reply.connection.on_gone = self._left
        if self._reply.connection.lost:
            self._left()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reply.connection.on_gone = None
        self._orphaned.count -= self._waits_on
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            failure = ClientGone if self.gone else UpstreamTimeout
            raise failure from None

    def extend(self) -> None:
        """The first event of a stream is there: from here on its cap counts."""
        if not self._extended:
            self._extended = True
            self._wait_until(asyncio.get_running_loop().time() + self._stream_seconds)

    def end(self) -> None:
        """The answer is there as a whole."""
        self._wait_until(None)

    def _wait_until(self, when: float | None) -> None:
        if not self.gone and not self._timeout.expired():
            self._timeout.reschedule(when)

    def _left(self) -> None:
        self.gone = True
        if self._reply.finished or self._entry.settled or self._timeout.expired():
            return
        if self._call.stream and self._entry.whole:  # SDKs hang up at the terminator, which they have
            return
        now, task = asyncio.get_running_loop().time(), self._call.operation.task
        free = self._call.stream or not self._entry.sent or task == "reads"
        if task == "creates" and not free:
            self._timeout.reschedule(min(self._call.deadline, now + TASK_SECONDS))
        elif free or self._reply.started or self._orphaned.count >= self._orphaned.limit:
            self._timeout.reschedule(now)
        else:
            self._waits_on = 1
            self._orphaned.count += 1
            self._timeout.reschedule(min(self._call.deadline, now + self._orphaned.seconds))
