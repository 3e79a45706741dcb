"""Under which keys does a client's state live, and which of its calls are this worker's?

All keys of a client have one hash tag, so that a script finds them on one server of a cluster.
"""

from dataclasses import dataclass, field
from typing import Self

import msgspec

from gateway.config import Client
from gateway.limits.allowed import Allowed
from gateway.limits.headers import policy
from gateway.store import Bound, Probe, Script

ADMIT = Script.read("gateway.limits", "admit", "state", "drain")
SETTLE = Script.read("gateway.limits", "settle", "state", "drain", "lease")
VISIT = Script.read("gateway.limits", "visit", "state", "drain", "lease", "reap")
NAMES = Script.read("gateway.limits", "names")
CLIENTS = "gw:clients"  # the names of all; on a cluster it lives alone
KEYS = ("limits", "leases", "settled", "usage")  # in the order of the scripts
PROBE = Probe(
    Script.read("gateway.limits", "probe", "gateway.store:probe"),
    [f"gw:{{}}:probe-{name}" for name in (*KEYS, "sweep")],
)


def key(client: str, name: str) -> str:
    """Where one part of a client's state lives."""
    return f"gw:{{{client}}}:{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One client, as this worker knows it."""

    client: Client
    allowed: Allowed
    policy: bytes
    admit: Bound
    settle: Bound
    visit: Bound
    live: set[str] = field(default_factory=set)  # its calls in this worker

    @classmethod
    def of(cls, client: Client, lease_ms: int, live: set[str]) -> Self:
        """Its scripts know its keys and limits beforehand."""
        allowed = Allowed.to(client)
        keys = [key(client.name, name) for name in KEYS]
        limits = msgspec.msgpack.encode((*allowed, lease_ms))
        admit, settle, visit = (script.on(keys, limits) for script in (ADMIT, SETTLE, VISIT))
        return cls(
            client=client, allowed=allowed, policy=policy(allowed), admit=admit, settle=settle, visit=visit, live=live
        )
