"""How is the upstream asked?  One place adds the key, maps every failure, and decides what is tried again."""

from gateway.upstream.answer import Answer
from gateway.upstream.client import Upstream
from gateway.upstream.transport import PyqwestTransport
from gateway.upstream.trial import Trial, UpstreamKey

__all__ = ["Answer", "PyqwestTransport", "Trial", "Upstream", "UpstreamKey"]
