"""Which dialects are spoken?  A new one is a package beside Gemini's and a line in `ALL`."""

from typing import Final

from gateway.call import Dialect
from gateway.dialects.anthropic import ANTHROPIC
from gateway.dialects.gemini import GEMINI
from gateway.dialects.openai import AUDIO, CHAT, IMAGES, RESPONSES
from gateway.dialects.router import Router
from gateway.dialects.video_tasks import GENERATIONS, VIDEOS

__all__ = ["ALL", "Router"]

ALL: Final[tuple[Dialect, ...]] = (GEMINI, CHAT, RESPONSES, IMAGES, AUDIO, ANTHROPIC, GENERATIONS, VIDEOS)
