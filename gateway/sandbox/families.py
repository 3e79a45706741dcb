"""Which models does the sandbox answer for on the routes that are not Gemini's?  Every name of a family it knows."""

import re
from typing import Any

_KINDS = (  # the first that fits counts; pictures and speech of Gemini have no channel here
    (re.compile(r"text-embedding-.*|gemini-embedding-.*"), "embedding"),
    (re.compile(r"gpt-image-.*|dall-e-[23]|(?:.*-)?seedream-.*|wan.*image.*|qwen-image.*|grok-.*imag.*"), "image"),
    (re.compile(r"tts-.*|gpt-.*-tts.*"), "speech"),
    (re.compile(r"whisper-.*|gpt-.*-transcribe.*"), "transcription"),
    (re.compile(r"(?:.*-)?seedance-.*|sora-.*|MiniMax-Hailuo-.*|happyhorse-.*|wan.*"), "video"),
    (re.compile(r"(?:gpt|qwen|gemini|grok)-.*(?:image|imagine|tts|transcribe|embedding).*"), None),
    (re.compile(r"(?:gpt-|chatgpt-|codex-|o[134](?:-|$)|claude-|grok-|deepseek|qwen|glm|gemini-).*"), "text"),
)
_THINKS = re.compile(r"o[134](?:-.*)?|.*(?:-thinking|-reasoner|-reasoning|-r1|-high)(?:-.*)?")
_ENDPOINTS = {"embedding": "embeddings", "image": "image-generation", "video": "openai-video"}

LISTED = (
    "MiniMax-Hailuo-2.3",
    "claude-opus-4-6",
    "claude-opus-4-6-cc",
    "claude-sonnet-4-5-20250929",
    "dall-e-3",
    "deepseek-reasoner",
    "doubao-seedance-2.0",
    "doubao-seedream-4-5-251128",
    "gemini-2.5-flash",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-tts",
    "gpt-5",
    "gpt-5.2",
    "gpt-5.4",
    "gpt-5.4-mini",
    "gpt-image-2",
    "grok-4.1",
    "happyhorse-1.0-t2v",
    "o3",
    "qwen-image-max",
    "sora-2",
    "text-embedding-3-large",
    "text-embedding-3-small",
    "tts-1",
    "wan2.6-image",
    "whisper-1",
)


def kind(model: str) -> str | None:
    """What a model makes or takes: text, embedding, image, speech, transcription, video; None: there is no channel."""
    return next((made for pattern, made in _KINDS if pattern.fullmatch(model)), None)


def thinks(model: str) -> bool:
    """Whether a model shows its reasoning without being asked to."""
    return _THINKS.fullmatch(model) is not None


def endpoints(model: str) -> list[str]:
    """Where a model can be asked, in new-api's words."""
    if (made := kind(model)) in _ENDPOINTS:
        return [_ENDPOINTS[made]]
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
