"""How is a process started, waited for, and ended for certain?"""

import contextlib
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks import tree

START_SECONDS = 20.0
STOP_SECONDS = 20.0


class BenchError(Exception):
    """It cannot be measured; the text is one line."""


def free_port() -> int:
    """A port nobody listens on, of those that the kernel gives to nobody by itself."""
    while True:
        port = random.randrange(20000, 32000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def answers(port: int) -> bool:
    """Tell whether somebody listens."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


@contextlib.contextmanager
def process(
    *argv: str, ready: Callable[[], bool], env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[int]:
    """A process that is ready; the value is its pid.  Its whole tree is gone afterwards."""
    child = subprocess.Popen(
        [*tree.ADOPTING, *argv], env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C is for us: everything is ended in order
    )  # fmt: skip
    number = signal.SIGTERM  # half-started Python would answer Ctrl-C with a traceback
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if child.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"it did not start: {' '.join(argv)}")
            time.sleep(0.05)
        number = signal.SIGINT
        yield child.pid
    finally:
        end(child, number)


def end(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Tell it to leave and wait; whoever of its tree is still there then is killed."""
    everybody = tree.snapshot(child.pid) if child.poll() is None else {}
    child.send_signal(number)
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"it was killed, it did not end within {STOP_SECONDS:.0f} s: process {child.pid}", file=sys.stderr)
    finally:
        tree.kill(everybody)
        child.wait()
