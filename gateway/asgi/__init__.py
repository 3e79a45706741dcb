"""What passes between callers' connections and a call: heads, bodies, answers, probes."""

from gateway.asgi import probes
from gateway.asgi.response import SLICE_BYTES, RawHeader, Receive, Reply, Request, Scope, Send, read_body

__all__ = [
    "SLICE_BYTES",
    "RawHeader",
    "Receive",
    "Reply",
    "Request",
    "Scope",
    "Send",
    "probes",
    "read_body",
]
