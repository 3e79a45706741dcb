"""Which dialects are spoken?  A new one is a package beside Gemini's and a line in `ALL`."""

from typing import Final

from gateway.call import Dialect
from gateway.dialects.gemini import GEMINI
from gateway.dialects.model_lists import ANTHROPIC_LISTS, OPENAI_LISTS
from gateway.dialects.openai import CHAT, RESPONSES
from gateway.dialects.router import Router

__all__ = ["ALL", "Router"]

ALL: Final[tuple[Dialect, ...]] = (GEMINI, CHAT, RESPONSES, ANTHROPIC_LISTS, OPENAI_LISTS)
