"""Where does one server-sent event end and the next begin?

Bytes in, whole events out, wherever the chunks are cut.  Only `data:` lines survive: comments, `event:`, `id:` and
`retry:` lines, empty events and `[DONE]` break Google's SDKs.  Lines end with LF, CRLF or CR and with nothing else,
so that U+2028 inside a text splits nothing.
"""

from dataclasses import dataclass

CONTENT_TYPE = "text/event-stream"
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event: as it is passed on, and what it says."""

    frame: bytes  # its data lines as they came, and exactly one empty line
    data: bytes  # its payload, joined as the specification says


class Events:
    """Splits one stream.  Holds the event under way and nothing else."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of the line under way: joined once, at its end
        self._lines: list[bytes] = []  # whole data lines of the event under way
        self._held = [0, 0]  # bytes of the two
        self._begun = False  # a byte order mark may stand in the first line only

    @property
    def pending(self) -> int:
        """Bytes held, for the memory budget."""
        return sum(self._held)

    def feed(self, chunk: bytes) -> list[Event]:
        """Take the next bytes; return the events that they complete."""
        self._pieces.append(chunk)
        self._held[0] += len(chunk)
        if b"\n" not in chunk and b"\r" not in chunk:
            return []
        lines = b"".join(self._pieces).splitlines(keepends=True)
        # A line is whole once its end is: a CR at the very end may be the first half of CRLF.
        rest = b"" if lines[-1].endswith(b"\n") else lines.pop()
        self._pieces, self._held[0] = [rest], len(rest)
        return [event for line in lines if (event := self._take(line))]

    def end(self) -> list[Event]:
        """The stream has ended cleanly: complete a last event that lacks its line end or its empty line."""
        rest = b"".join(self._pieces)
        last = rest if rest.endswith(b"\r") else rest + self._line_end()
        self._pieces, self._held[0] = [], 0
        return [event for line in (last, b"\n") if (event := self._take(line))]

    def _line_end(self) -> bytes:
        return _end_of(self._lines[-1]) if self._lines else b"\n"

    def _take(self, line: bytes) -> Event | None:
        """See one line, with its end; an empty one dispatches the event."""
        if not self._begun:
            self._begun = True
            line = line.removeprefix(_BOM)
        if line[:1] in b"\r\n":
            return self._dispatch()
        if line.startswith(b"data:") or line.rstrip(b"\r\n") == b"data":
            self._lines.append(line)
            self._held[1] += len(line)
        return None

    def _dispatch(self) -> Event | None:
        if not self._lines:
            return None
        frame = b"".join([*self._lines, self._line_end()])
        data = b"\n".join([_payload(line) for line in self._lines])
        self._lines, self._held[1] = [], 0
        return Event(frame=frame, data=data) if data.strip() not in (b"", b"[DONE]") else None


def event(data: bytes) -> bytes:
    """An event that holds this JSON, on one line: a line break in JSON is white space, and some SDKs read one line."""
    return b"data: " + data.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n\n"


def _payload(line: bytes) -> bytes:
    return line[6 if line[5:6] == b" " else 5 : -len(_end_of(line))]


def _end_of(line: bytes) -> bytes:
    return b"\r\n" if line.endswith(b"\r\n") else line[-1:]
