"""How does an answer fall into events, and how do events become bytes again?"""

from gateway.framing import sse
from gateway.framing.framing import JSON, Framing, framing_of, is_json

__all__ = ["JSON", "Framing", "framing_of", "is_json", "sse"]
