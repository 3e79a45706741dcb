"""What may the head of a request look like, and how is an `Upgrade` removed from it?"""

import re

from gateway import errors
from gateway.asgi.headers import RawHeaders

RESPONSES = re.compile(rb"[^?]*/responses/*+(?:\?.*)?+", re.DOTALL)
HOST = re.compile(rb"(?:[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
VERSIONS = frozenset({"1.0", "1.1"})
MAX_TARGET_BYTES = 8 * 1024
MAX_LINE_BYTES = 16 * 1024
MAX_HEAD_BYTES = 32 * 1024
MAX_FIELDS = 100


def is_host(value: bytes) -> bool:
    """Whether this is a host, with or without a port (RFC 9110, section 7.2)."""
    return HOST.fullmatch(value) is not None


def without_offer(start: bytes, headers: RawHeaders) -> bytes:
    """The head of a request without its `Upgrade` offer of another protocol."""
    lines = [start]
    for name, value in headers:
        if name == b"connection":
            tokens = {token.strip().lower() for token in value.split(b",")}
            lines += [b"connection: %b" % token for token in sorted(tokens & {b"close", b"keep-alive"})]
        elif name not in {b"upgrade", b"http2-settings"}:
            lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join([*lines, b"\r\n"])


def without_websocket(target: bytes) -> errors.GatewayError:
    """The error for an offer of WebSocket: OpenAI's clients try it for responses, and obey a 426 only."""
    if RESPONSES.fullmatch(target):
        return errors.UpgradeRequired()
    return errors.BadRequest("WebSocket and CONNECT are not offered. Send plain HTTP/1.1.")


def too_large() -> errors.GatewayError:
    """The error for a head that is too long in any way."""
    return errors.HeadersTooLarge(
        f"At most {MAX_FIELDS} header lines of {MAX_LINE_BYTES} bytes, {MAX_HEAD_BYTES} bytes in all, are taken."
    )
