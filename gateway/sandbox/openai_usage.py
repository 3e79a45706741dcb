"""How does new-api report usage on OpenAI's routes?  Fields of another family stand beside and hold 0."""

from typing import Any

from gateway.sandbox.tokens import Tokens


def chat_usage(tokens: Tokens) -> dict[str, Any]:
    """`usage` of chat completions and completions."""
    return {
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.reported,
        "total_tokens": tokens.total,
        "prompt_tokens_details": {
            "cached_tokens": tokens.cached,
            "text_tokens": tokens.prompt - tokens.sounds - tokens.pictures,
            "audio_tokens": tokens.sounds,
            "image_tokens": tokens.pictures,
        },
        "completion_tokens_details": {
            "text_tokens": tokens.completion - tokens.thoughts - tokens.spoken,
            "audio_tokens": tokens.spoken,
            "reasoning_tokens": tokens.thoughts,
        },
        "input_tokens": 0,
        "output_tokens": 0,
        "input_tokens_details": None,
        "claude_cache_creation_5_m_tokens": 0,
        "claude_cache_creation_1_h_tokens": 0,
    }


def responses_usage(tokens: Tokens) -> dict[str, Any]:
    """`usage` of responses."""
    return {
        "input_tokens": tokens.prompt,
        "input_tokens_details": {"cached_tokens": tokens.cached},
        "output_tokens": tokens.reported,
        "output_tokens_details": {"reasoning_tokens": tokens.thoughts},
        "total_tokens": tokens.total,
    }
