"""Where does one server-sent event end and the next begin?

Bytes in, whole events out, wherever the chunks are cut.  `data:` lines survive; a `Policy` says what else does, since
each dialect's SDKs break on something else.  `id:` and `retry:` lines and events without data survive nowhere: some
SDKs take each for an event, and its empty data for JSON.  Lines end with LF, CRLF or CR and with nothing else, so that
U+2028 inside a text splits nothing.

JSON that stands there without `data:`, as the errors of some relays do, is taken for what it is, and so is JSON that
goes on over lines of which only the first has it: Google's SDKs read them too, one the former and one the latter.
"""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gateway.framing.json_array import Found, Objects

CONTENT_TYPE = "text/event-stream"
CONTINUED = (b" ", b"\t", b'"', b"}", b"]")  # how a line of JSON begins, and none of an event stream's
BOM = b"\xef\xbb\xbf"

_JOINT = re.compile(rb"(?<=\})(?=data:)")
_COMMENTS = re.compile(rb"(?::[^\r\n]*+[\r\n]++)++")

DONE = b"[DONE]"


class Policy(NamedTuple):
    """What survives beside `data:` lines."""

    names: bool = False  # `event:` lines
    comments: bool = False  # between events
    done: bool = False  # `[DONE]`, as an event of that data


DATA_ONLY = Policy()  # all that Google's SDKs can read


@dataclass(frozen=True, slots=True, kw_only=True)
class SentEvent:
    """One event: as it is passed on, and what it says."""

    frame: bytes  # its lines as they came, and exactly one empty line
    data: bytes  # its payload, joined as the specification says; b"" of a comment
    name: bytes = b""


class Events:
    """Splits one stream.  Holds the event in progress and nothing else."""

    def __init__(self, policy: Policy = DATA_ONLY) -> None:
        self._policy = policy
        self._pieces: list[bytes] = []  # of the line in progress: joined once, at its end
        self._lines: list[bytes] = []  # whole lines of the event in progress that survive
        self._name, self._has_data = b"", False  # of the event in progress
        self._held = [0, 0]  # bytes of the two
        self._continued = False  # the event in progress has lines without `data:`
        self._bare: Objects | None = None  # JSON in progress that no `data:` announced
        self._begun = False  # a byte order mark may stand in the first line only

    @property
    def pending(self) -> int:
        """Bytes held, for the memory budget."""
        return sum(self._held) + (self._bare.pending if self._bare else 0)

    def feed(self, chunk: bytes) -> list[SentEvent]:
        """Take the next bytes; return the events that they complete."""
        self._pieces.append(chunk)
        self._held[0] += len(chunk)
        after_cr = len(self._pieces) > 1 and self._pieces[-2].endswith(b"\r")
        if not after_cr and b"\n" not in chunk and b"\r" not in chunk:
            return []
        if len(self._pieces) > 1 and not after_cr:  # a long line is not copied twice
            first, *others = chunk.splitlines(keepends=True)
            lines = [b"".join([*self._pieces[:-1], first]), *others]
        else:
            lines = b"".join(self._pieces).splitlines(keepends=True)
        # A line is whole once its end is: a CR at the very end may be the first half of CRLF.
        rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
        self._pieces, self._held[0] = [rest], len(rest)
        return [event for line in lines for event in self._take(line)]

    def end(self) -> list[SentEvent]:
        """The stream has ended cleanly: complete a last event that lacks its line end or its empty line."""
        rest = b"".join(self._pieces)
        last = rest if rest.endswith(b"\r") else rest + self._line_end()
        self._pieces, self._held[0] = [], 0
        return [event for line in (last, b"\n") for event in self._take(line)]

    def _line_end(self) -> bytes:
        return _end_of(self._lines[-1]) if self._lines else b"\n"

    def _take(self, line: bytes) -> Sequence[SentEvent]:
        """See one line, with its end; an empty one dispatches the event."""
        if not self._begun:
            self._begun = True
            line = line.removeprefix(BOM)
        if line.startswith(b"data:") or line.rstrip(b"\r\n") == b"data":
            self._bare = None
            self._keep(line)
            self._has_data = True
            return ()
        if self._has_data and line.startswith(CONTINUED):
            self._continued = True
            return self._take(b"data: " + line)
        if self._bare or line.startswith((b"{", b"[")):
            return [*self._dispatch(), *self._take_bare(line)]
        if self._policy.names and line.startswith(b"event:"):
            self._name = _value(line, len(b"event:"))
            self._keep(line)
            return ()
        if self._policy.comments and line.startswith(b":") and not self._lines:
            return (SentEvent(frame=line + _end_of(line), data=b""),)
        return self._dispatch() if line[:1] in b"\r\n" else ()

    def _keep(self, line: bytes) -> None:
        self._lines.append(line)
        self._held[1] += len(line)

    def _take_bare(self, line: bytes) -> list[SentEvent]:
        """See a line of JSON.  A relay that writes an error without its end goes on behind it, `}data: [DONE]`."""
        bare, found, pieces = self._bare or Objects(), list[Found](), deque(_JOINT.split(line))
        while pieces and not bare.closed:
            try:
                found += bare.feed(pieces.popleft())
            except ValueError:  # a line like any other that is none of ours
                bare.closed = True
                pieces.clear()
        self._bare = None if bare.closed else bare
        events = [SentEvent(frame=event(one.object), data=one.object) for one in found]
        return [*events, *self._take(b"".join(pieces))] if pieces else events

    def _dispatch(self) -> Sequence[SentEvent]:
        lines, name, has_data, continued = self._lines, self._name, self._has_data, self._continued
        self._lines, self._held[1], self._name, self._has_data, self._continued = [], 0, b"", False, False
        if not has_data:
            return ()
        data = b"\n".join([_value(line, len(b"data:")) for line in lines if line.startswith(b"data")])
        said = data.strip()
        if not said or (said == DONE and not self._policy.done):
            return ()
        frame = event(data, name) if continued else b"".join([*lines, _end_of(lines[-1])])
        return (SentEvent(frame=frame, data=said if said == DONE else data, name=name),)


def event(data: bytes, name: bytes = b"") -> bytes:
    """An event that holds this JSON, on one line: a line break in JSON is white space, and some SDKs read one line."""
    named = b"event: " + name + b"\n" if name else b""
    return named + b"data: " + data.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n\n"


def is_comment(chunk: bytes | memoryview) -> bool:
    """Whether this is nothing but comments, with whole lines."""
    return _COMMENTS.fullmatch(chunk) is not None


def _value(line: bytes, at: int) -> bytes:
    """What a field says, whose name and colon are so long; one blank behind them does not count."""
    return line[at + (line[at : at + 1] == b" ") : -len(_end_of(line))]


def _end_of(line: bytes) -> bytes:
    return b"\r\n" if line.endswith(b"\r\n") else line[-1:]
