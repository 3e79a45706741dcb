"""What is the usage of a call?  Tokens by modality, as Google's `usageMetadata` reports them."""

from collections.abc import Mapping
from typing import Any

INPUT_MEDIA = 258  # tokens of a picture sent, as Gemini counts one tile; other media are given the same
PICTURE = 1290  # tokens of a picture made, Gemini's figure at 1K
_PER_TOKEN = {"TEXT": 4, "AUDIO": 960}  # characters; samples at 24 kHz, that is 25 tokens a second


def tokens(modality: str, amount: int) -> int:
    """How many tokens an amount of characters, samples or, elsewhere, tokens is.  A rest counts as one."""
    return -(-amount // _PER_TOKEN.get(modality, 1))


def metadata(asked: Mapping[str, int], answered: Mapping[str, int]) -> dict[str, Any]:
    """Google's `usageMetadata` from tokens by modality ("TEXT", "IMAGE", ...)."""
    prompt, candidates = sum(asked.values()), sum(answered.values())
    return {
        "promptTokenCount": prompt,
        "candidatesTokenCount": candidates,
        "totalTokenCount": prompt + candidates,
        "promptTokensDetails": details(asked),
        "candidatesTokensDetails": details(answered),
    }


def details(counted: Mapping[str, int]) -> list[dict[str, Any]]:
    """Google's list of tokens by modality."""
    return [{"modality": modality, "tokenCount": count} for modality, count in counted.items()]
