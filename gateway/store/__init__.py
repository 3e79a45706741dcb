"""Commands to the state and cache stores, and the embedded stores that we bring ourselves."""

from gateway.store.command import Bound, Script, StoreUnavailable
from gateway.store.embedded import GUARD_SECONDS, Embedded, StoreError, borrow
from gateway.store.probe import Probe
from gateway.store.store import TIMEOUT_SECONDS, Store

__all__ = [
    "GUARD_SECONDS",
    "TIMEOUT_SECONDS",
    "Bound",
    "Embedded",
    "Probe",
    "Script",
    "Store",
    "StoreError",
    "StoreUnavailable",
    "borrow",
]
