"""How is OpenAI's API spoken, as the vendor serves it under /v1?

Four dialects, each with what is asked and answered in one way: `CHAT` has chat completions, completions and embeddings,
`RESPONSES` the API of that name, `IMAGES` the pictures, and `AUDIO` speech and what is made of it.
"""

from gateway.dialects.openai.audio import AUDIO
from gateway.dialects.openai.chat import CHAT
from gateway.dialects.openai.images import IMAGES
from gateway.dialects.openai.responses import RESPONSES

__all__ = ["AUDIO", "CHAT", "IMAGES", "RESPONSES"]
