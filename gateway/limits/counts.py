"""Who counts what the limits do?"""

from typing import Protocol


class Counts(Protocol):
    """Who counts what happens here."""

    def limited(self, client: str, limit: str) -> None:
        """A call was refused."""

    def lost(self, client: str, model: str, method: str) -> None:
        """A call ended with its worker."""

    def late(self) -> None:
        """A call was settled after it had been recorded as lost; nothing has changed."""

    def dropped(self) -> None:
        """A usage record could not be kept until the store takes it."""
