"""How are files read, watched for changes, and replaced atomically, while others read them?

A `Watched` file is parsed once at start, where a failure is final, and again after each change, where a failure
leaves the last good value in force.  A half-written or empty file is a failure like any other.  `replace` writes so
that no reader ever sees such a half.  Containers must mount the folder: a file replaced under a bind mount is never
seen, and cannot be replaced from within.
"""

import codecs
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Literal, TypeVar

T = TypeVar("T")

BOM = "\ufeff"  # as text; its name is byte order mark
OTHER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # those of UTF-32 begin with or hold one of them
SETTLE_NS = 50_000_000  # a file that changed this recently may still be being written


class Watched(Generic[T]):
    """The last good value of a file."""

    def __init__(self, path: Path, parse: Callable[[bytes], T]) -> None:
        """Read the file now.  Raises `OSError` or `ValueError`."""
        self.path = path
        self.problem: str | None = None  # why the newest content did not load
        self._parse = parse
        self._seen = self._stamp()
        self.value = parse(path.read_bytes())

    def refresh(self) -> Literal["same", "changed", "failed"]:
        """Check whether the file has changed, and take the new value if it loads.

        A change is taken 50 ms after the last write at the earliest.  A failure is returned once, and a file that could
        not be read is tried again at every call.
        """
        stamp = self._stamp()
        if stamp == self._seen or (stamp and abs(time.time_ns() - stamp[-1]) < SETTLE_NS):
            return "same"
        try:
            content = self.path.read_bytes()
        except OSError as error:
            known, self.problem = self.problem, str(error)
            self._seen = None  # back with its old stamp, it is read again
            return "same" if known == self.problem else "failed"
        self._seen = stamp
        try:
            self.value = self._parse(content)
        except ValueError as error:
            self.problem = str(error)
            return "failed"
        self.problem = None
        return "changed"

    def _stamp(self) -> tuple[int, ...] | None:
        """What differs after any change; last, when the change was.  The kernel alone sets ctime."""
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@dataclass(frozen=True, slots=True)
class Fixed(Generic[T]):
    """A value that never changes, with the interface of a watched one."""

    value: T
    path = Path()
    problem = None

    def refresh(self) -> Literal["same"]:
        return "same"


def decoded(content: bytes) -> str:
    """The text of a file, without the byte order mark that editors on Windows put first.

    Raises `ValueError` that says what it is instead, and never what is in it.
    """
    head, even = content[:2], len(content) % 2 == 0
    if head in OTHER_MARKS or (0 in head and head.strip(b"\0") and even):
        raise ValueError("it is UTF-16 or UTF-32, as some editors write; save it as UTF-8")
    if 0 in content:
        raise ValueError(
            f"it holds zero bytes, the first in line {_line(content, content.index(0))}: was it cut short?"
        )
    try:
        return content.decode().removeprefix(BOM)
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8, from line {_line(content, error.start)} on; save it as UTF-8") from None


def _line(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def replace(path: Path, change: Callable[[bytes | None], bytes], last: Callable[[], object] = str) -> None:
    """Put what `change` makes of a file's content (None: no file) in its place.

    Readers see the old content or the new, also after a crash; two edits at once happen one after the other.  Links
    are followed, mode and owner kept; a new file is its owner's alone.  `last` is called when the new content is on
    disk and nobody reads it yet.  Raises `OSError`, or what `change` or `last` raise, and then the file is as it was.
    """
    target = Path(os.path.realpath(path))
    with _only_draft(target) as (draft, descriptor):
        try:
            content, status = target.read_bytes(), target.stat()
        except FileNotFoundError:
            content, status = None, None
        new = change(content)
        with open(descriptor, "wb", closefd=False) as file:
            file.truncate()
            file.write(new)
        if status:
            with suppress(PermissionError):  # only root may give a file away
                os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode) if status else 0o600)
        os.fsync(descriptor)
        last()
        draft.replace(target)
    _sync_folder(target.parent)


@contextmanager
def _only_draft(target: Path) -> Iterator[tuple[Path, int]]:
    """Hold the one draft of a file: it is what will be renamed into place, and by its lock it keeps others out.

    A lock is on an inode, so whoever gets it must see that the draft of that name is still the one it locked.  A
    draft left by a killed process is not locked and is simply taken over.
    """
    draft = target.with_name(f".{target.name}.draft")
    while True:
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if not _is_at(descriptor, draft):
                continue
            try:
                yield draft, descriptor
            finally:
                if _is_at(descriptor, draft):  # not renamed: the change failed
                    draft.unlink()
            return
        finally:
            os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a crash of the machine."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
