"""Where does one event of an answer end, and how is it written for the caller?

A framing takes bytes as they come and gives frames: what to write, and the JSON object in it.  There is one for each
pair of what the upstream sends and what the caller wants.  What it sends is seen by its first byte: relays call event
streams JSON, and arrays events.
"""

from typing import Protocol

from gateway.call import Call
from gateway.errors import UpstreamBroke
from gateway.framing import json_array, sse

JSON, SSE = "application/json", sse.CONTENT_TYPE
FIELDS = b"deir:"  # what a line of an event stream can begin with: data, event, id, retry, a comment
BOM = sse.BOM


def is_json(content_type: str) -> bool:
    """Whether this header value names JSON, whatever its parameters."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == JSON or kind.endswith("+json")


Frame = tuple[bytes, bytes]  # what to write, and the JSON object in it; either may be empty


class Framing(Protocol):
    """How one kind of stream is passed on.  `feed` and `end` return the next frames."""

    @property
    def content_type(self) -> str:
        """What the caller is told it is."""

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
    """A JSON array, object by object as each is whole: an error among them must not pass in part."""

    content_type = JSON

    def __init__(self) -> None:
        self._objects = json_array.Objects()

    @property
    def pending(self) -> int:
        return self._objects.pending

    def feed(self, chunk: bytes) -> list[Frame]:
        frames: list[Frame] = []
        for found in self._objects.feed(chunk):
            # Seen before anything of it is written.
            frames += [(b"", found.object), (found.before, b""), (found.object, b"")]
        return [*frames, (self._objects.rest(), b"")]

    def end(self) -> list[Frame]:
        if not self._objects.closed:
            raise UpstreamBroke
        return []


class ArrayToEvents(Array):
    """A JSON array to SSE: the vendor's page shows one as the answer to `alt=sse`."""

    content_type = SSE

    def feed(self, chunk: bytes) -> list[Frame]:
        frames = [(sse.event(found.object), found.object) for found in self._objects.feed(chunk)]
        self._objects.rest()
        return frames


class Undecided:
    """A stream whose content type cannot be relied on: its first byte that is no white space says what it is."""

    def __init__(self, call: Call, content_type: str) -> None:
        self._call, self._said_type = call, content_type
        self._begun = b""  # of a byte order mark
        self._framing: Framing | None = None

    @property
    def content_type(self) -> str:
        return SSE if self._call.sse else JSON

    @property
    def pending(self) -> int:
        return self._framing.pending if self._framing else len(self._begun)

    def feed(self, chunk: bytes) -> list[Frame]:
        if self._framing is None:
            chunk = self._begun + chunk
            text = chunk.lstrip().removeprefix(BOM).lstrip()
            if BOM.startswith(text):  # or nothing is left
                self._begun = text
                return []
            self._framing, chunk = self._decided(text[:1]), text
        return self._framing.feed(chunk)

    def end(self) -> list[Frame]:
        if self._framing is None:
            raise UpstreamBroke("The upstream's answer is empty.")
        return self._framing.end()

    def _decided(self, first: bytes) -> Framing:
        if first in b"{[":
            return ArrayToEvents() if self._call.sse else Array()
        if self._said_type == SSE or first in FIELDS:
            return Events() if self._call.sse else EventsToArray()
        raise UpstreamBroke("The upstream answered with something that is not JSON.")


def framing_of(call: Call, content_type: str) -> Framing:
    """What the answer is, whatever its content type says, and what it becomes by the caller's `alt`."""
    return Undecided(call, content_type)
