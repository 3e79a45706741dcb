"""What is said in one answer?  A plain value that each dialect writes in its own way, and that a fault may change."""

from dataclasses import dataclass

from gateway.sandbox.asked import Asked
from gateway.sandbox.replies import Reply
from gateway.sandbox.tokens import Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One answer, before it is written."""

    asked: Asked
    model: str  # as the answer names it
    replies: tuple[Reply, ...]
    tokens: Tokens | None  # as reported; None: not at all
    nonce: str
    created: int  # seconds since 1970
