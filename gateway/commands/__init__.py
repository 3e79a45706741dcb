"""What can an operator ask for on the command line?  One module a command, each with a `run` that returns 0 or 1."""

import sys
from contextlib import suppress
from typing import TextIO

__all__ = ["CommandError", "WrongUseError", "remark"]


class CommandError(Exception):
    """The thing asked for failed; the text is one line: what is wrong; what to do."""

    exit_status = 1


class WrongUseError(CommandError):
    """The command was used in a way that cannot work."""

    exit_status = 2


def remark(text: str, stream: TextIO | None = None) -> None:
    """Say something beside what was asked for, where somebody listens: what was done is done without it."""
    with suppress(OSError):
        (stream or sys.stderr).write(text)
        (stream or sys.stderr).flush()
