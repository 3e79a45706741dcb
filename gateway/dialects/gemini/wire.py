"""How are Gemini's messages read without reading the pictures?

Only what is counted has a field.  Values are `msgspec.Raw`: views into the message, so that base64 is passed over and
never copied, and a value of a wrong type harms nobody.  Both casings occur, mixed inside one object, and enums occur
as integers.
"""

from collections.abc import Iterator

import msgspec
from msgspec import Raw

from gateway.dialects.values import ABSENT, enum_token, many


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
