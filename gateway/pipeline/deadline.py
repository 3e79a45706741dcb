"""How long is a call waited for?

Until its deadline while the caller stays: a unary answer must be whole by then, a stream must have begun, which then
may go on for much longer. A whole answer has no deadline any more: who takes too long to read it meets the
listener's. When they leave, a stream ends at once; so does a call for which nothing was sent, such as one that waits
for another's answer. A unary answer that is paid for anyway is waited for a little longer, as long as not too many
are waited for like that.
"""

import asyncio
from types import TracebackType
from typing import Self

from gateway.asgi import Reply
from gateway.call import Call
from gateway.errors import ClientGone, UpstreamTimeout
from gateway.telemetry import Entry

DRAIN_SECONDS = 15.0
MAX_DRAINS = 64


class Drains:
    """How many answers are waited for whose callers have left."""

    def __init__(self, limit: int = MAX_DRAINS, seconds: float = DRAIN_SECONDS) -> None:
        self.limit = limit
        self.seconds = seconds
        self.count = 0


class Patience:
    """Ends its context by `ClientGone` or `UpstreamTimeout` when the call has been waited for long enough."""

    def __init__(self, call: Call, entry: Entry, reply: Reply, drains: Drains, *, stream_seconds: float) -> None:
        self.gone = self._extended = False
        self._stream_seconds = stream_seconds
        self._call, self._entry, self._reply, self._drains = call, entry, reply, drains
        self._drained = 0
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
        self._drains.count -= self._drained
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
        now = asyncio.get_running_loop().time()
        free = self._call.stream or not self._entry.sent
        if free or self._reply.started or self._drains.count >= self._drains.limit:
            self._timeout.reschedule(now)
        else:
            self._drained = 1
            self._drains.count += 1
            self._timeout.reschedule(min(self._call.deadline, now + self._drains.seconds))
