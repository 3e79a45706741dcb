"""Where does one server-sent event end and the next begin?

Bytes in, whole events out, wherever the chunks are cut.  Only `data:` lines survive: comments, `event:`, `id:` and
`retry:` lines, empty events and `[DONE]` break Google's SDKs.  Lines end with LF, CRLF or CR and with nothing else,
so that U+2028 inside a text splits nothing.

JSON that stands there without `data:`, as the errors of some relays do, is taken for what it is, and so is JSON that
goes on over lines of which only the first has it: Google's SDKs read them too, one the former and one the latter.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.framing.json_array import Objects

CONTENT_TYPE = "text/event-stream"
CONTINUED = (b" ", b"\t", b'"', b"}", b"]")  # how a line of JSON begins, and none of an event stream's
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class SentEvent:
    """One event: as it is passed on, and what it says."""

    frame: bytes  # its data lines as they came, and exactly one empty line
    data: bytes  # its payload, joined as the specification says


class Events:
    """Splits one stream.  Holds the event in progress and nothing else."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of the line in progress: joined once, at its end
        self._lines: list[bytes] = []  # whole data lines of the event in progress
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
            self._lines.append(line)
            self._held[1] += len(line)
            return ()
        if self._lines and line.startswith(CONTINUED):
            self._continued = True
            return self._take(b"data: " + line)
        if self._bare or line.startswith((b"{", b"[")):
            return [*self._dispatch(), *self._take_bare(line)]
        return self._dispatch() if line[:1] in b"\r\n" else ()

    def _take_bare(self, line: bytes) -> list[SentEvent]:
        self._bare = self._bare or Objects()
        try:
            found = self._bare.feed(line)
        except ValueError:  # a line like any other that is none of ours
            self._bare = None
            return []
        if self._bare.closed:
            self._bare = None
        return [SentEvent(frame=event(one.object), data=one.object) for one in found]

    def _dispatch(self) -> Sequence[SentEvent]:
        if not self._lines:
            return ()
        data = b"\n".join([_payload(line) for line in self._lines])
        frame = event(data) if self._continued else b"".join([*self._lines, self._line_end()])
        self._lines, self._held[1], self._continued = [], 0, False
        return () if data.strip() in (b"", b"[DONE]") else (SentEvent(frame=frame, data=data),)


def event(data: bytes) -> bytes:
    """An event that holds this JSON, on one line: a line break in JSON is white space, and some SDKs read one line."""
    return b"data: " + data.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n\n"


def _payload(line: bytes) -> bytes:
    return line[6 if line[5:6] == b" " else 5 : -len(_end_of(line))]


def _end_of(line: bytes) -> bytes:
    return b"\r\n" if line.endswith(b"\r\n") else line[-1:]
