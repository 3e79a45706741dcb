"""When does memory that bodies took go back to the system (malloc_trim)?

A picture passes through blocks of up to a megabyte.  glibc maps large blocks anew and unmaps them when they are freed,
and the page faults were half of what a picture cost.  So malloc keeps freed blocks while pictures come and go,
and they are trimmed once that pauses, or after a body so large that keeping its blocks would matter.
"""

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8  # of glibc's mallopt
OPTIONS = (
    (M_ARENA_MAX, 1),  # what one thread frees another may use: the transport's thread receives, the loop's frees
    (M_MMAP_THRESHOLD, 2**20),  # whole bodies are mapped: they grow in place there, and leave no holes
    (M_TOP_PAD, 16 * 2**20),
    (M_TRIM_THRESHOLD, 32 * 2**20),
)
LARGE_BYTES = 4 * 2**20
WORTH_BYTES = 16 * 2**20  # released since the last trim, before another is worth it
BUSY_BYTES = 4 * 2**20  # released between two ticks: bodies still come and go


class MallocTrimmer:
    """Trims the C library's heap of this process; without glibc it does nothing."""

    def __init__(self) -> None:
        self._seen = self._trimmed = 0

    def tick(self, released: int) -> None:
        """Trim, if the bytes of bodies `released` so far have become many and now grow slowly."""
        busy, self._seen = released - self._seen >= BUSY_BYTES, released
        if not busy and released - self._trimmed >= WORTH_BYTES:
            self._trimmed = released
            trim()


def trim() -> None:
    """Return free memory to the system now; a millisecond for ten megabytes."""
    with contextlib.suppress(AttributeError, OSError):  # another libc
        ctypes.CDLL(None).malloc_trim(0)


def keep_at_hand() -> None:
    """Let this process keep freed blocks; to be called before it has threads."""
    with contextlib.suppress(AttributeError, OSError):  # another libc
        for option, value in OPTIONS:
            ctypes.CDLL(None).mallopt(option, value)
