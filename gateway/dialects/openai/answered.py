"""What has one answer said so far: how much text, how many pictures, and are they in it or somewhere else?"""

import msgspec
from msgspec import Raw

from gateway.dialects.inline import Inline
from gateway.dialects.links import Links
from gateway.dialects.openai.media import first_byte
from gateway.dialects.values import ABSENT
from gateway.framing import Legible, lenient

SLICE_CHARS = 16 * 1024
HEAD_BYTES = 512  # of a picture's entry: its address begins within


class Part(msgspec.Struct, gc=False):
    """A piece of what was said, where it is no plain text."""

    text: Raw = ABSENT
    image_url: Raw = ABSENT


_TEXT = msgspec.json.Decoder(str)
_PARTS = msgspec.json.Decoder(list[Part])


class Answered:
    """One choice of a chat completion, or one response."""

    def __init__(self, *, keeps: bool) -> None:
        """`keeps`: the answer may be kept, so links matter."""
        self.chars = 0  # of everything that was written, also of thoughts and for tools
        self.images = 0
        self.by_reference = False  # a picture is only an address, or may be
        self._keeps = keeps
        self._links, self._inline = Links(), Inline()

    def links_pictures(self, *, expected: bool) -> bool:
        """Whether a link may be the picture; `expected`: there should be one, so any link may be it."""
        missing = expected and not self.images
        return self._links.shown or (missing and self._links.any)

    def show(self, raw: Raw, lean: Legible) -> None:
        """Take the next piece of what is shown to people: a string or a list of parts."""
        if first_byte(raw) == b"[":
            for part in lenient(_PARTS, raw) or ():
                self._show(part.text, lean)
                if part.image_url:
                    self.picture(part.image_url)
        elif raw:
            self._show(raw, lean)

    def count(self, raw: Raw, lean: Legible) -> None:
        """Take the next piece of text that is not shown, like thoughts and what tools are called with."""
        text = lenient(_TEXT, raw)
        if text:
            self.chars += lean.size(raw) if lean.mark else len(text)

    def picture(self, raw: Raw) -> None:
        """Take a picture: its address, alone or within an object, or its bare base64."""
        head = bytes(memoryview(raw)[:HEAD_BYTES])
        is_bare = head.startswith(b'"') and b":" not in head
        self.images += 1
        self.by_reference |= not (is_bare or b'"data:' in head or b'"b64_json"' in head)

    def _show(self, raw: Raw, lean: Legible) -> None:
        text = lenient(_TEXT, raw)
        if not text:
            return
        self.chars += lean.size(raw) if lean.mark else len(text)
        for at in range(0, len(text), SLICE_CHARS):  # each search holds the interpreter until it is done
            piece = text[at : at + SLICE_CHARS]
            self.images += self._inline.see(piece)
            if self._keeps:
                self._links.see(piece)
