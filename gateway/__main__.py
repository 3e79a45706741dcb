"""How is it started, and how does the process end?  `python -m gateway` and `tokenhot-gateway` are the same."""

import os
import sys
from contextlib import suppress
from typing import NoReturn

from gateway import cli, streams


def main() -> NoReturn:
    """Run one command line."""
    streams.occupy()
    leave(cli.main())


def leave(status: int) -> NoReturn:
    """End without taking the interpreter down: a thread of pyqwest's that still looks at it would abort the process."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads any more, or it is full
            stream.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
