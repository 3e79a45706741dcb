"""Between callers' connections and a call: request heads, bodies, answers, probes."""

from gateway.asgi import probes
from gateway.asgi.body import read_body
from gateway.asgi.request import Receive, Request, Scope, Send
from gateway.asgi.response import SLICE_BYTES, RawHeader, Reply

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
