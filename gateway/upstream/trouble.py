"""Why could the upstream not be asked?  In words for its operator, since the transport's own text holds the URL.

The transport tells kinds of trouble apart by text alone.
"""

import time
from collections.abc import Callable

AGAIN_SECONDS = 60.0
PROXY = "failed to create underlying connection"  # stands before what went wrong on the way to the forward proxy

# What stands in the text, the most special first, and what it means.
MEANINGS: tuple[tuple[str, str], ...] = (
    ("certificate expired", "its TLS certificate has expired"),
    ("certificate not valid yet", "its TLS certificate is not valid yet"),
    ("certificate not valid for name", "its TLS certificate is for another name"),
    ("NotValidForName", "its TLS certificate is for another name"),
    ("UnknownIssuer", "its TLS certificate is from an authority that is not trusted here"),
    ("BadSignature", "its TLS certificate is from an authority that is not trusted here"),
    ("CaUsedAsEndEntity", "its TLS certificate is an authority's own, not a server's"),
    ("Revoked", "its TLS certificate was revoked"),
    ("invalid peer certificate", "its TLS certificate does not verify"),
    ("proxy authorization required", "the forward proxy refuses our user or password"),
    ("tunnel error: unsuccessful", "the forward proxy refuses to connect to it"),
    ("tls handshake eof", "it ended the TLS handshake: it may speak no TLS there, or only old versions"),
    ("corrupt message", "it does not speak TLS there"),
    ("InvalidContentType", "it does not speak TLS there"),
    ("received fatal alert", "it refused the TLS handshake"),
    ("peer is incompatible", "it speaks other versions of TLS"),
    ("dns error", "its name does not resolve"),
    ("Connection refused", "the connection was refused"),
    ("Connection reset", "the connection was reset"),
    ("Network is unreachable", "its network cannot be reached"),
    ("No route to host", "its host cannot be reached"),
    ("deadline has elapsed", "it could not be connected to in time"),
    ("timed out", "it could not be connected to in time"),
    ("Too many open files", "this process has no file descriptor left"),
)


def words_of(error: Exception) -> str:
    """What happened, or the exception's class where that is not known."""
    text = str(error)
    meaning = next((words for mark, words in MEANINGS if mark in text), type(error).__name__)
    return f"on the way to the forward proxy: {meaning}" if PROXY in text else meaning


class Trouble:
    """Tells each reason once in `again_seconds`, however many calls meet it."""

    def __init__(self, say: Callable[[str], None], *, again_seconds: float = AGAIN_SECONDS) -> None:
        self._say, self._again_seconds = say, again_seconds
        self._said: dict[str, float] = {}

    def tell(self, why: str) -> None:
        now = time.monotonic()
        if now - self._said.get(why, float("-inf")) >= self._again_seconds:
            self._said[why] = now
            self._say(why)
