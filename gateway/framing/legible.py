"""How is JSON read that is too large to be read in one go, or that only lenient readers take?

The strict decoder is fast and holds the interpreter until it is done.  So a large message is first made small: whatever
is the inside of a long string is left out, block by block, and one that holds too many values is not read at all.

The callers' own readers, Python's and JavaScript's, take what the strict decoder refuses: half a surrogate pair, which
Gemini writes where an emoji is cut in two, `NaN`, a byte order mark, bytes that are no UTF-8, nesting without end.
`mended` writes that anew, for our eyes only: what passes on are the bytes as they came.
"""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import msgspec
from msgspec import Raw

T = TypeVar("T")

MAX_OBJECTS = 20_000  # beyond, nothing is looked at: ten million `{}` would stall the loop and fill the memory
MAX_VALUES = 500_000
MAX_DEPTH = 100  # of what is looked at; Gemini's own shape is a dozen deep, and functions' answers nest once more
MAX_TEXT_BYTES = 2 * 1024 * 1024  # of texts that may show something; no model answers as much
MAX_BRACKETS = 20_000  # of what is nested deeply
SMALL_BYTES = 64 * 1024  # cannot hold more than is looked at
BLOCK_BYTES = 32 * 1024
OVERLAP_BYTES = 16  # more than what is replaced

_BOM = b"\xef\xbb\xbf"
_HALF = re.compile(rb"(?<!\\)(?:\\\\)*+(\\u[dD][89a-fA-F][0-9a-fA-F]{2})")  # whole pairs too: they are two halves
_NO_NUMBER = re.compile(rb'(?<![\w"\\.-])(-?(?:NaN|Infinity))(?![\w"])')
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[\[{]|[\]}]', re.DOTALL)
_SHOWS = (b":", b"[", b"<")  # without one of these no link and no picture begins in a text


class TooManyObjects(ValueError):
    """A message of more values than are looked at."""


class Legible(NamedTuple):
    """A message without the inside of its long strings."""

    text: bytes
    mark: bytes = b""  # stands for what was left out, before its length and a semicolon
    hides: bool = False  # what was left out may have shown something

    def size(self, piece: bytes | memoryview) -> int:
        """How long a piece of the text was in the message."""
        if not self.mark:
            return len(piece)
        first, *others = bytes(piece).split(self.mark)
        size = len(first)
        for other in others:
            length, _, rest = other.partition(b";")
            size += int(length) + len(rest)
        return size


def legible(data: bytes, *, shows: bool = False) -> Legible:
    """Make a large message small; where it `shows` something, texts that may hold a link or a picture stay whole.

    Raises `TooManyObjects`.
    """
    if len(data) <= SMALL_BYTES:
        return Legible(data)
    # A cut may go through an escape of four hexadecimal digits: the zeros complete it.
    mark = b"0000%s:" % os.urandom(8).hex().encode()
    kept: list[bytes] = []
    objects = values = left_out = shown = 0
    for at, end, outside, inner in _blocks(data):
        objects += outside.count(b"{")
        values += outside.count(b"[") + outside.count(b",")
        if objects > MAX_OBJECTS or values > MAX_VALUES:
            raise TooManyObjects("too many values")
        may_show = inner and shows and any(data.find(byte, at, end) >= 0 for byte in _SHOWS)
        shown += (end - at) * may_show
        if inner and (not may_show or shown > MAX_TEXT_BYTES):
            left_out += end - at
            continue
        if left_out:
            kept.append(b"%b%d;" % (mark, left_out))
            left_out = 0
        kept.append(data[at:end])
    return Legible(b"".join(kept), mark, hides=shown > MAX_TEXT_BYTES)


def is_whole(data: bytes) -> bool:
    """Whether a message that nobody looks into ends where its first bracket is closed, so that it is not cut."""
    open_brackets = 0
    for _, _, outside, _ in _blocks(data):
        open_brackets += sum(map(outside.count, (b"{", b"["))) - sum(map(outside.count, (b"}", b"]")))
    text = data[:BLOCK_BYTES].removeprefix(_BOM).lstrip()
    return not open_brackets and text.startswith(b"{") and data[-BLOCK_BYTES:].rstrip().endswith(b"}")


def mended(text: bytes) -> bytes:
    """The same message, as a strict decoder takes it."""
    text = text.removeprefix(_BOM)
    if not text.isascii():
        text = text.decode(errors="replace").encode()
    text = whole_characters(text)
    if b"NaN" in text or b"Infinity" in text:
        text = _replaced(_NO_NUMBER, b"null", text)
    return text


def whole_characters(text: bytes) -> bytes:
    """The same message, as long, with a replacement character for each half of a surrogate pair."""
    return _replaced(_HALF, rb"\ufffd", text) if rb"\ud" in text or rb"\uD" in text else text


def shallow(text: bytes) -> bytes:
    """The same message with a zero in place of whatever is nested deeper than anything that is looked at."""
    kept: list[bytes] = []
    depth = begin = brackets = 0
    for token in _TOKEN.finditer(text):
        byte = text[token.start()]
        brackets += byte != ord('"')
        if brackets > MAX_BRACKETS:
            raise TooManyObjects("nested too deeply")
        if byte in b"[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept.append(text[begin : token.start()])
        elif byte in b"]}":
            if depth == MAX_DEPTH + 1:
                kept.append(b"0")
                begin = token.end()
            depth -= 1
    if depth > 0:
        raise ValueError("cut")
    return b"".join([*kept, text[begin:]])


def _replaced(pattern: re.Pattern[bytes], new: bytes, text: bytes) -> bytes:
    """Put something in place of each first group; window by window, since one search holds the interpreter."""
    kept: list[bytes] = []
    begin = at = 0
    while at < len(text):
        found = pattern.search(text, at, at + BLOCK_BYTES)
        if found is None:
            at += BLOCK_BYTES - OVERLAP_BYTES
            continue
        kept += [text[begin : found.start(1)], new]
        if len(kept) > 2 * MAX_OBJECTS:
            raise TooManyObjects("too much to mend")
        begin = at = found.end(1)
    return b"".join([*kept, text[begin:]])


def _blocks(data: bytes) -> Iterator[tuple[int, int, bytes, bool]]:
    """Give where each block is, what of it is outside of strings, and whether all of it is the inside of one."""
    at, inside = 0, False
    while at < len(data):
        end = min(at + BLOCK_BYTES, len(data))
        if data[end - 1] == ord("\\"):  # it stays with what it escapes
            run = data[at:end]
            end += (len(run) - len(run.rstrip(b"\\"))) % 2
        if inside and data.find(b'"', at, end) < 0:
            yield at, end, b"", True
        else:
            block = data[at:end]
            if b"\\" in block:
                block = block.replace(rb"\\", b"").replace(rb"\"", b"")
            pieces = block.split(b'"')
            yield at, end, b"".join(pieces[inside::2]), inside and len(pieces) == 1
            inside ^= len(pieces) % 2 == 0
        at = end


def decoded(decoder: msgspec.json.Decoder[T], data: bytes | Raw) -> T:
    """Decode a whole message, as leniently as any caller would.  Raises `ValueError`."""
    try:
        return decoder.decode(data)
    except msgspec.ValidationError:  # JSON as far as it was read, but of another shape
        raise
    except (msgspec.DecodeError, RecursionError):
        text = mended(bytes(data))
    try:
        return decoder.decode(text)
    except RecursionError:
        return decoder.decode(shallow(text))


def lenient(decoder: msgspec.json.Decoder[T], raw: Raw) -> T | None:
    """Decode a part of a message; None when it is absent or of another shape."""
    try:
        return decoded(decoder, raw) if raw else None
    except ValueError:
        return None
