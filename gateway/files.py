"""How are files followed that change while we run?

A `Watched` file is parsed once at start, where a failure is final, and again after each change, where a failure
leaves the last good value in force.  A half-written or empty file is a failure like any other.  Containers must
mount the folder: a file replaced under a bind mount is never seen.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, Literal, TypeVar

T = TypeVar("T")


class Watched(Generic[T]):
    """The last good value of a file."""

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        """Read the file now.  Raises `OSError` or `ValueError`."""
        self.path = path
        self.problem: str | None = None  # why the newest content was not taken
        self._parse = parse
        self._seen = self._stamp()
        self.value = parse(path.read_bytes())

    def refresh(self) -> Literal["same", "changed", "failed"]:
        """Look whether the file has changed, and take the new value if it is a good one."""
        stamp = self._stamp()
        if stamp == self._seen:
            return "same"
        self._seen = stamp
        try:
            self.value = self._parse(self.path.read_bytes())
        except (OSError, ValueError) as error:
            self.problem = str(error)
            return "failed"
        self.problem = None
        return "changed"

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size
