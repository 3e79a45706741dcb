"""What if an answer comes encoded although we asked for `identity`?  It is decoded under a cap of size and of ratio."""

import zlib

from gateway.errors import UpstreamBroke

MAX_RATIO = 100
RATIO_FREE_BYTES = 64 * 1024  # small answers may repeat themselves
PIECE_BYTES = 16 * 1024


class Decoder:
    """Undoes `gzip` or `deflate` chunk by chunk.  Raises `UpstreamBroke` on bombs, garbage and other codings."""

    def __init__(self, coding: str, limit: int) -> None:
        if coding not in {"gzip", "x-gzip", "deflate"}:
            raise UpstreamBroke("The upstream's answer came in a coding that was not asked for.")
        self._inflate = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32 if coding != "deflate" else zlib.MAX_WBITS)
        self._limit = limit
        self._in = self._out = 0

    def feed(self, chunk: bytes) -> bytes:
        """Decode piece by piece, so that a bomb is known by its first one."""
        pieces = (chunk[begin : begin + PIECE_BYTES] for begin in range(0, len(chunk), PIECE_BYTES))
        return b"".join([self._plain(piece) for piece in pieces])

    def _plain(self, chunk: bytes) -> bytes:
        self._in += len(chunk)
        room = min(self._limit, max(self._in * MAX_RATIO, RATIO_FREE_BYTES)) - self._out
        try:
            plain = self._inflate.decompress(chunk, room + 1)
        except zlib.error:
            raise UpstreamBroke("The upstream's answer could not be decoded.") from None
        self._out += len(plain)
        if len(plain) > room:
            raise UpstreamBroke("The upstream's answer is far larger than it says.")
        return plain

    def end(self) -> None:
        if not self._inflate.eof:
            raise UpstreamBroke
