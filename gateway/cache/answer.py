"""How is an answer encoded for the store, and how is a damaged one, or another's, detected?

    created   13 digits: milliseconds since 1970 (get_or_claim.lua reads them)
    checksum  32 bytes: SHA-256 of the name, of `created` and of all that follows the checksum
    length    4 bytes: of the head
    head      msgpack: content type, tokens, time to live in seconds, the length of each chunk
    body      the chunks

The status is not stored: only a 200 ever is.  The name is part of the checksum, so a value found under another name
counts as damaged.  Decoding copies nothing: the chunks are views of the stored value.
"""

import hashlib
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

Chunk = bytes | memoryview

FRONT = ">13s32sI"  # created, checksum, length
HEAD_AT = 49


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedAnswer:
    """A whole answer."""

    content_type: str
    chunks: Sequence[Chunk]  # of a stream, as they were written; of a unary answer one
    tokens: int  # what it cost, and what each cache hit saves
    created: float  # seconds since 1970
    ttl_seconds: int = 0  # 0 until it is stored

    @property
    def age(self) -> int:
        """Whole seconds."""
        return max(0, int(time.time() - self.created))

    @property
    def size(self) -> int:
        return sum(map(len, self.chunks))


class Head(msgspec.Struct, array_like=True, gc=False):
    """What is stored beside the body."""

    content_type: str
    tokens: int
    ttl_seconds: int
    lengths: list[int]


_HEAD = msgspec.msgpack.Decoder(Head)


def encode(name: str, cached: CachedAnswer, ttl_seconds: int) -> bytes:
    """The value to be stored under this name, for so long."""
    head = msgspec.msgpack.encode(Head(cached.content_type, cached.tokens, ttl_seconds, list(map(len, cached.chunks))))
    created, length = b"%013d" % round(cached.created * 1000), struct.pack(">I", len(head))
    checksum = _checksum(name, created, length, head, *cached.chunks)
    return b"".join((created, checksum, length, head, *cached.chunks))


def decode(name: str, value: bytes) -> CachedAnswer | None:
    """The answer in a value found under this name; None when it is not what was stored there."""
    if len(value) < HEAD_AT:
        return None
    created, checksum, length = struct.unpack_from(FRONT, value)
    view = memoryview(value)
    if checksum != _checksum(name, created, view[HEAD_AT - 4 :]):
        return None
    at = HEAD_AT + length
    head = _HEAD.decode(view[HEAD_AT:at])
    chunks = []
    for size in head.lengths:
        chunks.append(view[at : at + size])
        at += size
    return CachedAnswer(
        content_type=head.content_type,
        chunks=chunks,
        tokens=head.tokens,
        created=int(created) / 1000,
        ttl_seconds=head.ttl_seconds,
    )


def _checksum(name: str, created: bytes, *rest: Chunk) -> bytes:
    known = hashlib.sha256(name.encode() + created)
    for part in rest:
        known.update(part)
    return known.digest()
