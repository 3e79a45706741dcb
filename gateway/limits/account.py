"""Under which keys does a client's state live, and which of its calls are this worker's?

All keys of a client have one hash tag, so that a script finds them on one server of a cluster.
"""

from dataclasses import dataclass, field
from typing import Self

from gateway.clients import Client
from gateway.limits.allowed import Allowed
from gateway.limits.headers import policy

KEYS = ("limits", "leases", "calls", "settled", "usage")  # in the order of the scripts


def key(client: str, name: str) -> str:
    """Where one part of a client's state lives."""
    return f"gw:{{{client}}}:{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One client, as this worker knows it."""

    client: Client
    allowed: Allowed
    keys: tuple[str, ...]
    policy: bytes
    live: set[str] = field(default_factory=set)  # its calls in this worker

    @classmethod
    def of(cls, client: Client, live: set[str]) -> Self:
        keys = tuple(key(client.name, name) for name in KEYS)
        allowed = Allowed.to(client)
        return cls(client=client, allowed=allowed, keys=keys, policy=policy(allowed), live=live)
