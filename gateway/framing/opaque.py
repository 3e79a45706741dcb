"""How does an answer pass that nobody looks into: audio, subtitles, plain text?

Its bytes pass as they come.  A clean end and the declared length, which the upstream's connection checks, are all by
which it is known to be whole.
"""

import re

from gateway.call import Event, Frame
from gateway.errors import UpstreamBroke

BYTES = "application/octet-stream"
ENDED = Event(b"ended", b"")  # what such an answer says; no other event is empty

_PLAIN = re.compile(r"[a-z]+/[a-z0-9.+-]+(?:; ?[a-z]+=[a-z0-9._-]{1,32}){0,4}", re.IGNORECASE)
_PAGE = re.compile(r"\s*(?:text/html|[a-z]+/xhtml\+xml)\b", re.IGNORECASE)


def is_page(content_type: str) -> bool:
    """Whether this header value names a page for people, which is no API's answer."""
    return _PAGE.match(content_type) is not None


class Opaque:
    """Bytes of the type that the upstream gives them, where that is a plain one."""

    pending = 0
    terminated = False

    def __init__(self, content_type: str) -> None:
        self.content_type = content_type if _PLAIN.fullmatch(content_type) else BYTES
        self._empty = True

    def feed(self, chunk: bytes) -> list[Frame]:
        self._empty &= not chunk
        return [(chunk, None)]

    def end(self) -> list[Frame]:
        if self._empty:
            raise UpstreamBroke("The upstream's answer is empty.")
        return [(b"", ENDED)]
