"""How does an answer fall into events, and how do events become bytes again?"""

from gateway.framing.framing import JSON, SSE, AsItCame, Events, Undecided, Whole, is_json, is_sse
from gateway.framing.legible import Legible, TooManyObjects, decoded, is_whole, legible, lenient, whole_characters
from gateway.framing.sse import is_comment

__all__ = [
    "JSON",
    "SSE",
    "AsItCame",
    "Events",
    "Legible",
    "TooManyObjects",
    "Undecided",
    "Whole",
    "decoded",
    "is_comment",
    "is_json",
    "is_sse",
    "is_whole",
    "legible",
    "lenient",
    "whole_characters",
]
