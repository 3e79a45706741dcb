"""What if a standard stream is closed?  Its number stays taken, so that nothing else ever gets what is printed.

A socket or a file that got number 1 or 2 would be sent log lines.  A closed stdout refuses what is written to it, as a
full one does, since a key that is printed there is seen by nobody; a closed stderr swallows it.
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
            stream.reconfigure(errors="backslashreplace")  # names of files may be no text


def leave(status: int) -> NoReturn:
    """End without taking the interpreter down: a thread of pyqwest's that still looks at it would abort the process."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads any more, or it is full
            stream.flush()
    os._exit(status)
