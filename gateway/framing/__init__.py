"""How does an answer fall into events, and how do events become bytes again?"""

from gateway.framing.framing import JSON, SSE, Events, Undecided, Whole, is_json
from gateway.framing.legible import Legible, TooManyObjects, decoded, is_whole, legible, lenient

__all__ = [
    "JSON",
    "SSE",
    "Events",
    "Legible",
    "TooManyObjects",
    "Undecided",
    "Whole",
    "decoded",
    "is_json",
    "is_whole",
    "legible",
    "lenient",
]
