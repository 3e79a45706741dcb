"""How is an answer kept, and how is a damaged one, or another's, told from the right one?

    created   13 digits: milliseconds since 1970 (get_or_claim.lua reads them)
    checksum  32 bytes: SHA-256 of the name, of `created` and of all that follows the checksum
    length    4 bytes: of the head
    head      msgpack: content type, tokens, seconds it is kept for, the length of each chunk
    body      the chunks

The status is not kept: only a 200 ever is.  The name is hashed in, so a value found under another name is damaged.
Reading copies nothing: the chunks are views of what the store sent.
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
    tokens: int  # what it cost, and whoever gets it again saves
    created: float  # seconds since 1970
    ttl_seconds: int = 0  # it is kept for, once it is

    @property
    def age(self) -> int:
        """Whole seconds."""
        return max(0, int(time.time() - self.created))

    @property
    def size(self) -> int:
        return sum(map(len, self.chunks))


class Head(msgspec.Struct, array_like=True, gc=False):
    """What must be known beside the bytes."""

    content_type: str
    tokens: int
    ttl_seconds: int
    lengths: list[int]


_HEAD = msgspec.msgpack.Decoder(Head)


def written(name: str, kept: CachedAnswer, ttl_seconds: int) -> bytes:
    """The value to be stored under this name, for so long."""
    head = msgspec.msgpack.encode(Head(kept.content_type, kept.tokens, ttl_seconds, list(map(len, kept.chunks))))
    created, length = b"%013d" % round(kept.created * 1000), struct.pack(">I", len(head))
    checksum = _checksum(name, created, length, head, *kept.chunks)
    return b"".join((created, checksum, length, head, *kept.chunks))


def read(name: str, value: bytes) -> CachedAnswer | None:
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
