"""What did the server reply?  An incremental RESP2 parser: bytes in, however they are cut, replies out.

redis-py's own reader awaits each line of a reply, which costs more than all the rest of a call to the store.
"""

import io

from redis.exceptions import AskError, InvalidResponse, MovedError, NoScriptError, ResponseError, TryAgainError

LARGE = 64 * 1024  # bytes; a value from here on grows as it comes: joined at its end, it would stall the loop
Reply = bytes | int | None | list["Reply"] | ResponseError
KINDS: dict[str, type[ResponseError]] = {"MOVED": MovedError, "ASK": AskError}  # redirections
NAMED: dict[str, type[ResponseError]] = {"NOSCRIPT": NoScriptError, "TRYAGAIN": TryAgainError}


class _CutError(Exception):
    """A reply is not whole yet; `size` is how many bytes it takes at least."""

    def __init__(self, size: int) -> None:
        self.size = size


class RespParser:
    """The replies of one connection, in RESP2."""

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._size = self._needed = 0
        self._large, self._lacks = io.BytesIO(), 0  # a large value, and how many bytes it and its line end still lack

    def feed(self, data: bytes) -> list[Reply]:
        """What is whole now.  Raises `InvalidResponse` or `ValueError` where it is no reply at all."""
        replies: list[Reply] = []
        if self._lacks:
            piece, data = data[: self._lacks], data[self._lacks :]
            self._large.write(piece)
            self._lacks -= len(piece)
            if self._lacks:
                return replies
            self._large.truncate(self._large.tell() - len(b"\r\n"))
            replies.append(self._large.getvalue())
            self._large = io.BytesIO()
        self._chunks.append(data)
        self._size += len(data)
        if self._size < self._needed:
            return replies
        text, start, self._needed = b"".join(self._chunks), 0, 0
        try:
            while start < len(text):
                reply, start = _parse(text, start)
                replies.append(reply)
        except _CutError as cut:
            self._needed = cut.size - start
            if self._needed >= LARGE and text.startswith(b"$", start):
                self._large.write(text[text.index(b"\r\n", start) + 2 :])
                self._lacks, self._needed, start = cut.size - len(text), 0, len(text)
        self._chunks = [text[start:]]
        self._size = len(text) - start
        return replies


def _parse(text: bytes, start: int) -> tuple[Reply, int]:
    """The reply that begins there, and where the next one does."""
    end = text.find(b"\r\n", start)
    if end < 0:
        raise _CutError(len(text) + 1)
    kind, line, start = text[start : start + 1], text[start + 1 : end], end + 2
    if kind == b"$":
        size = int(line)
        if size < 0:
            return None, start
        if len(text) < start + size + 2:
            raise _CutError(start + size + 2)
        return text[start : start + size], start + size + 2
    if kind == b":":
        return int(line), start
    if kind == b"+":
        return line, start
    if kind == b"-":
        return _error(line.decode(errors="replace")), start
    if kind == b"*":
        items: list[Reply] = []
        for _ in range(int(line)):
            item, start = _parse(text, start)
            items.append(item)
        return None if line == b"-1" else items, start
    raise InvalidResponse(f"no reply begins with {kind!r}")


def _error(text: str) -> ResponseError:
    code, _, rest = text.partition(" ")
    return KINDS[code](rest) if code in KINDS else NAMED.get(code, ResponseError)(text)
