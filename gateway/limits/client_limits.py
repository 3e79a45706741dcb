"""Under which Redis keys does a client's state live, and which of its calls are in flight in this worker?

All keys of a client share one hash tag, so that a script finds them on one node of a cluster.
"""

from dataclasses import dataclass, field
from typing import Self

import msgspec

from gateway.config import Client
from gateway.limits.headers import policy
from gateway.limits.quotas import Quotas
from gateway.store import Bound, Probe, Script

ADMIT = Script.read("gateway.limits", "admit", "state", "drain")
SETTLE = Script.read("gateway.limits", "settle", "state", "drain", "lease")
CORRECT = Script.read("gateway.limits", "correct", "state", "drain", "lease")
RENEW_AND_REAP = Script.read("gateway.limits", "renew_and_reap", "state", "drain", "lease", "reap")
NAMES = Script.read("gateway.limits", "names")
FORMAT = 2  # of what is stored, as in state.lua; formats that cannot be read by one another have keys of their own
CLIENTS = "gw:clients"  # the names of all; on a cluster it lives alone
KEYS = ("limits", "leases", "settled", "usage", "tasks")  # in the order of the scripts
PROBE = Probe(
    Script.read("gateway.limits", "probe", "gateway.store:probe"),
    [f"gw:{{}}:probe-{name}" for name in (*KEYS, "sweep")],
)


def key(client: str, name: str) -> str:
    """Where one part of a client's state lives; the records of all versions in one place."""
    return f"gw:{{{client}}}:{name}" if name == "usage" else f"gw:{{{client}}}:{name}:{FORMAT}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimits:
    """One client: its quotas, its scripts bound to its keys, and its calls in this worker."""

    client: Client
    quotas: Quotas
    policy: bytes
    admit: Bound
    settle: Bound
    correct: Bound
    renew_and_reap: Bound
    live: set[str] = field(default_factory=set)  # ids of its calls in flight in this worker

    @classmethod
    def of(cls, client: Client, lease_ms: int, live: set[str]) -> Self:
        """Bind the scripts to its keys and limits once."""
        quotas = Quotas.of(client)
        keys = [key(client.name, name) for name in KEYS]
        limits = msgspec.msgpack.encode((*quotas.columns(), lease_ms))
        scripts = ADMIT, SETTLE, CORRECT, RENEW_AND_REAP
        admit, settle, correct, renew_and_reap = (script.on(keys, limits) for script in scripts)
        return cls(
            client=client,
            quotas=quotas,
            policy=policy(quotas),
            admit=admit,
            settle=settle,
            correct=correct,
            renew_and_reap=renew_and_reap,
            live=live,
        )
