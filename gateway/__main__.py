"""How is it started?  `python -m gateway` and `tokenhot-gateway` are the same."""

import sys

from gateway.cli import main

if __name__ == "__main__":
    sys.exit(main())
