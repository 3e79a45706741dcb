"""Which calls are identical, and so share a cache key?

Those to the same upstream whose every input that reaches it is the same, byte for byte: a body is not interpreted.  The
key is a SHA-256; each part is preceded by its length, so no part can pretend to be the end of another.
The model is part of the path, and `content-type` is constant; of the headers only `accept` crosses from the caller.
"""

import asyncio
import hashlib
from collections.abc import Iterable

from gateway.call import Call
from gateway.config import Client

VERSION = b"2"  # of the key and of the value behind it
LARGE_BYTES = 1024 * 1024  # from here on hashing happens in a thread, so that the loop never stalls


def scope_of(client: Client) -> str:
    """Which clients share an answer.  No client's own scope can collide with the shared one: its prefix differs."""
    return "shared" if client.cache == "shared" else f"client:{client.name}"


def pattern(client_name: str | None) -> str:
    """The pattern that matches the keys of one client's own answers, or of all; client names hold no wildcards."""
    return f"gw:cache:client:{client_name}:*" if client_name else "gw:cache:*"


async def name_of(call: Call, upstream: str) -> str:
    """The key of this upstream's answer to this call: `gw:cache:SCOPE:{HASH}`."""
    scope = scope_of(call.client)
    texts = (scope, upstream, call.method, call.model, call.query, call.accept)
    parts = (VERSION, *(text.encode() for text in texts), call.body)
    if len(call.body) < LARGE_BYTES:
        return f"gw:cache:{scope}:{{{digest(parts)}}}"
    return f"gw:cache:{scope}:{{{await asyncio.to_thread(digest, parts)}}}"


def digest(parts: Iterable[bytes]) -> str:
    """SHA-256, in hex, of the parts, each after its length in eight bytes."""
    hashed = hashlib.sha256()
    for part in parts:
        hashed.update(len(part).to_bytes(8, "big"))
        hashed.update(part)
    return hashed.hexdigest()
