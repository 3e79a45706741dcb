"""What can an operator do on the command line?  One module per command, each with a `run` that returns 0 or 1."""

import sys
from contextlib import suppress
from typing import TextIO

__all__ = ["CommandError", "WrongUseError", "remark"]


class CommandError(Exception):
    """The command failed; the text is one line: what is wrong; what to do."""

    exit_status = 1


class WrongUseError(CommandError):
    """The command was used in a way that cannot work."""

    exit_status = 2


def remark(text: str, stream: TextIO | None = None) -> None:
    """Write a remark beside the output; that nobody can read it is no error."""
    with suppress(OSError):
        (stream or sys.stderr).write(text)
        (stream or sys.stderr).flush()
