"""Does a folder belong to the gateway alone, and who holds a lock in it?

Files in a folder where others may write may have been placed by them: no symbolic link is followed, and no file of
theirs is opened for writing.  All functions raise `OSError` with one line that says what to do.
"""

import contextlib
import fcntl
import os
import stat
from pathlib import Path

OTHERS_WRITE = 0o022


def take(folder: Path) -> None:
    """Make a folder, or check that nobody else may write into it; others may read it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise OSError(f"it belongs to user {status.st_uid}; give the gateway a folder of its own")
    if status.st_mode & OTHERS_WRITE:
        raise OSError(f"others may write there; give the gateway a folder of its own, or `chmod go-w {folder}`")


def make(folder: Path) -> None:
    """Make a folder that nobody else may even enter (0700), or check that it is one."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise OSError(f"{folder} is not a private folder of ours: make it 0700 and owned by the gateway's user")


def lock(path: Path, how: int = fcntl.LOCK_EX) -> int | None:
    """Return a descriptor that holds the lock on `path` until it and its copies are closed; None: another holds it."""
    descriptor = _opened(path)
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _opened(path: Path) -> int:
    """Open a lock's file, which is made if it is missing."""
    if path.is_symlink():
        raise OSError(f"{path} is a link; remove it")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    status = os.fstat(descriptor)
    ours = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid()
    if not ours or status.st_nlink > 1 or status.st_mode & OTHERS_WRITE:
        os.close(descriptor)
        raise OSError(f"{path} is not a plain file of ours alone; remove it")
    return descriptor
