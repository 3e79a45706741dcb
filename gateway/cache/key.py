"""Which calls are identical, and so share a cache key?

Those whose every input that reaches the upstream is the same, byte for byte, and the upstream too: nothing is read into
a body, so no two readings of one key exist.  Each part is preceded by its length, so no part can pretend to be the end
of another.  The key is made of the very value that the upstream's request is made of, so no input can be missing.
"""

import hashlib
from collections.abc import Iterable

from gateway.background import off_loop
from gateway.call import Call
from gateway.config import Client

VERSION = b"3"  # of the key and of the value behind it


def scope_of(client: Client) -> str:
    """Which clients share an answer.  No client's own scope can collide with the shared one: its prefix differs."""
    return "shared" if client.cache == "shared" else f"client:{client.name}"


def pattern(client_name: str | None) -> str:
    """The pattern that matches the keys of one client's own answers, or of all; client names hold no wildcards."""
    return f"gw:cache:client:{client_name}:*" if client_name else "gw:cache:*"


async def name_of(call: Call, upstream: str) -> str:
    """The key of this upstream's answer to this call: `gw:cache:SCOPE:{HASH}`."""
    scope = scope_of(call.client)
    asked = call.upstream
    texts = (scope, upstream, asked.method, asked.target, *(text for header in asked.headers for text in header))
    body = asked.body if call.plan.identity is None else call.plan.identity
    parts = (VERSION, *(text.encode() for text in texts), body)
    return f"gw:cache:{scope}:{{{await off_loop(len(body), digest, parts)}}}"


def digest(parts: Iterable[bytes]) -> str:
    """SHA-256, in hex, of the parts, each after its length in eight bytes."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(len(part).to_bytes(8, "big"))
        hashed.update(part)
    return hashed.hexdigest()
