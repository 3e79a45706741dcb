"""Where does one event of an answer end, and how is it written for the caller?

A framing takes bytes as they come and gives frames: what to write, and the event in it.  There is one for each pair of
what the upstream sends and what the caller wants.  What it sends is seen by its first byte: relays call event streams
JSON, and arrays events.
"""

import re

from gateway.call import Event, Frame, Framing
from gateway.errors import UpstreamBroke
from gateway.framing import json_array, sse

JSON, SSE, FORM = "application/json", sse.CONTENT_TYPE, "multipart/form-data"
FIELDS = b"deir:"  # what a line of an event stream can begin with: data, event, id, retry, a comment
BOM = sse.BOM
PLAIN_TYPE = re.compile(r"[a-z]+/[a-z.+-]+(?:; ?charset=[a-z0-9-]{1,16})?", re.IGNORECASE)  # what crosses untouched


def is_json(content_type: str) -> bool:
    """Whether this header value names JSON, whatever its parameters."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == JSON or kind.endswith("+json")


def is_form(content_type: str) -> bool:
    """Whether this header value names a form with files."""
    return content_type.partition(";")[0].strip().lower() == FORM


def is_sse(content_type: str) -> bool:
    """Whether this header value names server-sent events."""
    return content_type.partition(";")[0].strip().lower() == SSE


class Whole:
    """An answer of one piece of JSON, whatever it is called."""

    def __init__(self, content_type: str) -> None:
        self.content_type = content_type if is_json(content_type) and PLAIN_TYPE.fullmatch(content_type) else JSON
        self._pieces: list[bytes] = []
        self.pending = 0
        self.terminated = False

    def feed(self, chunk: bytes) -> list[Frame]:
        self._pieces.append(chunk)
        self.pending += len(chunk)
        return []

    def end(self) -> list[Frame]:
        body = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces, self.pending = [], 0
        return [(body, Event(b"", body))]


class Events:
    """SSE to SSE: each event as it came, of which Google's SDKs read the data alone."""

    content_type = SSE
    terminated = False

    def __init__(self, policy: sse.Policy = sse.DATA_ONLY) -> None:
        self._events = sse.Events(policy)

    @property
    def pending(self) -> int:
        return self._events.pending

    def feed(self, chunk: bytes) -> list[Frame]:
        return self._frames(self._events.feed(chunk))

    def end(self) -> list[Frame]:
        return self._frames(self._events.end())

    def _frames(self, events: list[sse.SentEvent]) -> list[Frame]:
        return [(event.frame, Event(b"", event.data)) for event in events]


class NamedEvents(Events):
    """SSE to SSE with names and comments.  `[DONE]` is held back to the end: SDKs read no further, whatever comes."""

    def __init__(self, *, done: bool) -> None:
        """`done`: the dialect has `[DONE]`."""
        super().__init__(sse.Policy(names=True, comments=True, done=done))
        self._done = b""

    @property
    def terminated(self) -> bool:  # type: ignore[override]  # of the others it is constant
        return bool(self._done)

    def end(self) -> list[Frame]:
        frames = super().end()
        return [*frames, (self._done, None)] if self._done else frames

    def _frames(self, events: list[sse.SentEvent]) -> list[Frame]:
        frames: list[Frame] = []
        for event in events:
            if event.data == sse.DONE:
                self._done = event.frame
            else:
                frames.append((event.frame, Event(event.name, event.data) if event.data else None))
        return frames


class EventsToArray(Events):
    """SSE to a JSON array, for a caller who did not ask for events."""

    content_type = JSON

    def __init__(self) -> None:
        super().__init__()
        self._writer = json_array.Writer()

    def end(self) -> list[Frame]:
        return [*super().end(), (self._writer.end(), None)]

    def _frames(self, events: list[sse.SentEvent]) -> list[Frame]:
        return [(self._writer.add(event.data), Event(b"", event.data)) for event in events]


class Array:
    """A JSON array, object by object as each is whole: an error among them must not pass in part."""

    content_type = JSON
    terminated = False

    def __init__(self) -> None:
        self._objects = json_array.Objects()

    @property
    def pending(self) -> int:
        return self._objects.pending

    def feed(self, chunk: bytes) -> list[Frame]:
        frames: list[Frame] = []
        for found in self._objects.feed(chunk):
            # Seen before anything of it is written.
            frames += [(b"", Event(b"", found.object)), (found.before, None), (found.object, None)]
        return [*frames, (self._objects.rest(), None)]

    def end(self) -> list[Frame]:
        if not self._objects.closed:
            raise UpstreamBroke
        return []


class ArrayToEvents(Array):
    """A JSON array to SSE: the vendor's page shows one as the answer to `alt=sse`."""

    content_type = SSE

    def feed(self, chunk: bytes) -> list[Frame]:
        frames: list[Frame] = [
            (sse.event(found.object), Event(b"", found.object)) for found in self._objects.feed(chunk)
        ]
        self._objects.rest()
        return frames


class Undecided:
    """An answer whose content type cannot be relied on: its first byte that is no white space says what it is."""

    def __init__(self, content_type: str, *, sse: bool) -> None:
        """`sse`: the caller wants server-sent events, else a JSON array."""
        self.content_type = SSE if sse else JSON
        self._sse, self._said_type = sse, content_type
        self._begun = b""  # of a byte order mark
        self._framing: Framing | None = None

    @property
    def pending(self) -> int:
        return self._framing.pending if self._framing else len(self._begun)

    @property
    def terminated(self) -> bool:
        return self._framing is not None and self._framing.terminated

    def feed(self, chunk: bytes) -> list[Frame]:
        if self._framing is None:
            chunk = self._begun + chunk
            text = chunk.lstrip().removeprefix(BOM).lstrip()
            if BOM.startswith(text):  # or nothing is left
                self._begun = text
                return []
            self._framing, chunk = self._decided(text[:1]), text
            self.content_type = self._framing.content_type
        return self._framing.feed(chunk)

    def end(self) -> list[Frame]:
        if self._framing is None:
            raise UpstreamBroke("The upstream's answer is empty.")
        return self._framing.end()

    def _decided(self, first: bytes) -> Framing:
        if first in b"{[":
            return ArrayToEvents() if self._sse else Array()
        if is_sse(self._said_type) or first in FIELDS:
            return Events() if self._sse else EventsToArray()
        raise UpstreamBroke("The upstream answered with something that is not JSON.")


class AsItCame(Undecided):
    """JSON or server-sent events, whichever the upstream answers with, in the form in which they came."""

    def __init__(self, content_type: str, *, done: bool) -> None:
        """`done`: the dialect's events end with `[DONE]`."""
        super().__init__(content_type, sse=is_sse(content_type))
        self._done = done

    def _decided(self, first: bytes) -> Framing:
        if is_sse(self._said_type) or first in FIELDS:
            return NamedEvents(done=self._done)
        if first in b"{[":
            return Whole(self._said_type)
        raise UpstreamBroke("The upstream answered with something that is not JSON.")
