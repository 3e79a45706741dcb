"""Where does one object of a JSON array end and the next begin?

A stream without `alt=sse` is one JSON array that grows for minutes.  `Objects` finds its objects as their bytes come,
cut anywhere; each is checked by whoever decodes it, so only strings and braces matter here.  `Writer` makes such an
array out of events.
"""

import re
from typing import NamedTuple

_TOKEN = re.compile(rb"[^ \t\r\n,]")
_MARK = re.compile(rb'["{}]')


class Found(NamedTuple):
    """One object of an array."""

    before: bytes  # what stands between it and the one before: brackets, commas, white space
    object: bytes


class Objects:
    """Splits one array.  An object alone, which the vendor's page shows for streams, counts as an array of one."""

    def __init__(self) -> None:
        self.closed = False  # the array's own end has been seen
        self.pending = 0  # bytes held, for the memory budget
        self._before: list[bytes] = []
        self._pieces: list[bytes] = []  # of the object in progress
        self._depth = 0  # of braces
        self._opened = False
        self._in_string = False
        self._escaped = False  # the first byte of the next chunk belongs to a backslash

    def feed(self, chunk: bytes) -> list[Found]:
        """Take the next bytes; return the objects that they complete.  Raises `ValueError` on anything but objects."""
        found, at = [], 0
        while at < len(chunk):
            if not self._depth:
                begin, at = at, self._between(chunk, at)
                self._before.append(chunk[begin:at])
                self.pending += at - begin
                if at == len(chunk):
                    break
            end = self._within(chunk, at)
            self._pieces.append(chunk[at:end])
            self.pending += end - at
            if self._depth:
                break
            found.append(Found(b"".join(self._before), b"".join(self._pieces)))
            self._before, self._pieces, self.pending, at = [], [], 0, end
            self.closed = not self._opened
        return found

    def rest(self) -> bytes:
        """What stands behind the last object, once, where the array is closed."""
        if not self.closed:
            return b""
        rest = b"".join(self._before)
        self._before, self.pending = [], 0
        return rest

    def _between(self, chunk: bytes, at: int) -> int:
        """Walk to the next object, or to the end of the chunk."""
        while token := _TOKEN.search(chunk, at):
            mark = token[0]
            if mark == b"{" and not self.closed:
                return token.start()
            if mark == b"[" and not self._opened and not self.closed:
                self._opened = True
            elif mark == b"]" and self._opened and not self.closed:
                self.closed = True
            else:
                raise ValueError("not a JSON array of objects")
            at = token.end()
        return len(chunk)

    def _within(self, chunk: bytes, at: int) -> int:
        """Walk to the end of the object, or of the chunk."""
        while at < len(chunk):
            if self._in_string:
                at = self._string_end(chunk, at)
                continue
            mark = _MARK.search(chunk, at)
            if mark is None:
                break
            at = mark.end()
            if mark[0] == b'"':
                self._in_string = True
                continue
            self._depth += 1 if mark[0] == b"{" else -1
            if not self._depth:
                return at
        return len(chunk)

    def _string_end(self, chunk: bytes, at: int) -> int:
        # bytes.find passes a picture ten times faster than any pattern.
        begin = at = at + self._escaped
        self._escaped = False
        while (quote := chunk.find(b'"', at)) >= 0:
            at = quote + 1
            if not _backslash_before(chunk, begin, quote):
                self._in_string = False
                return at
        self._escaped = _backslash_before(chunk, begin, len(chunk))
        return len(chunk)


def _backslash_before(chunk: bytes, begin: int, end: int) -> bool:
    """Whether an unescaped backslash stands right before `end`: an odd run of them."""
    at = end
    while at > begin and chunk[at - 1] == ord("\\"):
        at -= 1
    return (end - at) % 2 == 1


class Writer:
    """Makes an array of objects, each written as soon as it is there."""

    def __init__(self) -> None:
        self._before = b"["

    def add(self, obj: bytes) -> bytes:
        """Write one more object."""
        before, self._before = self._before, b",\r\n"
        return before + obj

    def end(self) -> bytes:
        """Close the array.  Left out when the answer broke off, so that it never looks whole."""
        return b"[]" if self._before == b"[" else b"]"
