"""Where does one event of an answer end, and how is it written for the caller?

A framing takes bytes as they come and gives frames: what to write, and the JSON object in it.  There is one for each
pair of what the upstream sends and what the caller wants.
"""

from typing import Protocol

from gateway import json_array, sse
from gateway.call import Call
from gateway.errors import UpstreamBroke

JSON, SSE = "application/json", sse.CONTENT_TYPE


def is_json(content_type: str) -> bool:
    """Whether this header value names JSON, whatever its parameters."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == JSON or kind.endswith("+json")


Frame = tuple[bytes, bytes]  # what to write, and the JSON object in it; either may be empty


class Framing(Protocol):
    """How one kind of stream is passed on.  `feed` and `end` return the next frames."""

    content_type: str

    @property
    def pending(self) -> int:
        """Bytes held back until they make a whole event."""

    def feed(self, chunk: bytes) -> list[Frame]: ...

    def end(self) -> list[Frame]:
        """The upstream ended.  Raises `UpstreamBroke` when it ended too early."""


class Events:
    """SSE to SSE: each event as it came."""

    content_type = SSE

    def __init__(self) -> None:
        self._events = sse.Events()

    @property
    def pending(self) -> int:
        return self._events.pending

    def feed(self, chunk: bytes) -> list[Frame]:
        return self._frames(self._events.feed(chunk))

    def end(self) -> list[Frame]:
        return self._frames(self._events.end())

    def _frames(self, events: list[sse.Event]) -> list[Frame]:
        return [(event.frame, event.data) for event in events]


class EventsToArray(Events):
    """SSE to a JSON array, for a caller who did not ask for events."""

    content_type = JSON

    def __init__(self) -> None:
        super().__init__()
        self._writer = json_array.Writer()

    def end(self) -> list[Frame]:
        return [*super().end(), (self._writer.end(), b"")]

    def _frames(self, events: list[sse.Event]) -> list[Frame]:
        return [(self._writer.add(event.data), event.data) for event in events]


class Array:
    """A JSON array, chunk by chunk as it comes."""

    content_type = JSON

    def __init__(self) -> None:
        self._objects = json_array.Objects()

    @property
    def pending(self) -> int:
        return self._objects.pending

    def feed(self, chunk: bytes) -> list[Frame]:
        return [*((b"", found) for found in self._objects.feed(chunk)), (chunk, b"")]

    def end(self) -> list[Frame]:
        if not self._objects.closed:
            raise UpstreamBroke
        return []


class ArrayToEvents(Array):
    """A JSON array to SSE: the vendor's page shows one as the answer to `alt=sse`."""

    content_type = SSE

    def feed(self, chunk: bytes) -> list[Frame]:
        return [(sse.event(found), found) for found in self._objects.feed(chunk)]


def framing_of(call: Call, content_type: str) -> Framing:
    """The answer's own content type says what it is, and the caller's `alt` what it becomes."""
    kind = content_type or (SSE if call.sse else JSON)
    if kind == SSE:
        return Events() if call.sse else EventsToArray()
    if kind == JSON:
        return ArrayToEvents() if call.sse else Array()
    raise UpstreamBroke("The upstream answered with something that is not JSON.")
