"""How are Gemini's messages read without reading the pictures?

Only what is counted has a field.  Values are `msgspec.Raw`: views into the message, so that base64 is passed over and
never copied, and a value of a wrong type harms nobody.  Both casings occur, mixed inside one object, and enums occur
as integers.
"""

from collections.abc import Iterator
from typing import TypeVar

import msgspec
from msgspec import Raw

ABSENT = Raw()
INT32_MAX = 2**31 - 1  # what a count can be on Google's wire
MAX_NUMBER_BYTES = 24

T = TypeVar("T")


class Blob(msgspec.Struct, gc=False):
    """Media inside a message."""

    data: Raw = ABSENT
    mime_type: Raw = ABSENT
    mimeType: Raw = ABSENT

    @property
    def is_image(self) -> bool:
        return enum_token(self.mime_type or self.mimeType).startswith(b"IMAGE/")


class Part(msgspec.Struct, gc=False):
    """A piece of a turn."""

    text: Raw = ABSENT
    thought: Raw = ABSENT
    inline_data: Blob | None = None
    inlineData: Blob | None = None
    file_data: Raw = ABSENT
    fileData: Raw = ABSENT
    thought_signature: Raw = ABSENT
    thoughtSignature: Raw = ABSENT
    function_response: "Content | None" = None
    functionResponse: "Content | None" = None

    @property
    def inline(self) -> Blob | None:
        return self.inline_data or self.inlineData


class Content(msgspec.Struct, gc=False):
    """A turn.  Google takes one thing where a list is meant, and its own samples use that."""

    parts: list[Part] | Part | None = None

    def __iter__(self) -> Iterator[Part]:
        """Give every part, also those inside the answers of functions."""
        for part in many(self.parts):
            yield part
            if inner := part.function_response or part.functionResponse:
                yield from inner


def many(value: list[T] | T | None) -> list[T]:
    """Give a list, whether one, several or none were sent."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def count_of(raw: Raw) -> int | None:
    """Read a count, also one in quotes or with a point; None when it is not a whole number that a count can be."""
    if not 0 < len(raw) <= MAX_NUMBER_BYTES:
        return None
    digits = bytes(raw)
    if not digits.isdigit():
        try:
            value = float(digits.strip(b'"'))
        except ValueError:
            return None
        return int(value) if 0 <= value <= INT32_MAX and value.is_integer() else None
    return value if (value := int(digits)) <= INT32_MAX else None


def enum_token(raw: Raw) -> bytes:
    """Read an enum or a MIME type in capitals; an integer enum as its digits, null as nothing."""
    value = bytes(raw).strip(b'"').upper()
    return b"" if value == b"NULL" else value
