"""Who stops the embedded stores of a gateway that was killed?  A watchdog process, which sleeps while they are used.

The gateway starts it as `python -IS guardian.py DATA_FOLDER SECONDS`, and waits until it is on duty; one is enough.
Whoever uses the stores holds a shared lock, which the kernel releases with its last process: parents and commands
that on `users`, workers that on `workers`, since these finish their calls when their parent is gone.  When nobody has
held either for so many seconds, the servers are asked to save and shut down.  Nobody can begin to use them meanwhile.
"""

import contextlib
import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SERVERS = ("state", "cache")
POLL_SECONDS = 0.1
END_SECONDS = 10.0


def main(folder: Path, seconds: float) -> None:
    """Go on duty, unless another is, and stay until no server runs."""
    duty = held(folder / "guardian")
    if duty is None or os.fork():
        return  # the gateway waits for this process; the one on duty is nobody's child
    servers = [folder / name for name in SERVERS]
    while True:
        with (folder / "users").open() as users:
            fcntl.flock(users, fcntl.LOCK_EX)  # sleeps
        with unused(folder, seconds) as left_over:
            for server in servers if left_over else ():
                end(server)
        if not run(servers):
            return


@contextlib.contextmanager
def unused(folder: Path, seconds: float) -> Iterator[bool]:
    """Whether the stores were unused for so long; nobody can use them until the context ends."""
    began = time.monotonic()
    while run([folder / name for name in SERVERS]):
        with contextlib.ExitStack() as stack:
            if (users := held(folder / "users")) is None:
                break
            stack.callback(os.close, users)
            if (workers := held(folder / "workers")) is None:
                began = time.monotonic()
            else:
                stack.callback(os.close, workers)
                if time.monotonic() - began >= seconds:
                    yield True
                    return
        time.sleep(POLL_SECONDS)
    yield False


def run(servers: list[Path]) -> bool:
    """Whether any of them is alive."""
    return any(held_by_another(server / "lock") for server in servers)


def end(server: Path) -> None:
    """Have a server save and shut down: by its socket, else by SIGTERM."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        connection.connect((server / "socket").read_bytes())
        connection.sendall(b"SHUTDOWN\r\n")
        connection.recv(100)
    deadline = time.monotonic() + END_SECONDS
    while held_by_another(server / "lock") and time.monotonic() < deadline:
        if (pid := process_of(server)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        time.sleep(POLL_SECONDS)


def process_of(server: Path) -> int | None:
    """The process id in the server's own pid file, if that process holds the server's lock; else None."""
    with contextlib.suppress(OSError, ValueError):
        pid, lock = int((server / "pid").read_text()), (server / "lock").stat()
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.path.samestat(descriptor.stat(), lock):
                    return pid
    return None


def held(path: Path) -> int | None:
    """A descriptor that holds the lock on a file, for us alone; None: somebody else has it."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
        else:
            return descriptor
    return None


def held_by_another(path: Path) -> bool:
    """Whether somebody else has the lock on a file."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
