"""How is OpenAI's API spoken, as the vendor serves it under /v1?

Two dialects, since their errors end a stream in two ways: `CHAT` has chat completions, completions and embeddings,
`RESPONSES` the API of that name.
"""

from gateway.dialects.openai.chat import CHAT
from gateway.dialects.openai.responses import RESPONSES

__all__ = ["CHAT", "RESPONSES"]
