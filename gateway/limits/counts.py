"""Which events of the limits are counted?  An interface that the ledger implements."""

from typing import Protocol


class Counts(Protocol):
    """Counts what happens here."""

    def limited(self, client: str, limit: str) -> None:
        """A call was refused."""

    def lost(self, client: str, model: str, method: str) -> None:
        """A call ended with its worker."""

    def late(self) -> None:
        """A call was settled after it had been recorded as lost; nothing has changed."""

    def corrected(self, client: str, model: str, tokens: int) -> None:
        """A task has ended, and has cost so many tokens."""

    def dropped(self) -> None:
        """A usage record was dropped: the queue for the store was full, or it was too old."""
