"""How does an answer fall into events, and how do events become bytes again?"""

from gateway.framing.framing import FORM, JSON, SSE, AsItCame, Events, Undecided, Whole, is_form, is_json, is_sse
from gateway.framing.legible import Legible, TooManyObjects, decoded, is_whole, legible, lenient, whole_characters
from gateway.framing.opaque import ENDED, Opaque, is_page
from gateway.framing.sse import is_comment

__all__ = [
    "ENDED",
    "FORM",
    "JSON",
    "SSE",
    "AsItCame",
    "Events",
    "Legible",
    "Opaque",
    "TooManyObjects",
    "Undecided",
    "Whole",
    "decoded",
    "is_comment",
    "is_form",
    "is_json",
    "is_page",
    "is_sse",
    "is_whole",
    "legible",
    "lenient",
    "whole_characters",
]
