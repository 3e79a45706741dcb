"""Which models are known by name, and how long is a typical answer of each?

The catalogue is `models.toml` in the package.  A model that is not in it works all the same, as `[default]`.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of the catalogue."""

    kind: str  # text, image, speech or embedding
    output_tokens: int  # of one typical answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """The models known by name."""

    default: Model
    models: Mapping[str, Model]

    @classmethod
    def load(cls) -> Self:
        """Read the packaged file."""
        document = tomllib.loads(resources.files("gateway.config").joinpath("models.toml").read_text())
        models = {name: Model(**facts) for name, facts in document["models"].items()}
        return cls(default=Model(**document["default"]), models=models)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self.models)

    def kind(self, model: str) -> str:
        return self.models.get(model, self.default).kind

    def may_picture(self, model: str) -> bool:
        """Whether an answer may be a picture without being asked for one: true of every unknown model."""
        return model not in self.models or self.models[model].kind == "image"

    def output_tokens(self, model: str) -> int:
        return self.models.get(model, self.default).output_tokens
