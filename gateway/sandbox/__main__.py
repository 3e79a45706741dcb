"""How does a supervisor start the stand-in?  `python -m gateway.sandbox LISTENER LIFELINE READY`: three descriptors.

One byte on READY says that it serves; end of file on LIFELINE stops it.  Its key is in SANDBOX_KEY.
"""

import os
import signal
import sys
import threading

from gateway.sandbox.app import run


def end_with(lifeline: int) -> None:
    """Wait for the end of the supervisor, then exit."""
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def main(listener: int, lifeline: int, ready: int) -> None:
    """Serve until stopped."""
    threading.Thread(target=end_with, args=(lifeline,), daemon=True).start()
    os.write(ready, b"1")
    run(os.environ["SANDBOX_KEY"], fd=listener)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
