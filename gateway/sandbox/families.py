"""Which models does the sandbox answer for on the routes of OpenAI and Anthropic?  Every name of a family it knows."""

import re
from typing import Any

_NO_TEXT = re.compile(r"(?:gpt-|qwen-|gemini-|grok-).*(?:image|imagine|tts|transcribe|embedding).*")
_TEXT = re.compile(r"(?:gpt-|chatgpt-|codex-|o[134](?:-|$)|claude-|grok-|deepseek|qwen|glm|gemini-).*")
_EMBEDDING = re.compile(r"text-embedding-.*|gemini-embedding-.*")
_THINKS = re.compile(r"o[134](?:-.*)?|.*(?:-thinking|-reasoner|-reasoning|-r1|-high)(?:-.*)?")

LISTED = (
    "claude-opus-4-6",
    "claude-opus-4-6-cc",
    "claude-sonnet-4-5-20250929",
    "deepseek-reasoner",
    "gemini-2.5-flash",
    "gpt-5",
    "gpt-5.2",
    "gpt-5.4",
    "gpt-5.4-mini",
    "grok-4.1",
    "o3",
    "text-embedding-3-large",
    "text-embedding-3-small",
)


def kind(model: str) -> str | None:
    """What a model makes, "text" or "embedding"; None when there is no channel for it."""
    if _EMBEDDING.fullmatch(model):
        return "embedding"
    return "text" if _TEXT.fullmatch(model) and not _NO_TEXT.fullmatch(model) else None


def thinks(model: str) -> bool:
    """Whether a model shows its reasoning without being asked to."""
    return _THINKS.fullmatch(model) is not None


def endpoints(model: str) -> list[str]:
    """Where a model can be asked, in new-api's words."""
    if kind(model) == "embedding":
        return ["embeddings"]
    own = {"claude-": "anthropic", "gemini-": "gemini", "gpt-5": "openai-response"}
    return [word for name, word in own.items() if model.startswith(name)] + ["openai"]


def dimensions(model: str) -> int:
    """How long an embedding is when nobody says."""
    return 1536 if "small" in model or "ada" in model else 3072


def openai_entry(model: str) -> dict[str, Any]:
    """One model as new-api lists it."""
    return {
        "id": model,
        "object": "model",
        "created": 1626777600,
        "owned_by": "custom",
        "supported_endpoint_types": endpoints(model),
    }


def anthropic_entry(model: str) -> dict[str, Any]:
    """One model in Anthropic's shape."""
    return {"type": "model", "id": model, "display_name": model, "created_at": "2021-07-20T10:40:00Z"}
