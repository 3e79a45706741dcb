"""How is the upstream asked?  One place adds the key, maps every failure, and decides what is tried again."""

from gateway.upstream.answer import Answer, read
from gateway.upstream.client import Attempts, NobodysAttempts, Upstream
from gateway.upstream.seam import HttpxTransport, Outgoing, Transport
from gateway.upstream.transport import PyqwestTransport
from gateway.upstream.trial import Trial, UpstreamKey
from gateway.upstream.trouble import Trouble

__all__ = [
    "Answer",
    "Attempts",
    "HttpxTransport",
    "NobodysAttempts",
    "Outgoing",
    "PyqwestTransport",
    "Transport",
    "Trial",
    "Trouble",
    "Upstream",
    "UpstreamKey",
    "read",
]
