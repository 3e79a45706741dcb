"""How is it started?  `python -m gateway` and `tokenhot-gateway` are the same."""

from typing import NoReturn

from gateway import cli
from gateway.processes import streams


def main() -> NoReturn:
    """Run one command line."""
    streams.occupy()
    streams.leave(cli.main())


if __name__ == "__main__":
    main()
