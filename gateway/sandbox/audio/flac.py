"""How is a FLAC file written without an encoder?  Its samples stand in it verbatim, which every decoder reads."""

from array import array
from functools import cache
from hashlib import md5

from gateway.sandbox.speech import RATE

_BLOCK = 4096  # samples of a frame
_SUM_OF_HEAD, _SUM_OF_FRAME = (8, 0x07), (16, 0x8005)  # bits and polynomial


def written(pcm: bytes) -> bytes:
    """A FLAC file of little-endian 16-bit mono samples at 24 kHz."""
    samples = len(pcm) // 2
    swapped = array("h", pcm[: 2 * samples])
    swapped.byteswap()
    big_endian = swapped.tobytes()
    frames = (
        _frame(number, big_endian[at : at + 2 * _BLOCK]) for number, at in enumerate(range(0, 2 * samples, 2 * _BLOCK))
    )
    return b"".join([b"fLaC\x80\x00\x00\x22", _stream_info(pcm[: 2 * samples]), *frames])


def measured(data: bytes) -> tuple[float, int]:
    """Seconds and samples a second of a FLAC file; zeros where its head is broken."""
    facts = int.from_bytes(data[18:26])  # 20 bits rate, 3 channels, 5 bits a sample, 36 samples
    rate, samples = facts >> 44, facts & (1 << 36) - 1
    return (samples / rate, rate) if rate and len(data) >= 26 else (0.0, 0)


def _stream_info(pcm: bytes) -> bytes:
    sizes = _BLOCK.to_bytes(2) * 2 + bytes(6)  # the smallest and largest frame are not said
    facts = RATE << 44 | (1 - 1) << 41 | (16 - 1) << 36 | len(pcm) // 2
    return sizes + facts.to_bytes(8) + md5(pcm, usedforsecurity=False).digest()


def _frame(number: int, samples: bytes) -> bytes:
    """One frame: a fixed size, 24 kHz, mono, 16 bits, its number, its length, the samples as they are, two sums."""
    head = b"\xff\xf8\x77\x08" + chr(number).encode(errors="surrogatepass") + (len(samples) // 2 - 1).to_bytes(2)
    body = head + _sum(head, *_SUM_OF_HEAD) + b"\x02" + samples
    return body + _sum(body, *_SUM_OF_FRAME)


def _sum(data: bytes, bits: int, polynomial: int) -> bytes:
    """A cyclic redundancy check that starts at 0 and takes the highest bit first."""
    table, mask, shift, value = _table(bits, polynomial), (1 << bits) - 1, bits - 8, 0
    for byte in data:
        value = (value << 8 & mask) ^ table[value >> shift ^ byte]
    return value.to_bytes(bits // 8)


@cache
def _table(bits: int, polynomial: int) -> list[int]:
    """What one byte more makes of a sum."""
    table = []
    for byte in range(256):
        value = byte << bits - 8
        for _ in range(8):
            value = (value << 1 ^ (polynomial if value >> bits - 1 else 0)) & (1 << bits) - 1
        table.append(value)
    return table
