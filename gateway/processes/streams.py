"""What if stdin, stdout or stderr is closed?  Its file descriptor stays taken, by /dev/null.

Otherwise a socket or a file that got descriptor 1 or 2 would receive log lines.  A write to a closed stdout fails, as
to a full one, since nobody would see the key that is printed there; what is written to a closed stderr is discarded.
"""

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import NoReturn

ACCESS = (os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)  # of stdin, stdout and stderr where they are closed


def occupy() -> None:
    """Open what is closed of the three, for us and for our children; to be called before anything else is opened."""
    for number, access in enumerate(ACCESS):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, access), True)  # it takes the lowest number, which is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor, for good
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may not be valid text


def leave(status: int) -> NoReturn:
    """Exit without finalizing the interpreter: a thread of pyqwest's that still uses it would abort the process."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads any more, or it is full
            stream.flush()
    os._exit(status)
