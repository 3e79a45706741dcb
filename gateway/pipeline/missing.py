"""Which operations does the upstream not have?  It is asked, and what it says is remembered for a while.

Tools count the tokens of dozens of texts at once when they start, and estimate them themselves where they get a 404.
"""

import time
from collections.abc import Callable

from gateway.call import Operation
from gateway.errors import RouteUnknown, UpstreamRefused

REMEMBERED_SECONDS = 300.0
NOT_THERE = frozenset({404, 405, 501})


class MissingOperations:
    """What this worker has found out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, seconds: float = REMEMBERED_SECONDS) -> None:
        self._clock, self._seconds = clock, seconds
        self._until: dict[str, float] = {}  # by operation's name

    def check(self, operation: Operation) -> None:
        """Raises `RouteUnknown` for what was missing a short while ago."""
        if operation.optional and self._clock() < self._until.get(operation.name, 0.0):
            raise _missing(operation)

    def learn(self, operation: Operation, error: UpstreamRefused) -> None:
        """Raises `RouteUnknown` where the error says that the upstream has no such operation."""
        if operation.optional and error.fault.status in NOT_THERE and not _of_the_model(error):
            self._until[operation.name] = self._clock() + self._seconds
            raise _missing(operation) from None


def _of_the_model(error: UpstreamRefused) -> bool:
    """Whether a model is missing: Anthropic's own 404 says no more of it, and the relay's for a route is OpenAI's."""
    return error.fault.kind == "model" or (error.fault.status == 404 and error.fault.shape == "anthropic")


def _missing(operation: Operation) -> RouteUnknown:
    return RouteUnknown(f"The upstream does not have {operation.name}.")
