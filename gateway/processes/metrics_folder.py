"""In which folder do the workers of one gateway write their metrics, and who removes it when a parent is killed?

It is the PROMETHEUS_MULTIPROC_DIR of prometheus_client.  A parent holds a lock on its folder: an unlocked one belongs
to a parent that is dead, and the next parent removes it.  Cleaners of temporary folders skip a folder that is locked.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

PREFIX = "tokenhot-gateway-metrics-locked-"  # without `locked`: perhaps of a running version that takes no lock
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus_client
MEMORY = Path("/dev/shm")  # noqa: S108 - used where no temporary folder is writable


@contextlib.contextmanager
def folder() -> Generator[Path]:
    """Make a folder and set its variable for all we start; where none can be made the workers report it themselves."""
    with contextlib.ExitStack() as stack:
        found = next((path for place in _places() if (path := stack.enter_context(_locked(place)))), None)
        path = found or MEMORY / f"{PREFIX}nowhere"
        os.environ[VARIABLE] = str(path)
        try:
            yield path
        finally:
            del os.environ[VARIABLE]


def _places() -> Iterator[Path]:
    with contextlib.suppress(OSError):
        yield Path(tempfile.gettempdir())
    yield MEMORY


@contextlib.contextmanager
def _locked(place: Path) -> Generator[Path | None]:
    """A new folder, ours for as long as the context is open; None where none can be made."""
    _remove_abandoned(place)
    while True:
        try:
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        except OSError:
            yield None
            return
        with contextlib.suppress(OSError):
            held = _lock(path)
            if held is not None:
                break  # else another parent that starts at this moment took it for an abandoned one
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(held)


def _remove_abandoned(place: Path) -> None:
    for path in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if (held := _lock(path)) is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(held)


def _lock(path: Path) -> int | None:
    """Lock a folder of ours that is still there; None: another holds the lock, or has removed it.  Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid == os.getuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists():
                return descriptor
    except BlockingIOError:
        pass
    os.close(descriptor)
    return None
