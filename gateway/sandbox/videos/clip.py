"""Which bytes is a task's video?  The packaged clip, what it is of, and padding if a size was asked for."""

from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from random import Random

from gateway.sandbox.videos.tasks import Task

_SLICE = 16 * 1024  # bytes of the clip that are sent at once
_BLOCK = 1_000_003  # bytes of noise, again and again; no round number, so that blocks in disorder are seen
_LARGEST = 2**32 - 1  # bytes of one box


def parts(task: Task, size: int | None) -> list[bytes]:
    """A valid MP4 in pieces: of the size that is asked for, if the clip fits into it.

    Padding is a `free` box at its end, which players skip.  `ValueError` when the size is absurd.
    """
    label = _free(f"{task.id} {task.model} {task.prompt[:300]}".encode())
    whole = [*_sliced(_clip()), label]
    padding = (size or 0) - sum(map(len, whole))
    if padding < 8:
        return whole
    if padding > _LARGEST:
        raise ValueError(f"A video has at most {_LARGEST} bytes")
    blocks, rest = divmod(padding - 8, _BLOCK)
    return [*whole, padding.to_bytes(4) + b"free", *[_noise()] * blocks, _noise()[:rest]]


def window(pieces: Sequence[bytes], start: int, stop: int) -> Iterator[bytes]:
    """The bytes from `start` up to `stop`, in pieces."""
    at = 0
    for piece in pieces:
        if cut := piece[max(0, start - at) : max(0, stop - at)]:
            yield cut
        at += len(piece)


def _free(data: bytes) -> bytes:
    return (8 + len(data)).to_bytes(4) + b"free" + data


def _sliced(data: bytes) -> list[bytes]:
    return [data[at : at + _SLICE] for at in range(0, len(data), _SLICE)]


@cache
def _clip() -> bytes:
    return (files("gateway.sandbox.videos") / "clip.mp4").read_bytes()


@cache
def _noise() -> bytes:
    return Random("padding").randbytes(_BLOCK)
