"""Which models does the sandbox play, and what can each of them do?"""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

MODELS = "/v1beta/models"
METHODS: Mapping[str, tuple[str, ...]] = {
    "text": ("generateContent", "streamGenerateContent", "countTokens"),
    "image": ("generateContent", "streamGenerateContent", "countTokens"),
    "speech": ("generateContent", "streamGenerateContent", "countTokens"),
    "embedding": ("embedContent", "batchEmbedContents", "countTokens"),
}


def load() -> dict[str, str]:
    """Every Gemini model of the packaged catalogue and its kind, a key of `METHODS`."""
    models = tomllib.loads((files("gateway") / "config" / "models.toml").read_text())["models"]
    return {name: facts["kind"] for name, facts in models.items() if name.startswith("gemini-")}


def entry(model: str, kind: str) -> dict[str, Any]:
    """One model in Google's shape."""
    return {
        "name": f"models/{model}",
        "version": "001",
        "displayName": model.replace("-", " ").title(),
        "description": f"The sandbox's {kind} model. It answers at once, costs nothing and knows nothing.",
        "inputTokenLimit": 1_048_576,
        "outputTokenLimit": 65_536,
        "supportedGenerationMethods": METHODS[kind],
    }


def page(models: Mapping[str, str], size: str, token: str) -> dict[str, Any]:
    """One page of the list in Google's shape.  `ValueError` when `pageSize` or `pageToken` is not one of ours."""
    first, count = int(token or 0), min(int(size or 50), 1000)
    if first < 0 or count < 1:
        raise ValueError
    names = sorted(models)
    listed: dict[str, Any] = {"models": [entry(name, models[name]) for name in names[first : first + count]]}
    if first + count < len(names):
        listed["nextPageToken"] = str(first + count)
    return listed
