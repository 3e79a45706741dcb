"""In which folder do the workers of one gateway leave their numbers, and who removes it when a parent is killed?

A parent holds a lock on its folder, so one that nobody holds is of a parent that is dead, and the next one removes it.
Cleaners of temporary folders leave a folder alone that is locked.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

PREFIX = "tokenhot-gateway-metrics-locked-"  # without the word they may be of a running version that locks none
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"  # where prometheus_client looks
MEMORY = Path("/dev/shm")  # noqa: S108 - where no temporary folder takes anything


@contextlib.contextmanager
def folder() -> Generator[Path]:
    """Make a folder and name it to all we start; where none can be made the workers say so themselves."""
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
    _remove_the_dead(place)
    while True:
        try:
            path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
        except OSError:
            yield None
            return
        with contextlib.suppress(OSError):
            held = _lock(path)
            if held is not None:
                break  # else another that starts at this moment has taken it for a dead one's
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(held)


def _remove_the_dead(place: Path) -> None:
    for path in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if (held := _lock(path)) is not None:
                shutil.rmtree(path, ignore_errors=True)
                os.close(held)


def _lock(path: Path) -> int | None:
    """Hold a folder of ours that is still there; None: another holds it, or has removed it.  Raises `OSError`."""
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
