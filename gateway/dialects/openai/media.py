"""Which media stand in what goes to the model, and how much of it are they?

Turns, items, parts and the answers of tools hold each other.  A member of another shape than OpenAI's is text, whatever
it is.
"""

import msgspec
from msgspec import Raw

from gateway.dialects.values import ABSENT
from gateway.framing import Legible, lenient

MAX_DEPTH = 4  # a turn, its parts, a tool's answer among them, the parts of that
NAMES = (b"image_url", b"video_url", b"input_audio", b'"file', b"image_generation_call")  # one is there if a medium is

NOTHING = Legible(b"")


class Source(msgspec.Struct, gc=False):
    """Where the bytes of a medium are."""

    url: Raw = ABSENT
    data: Raw = ABSENT
    file_data: Raw = ABSENT


class Piece(msgspec.Struct, gc=False):
    """A turn, an item or a part: each has some of these."""

    content: Raw = ABSENT
    output: Raw = ABSENT
    image_url: Raw = ABSENT  # the address, or an object around it
    result: Raw = ABSENT  # a picture of an earlier answer
    input_audio: Raw = ABSENT
    video_url: Raw = ABSENT
    file: Raw = ABSENT
    file_data: Raw = ABSENT
    file_url: Raw = ABSENT
    file_id: Raw = ABSENT
    type: Raw = ABSENT


_LIST = msgspec.json.Decoder(list[Raw])
_PIECE = msgspec.json.Decoder(Piece)
_SOURCE = msgspec.json.Decoder(Source)


class Media:
    """What has been found."""

    def __init__(self, lean: Legible = NOTHING) -> None:
        self.bytes = 0  # of the message, that are no text
        self.images = self.others = 0
        self.tokens = 0  # sent as numbers in the place of text
        self.texts = 0  # which a list holds beside each other, as strings or as numbers
        self._lean = lean

    def take(self, raw: Raw, depth: int = 0) -> None:
        """See one member: a text, a piece, several of them, or tokens."""
        first = first_byte(raw)
        if first == b"{":
            if (piece := lenient(_PIECE, raw)) is not None:
                self._take_piece(piece, depth)
        elif first == b"[" and depth < MAX_DEPTH:
            several = lenient(_LIST, raw) or []
            if several and first_byte(several[0]).isdigit():
                self._take_tokens(raw, len(several))
            else:
                for one in several:
                    self.take(one, depth + 1)
        elif first == b'"' and depth == 1:
            self.texts += 1

    def _take_tokens(self, raw: Raw, count: int) -> None:
        self.texts += 1
        self.tokens += count
        self.bytes += self._lean.size(raw)

    def _take_piece(self, piece: Piece, depth: int) -> None:
        self.take(piece.content, depth + 1)
        self.take(piece.output, depth + 1)
        for raw in (piece.image_url, piece.result if is_picture_call(piece.type) else ABSENT):
            if raw and bytes(raw) != b"null":
                self.images += 1
                self._take_bytes(raw)
        for raw in (piece.input_audio, piece.video_url, piece.file, piece.file_data or piece.file_url or piece.file_id):
            if raw and bytes(raw) != b"null":
                self.others += 1
                self._take_bytes(raw)

    def _take_bytes(self, raw: Raw) -> None:
        if first_byte(raw) == b"{":
            source = lenient(_SOURCE, raw) or Source()
            raw = source.url or source.data or source.file_data
        self.bytes += self._lean.size(raw)


def may_hold_media(body: bytes) -> bool:
    """Whether it is worth looking: most messages hold no medium."""
    return any(name in body for name in NAMES)


def first_byte(raw: Raw) -> bytes:
    """Of which kind a value is."""
    return bytes(memoryview(raw)[:1])


def is_picture_call(kind: Raw) -> bool:
    """Whether an item is a picture that the model had made."""
    return bytes(kind) == b'"image_generation_call"'
