"""What is known of a model by its name: what it makes, and how large is a typical answer?

The catalogue is `models.toml` in the package, which says where its figures come from.  A model that is not in it is
judged by its family, else by `[default]`, and works all the same.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from typing import Literal, Self

CACHED_NAMES = 1024  # names come from callers; nearly all calls name a few


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The planning figures of one model, or of a family."""

    kind: Literal["text", "image", "speech", "embedding", "transcription", "video"]
    price: Literal["tokens", "call", "second", "unknown"] = "unknown"
    output_tokens: int = 0  # of one typical answer, without its picture
    picture_in: int = 1000  # tokens of one picture in a request
    picture_out: int = 0  # tokens of one picture in an answer
    max_answers: int = 8  # of one call, however many it asks for
    may_picture: bool = False  # whether an answer may be a picture without being asked for one
    seconds: int = 0  # of a video that does not say how long it shall be
    tokens_per_second: int = 0  # of a video

    @property
    def answer_tokens(self) -> int:
        """Of one typical answer with all that is in it."""
        return self.output_tokens + self.picture_out + self.seconds * self.tokens_per_second

    @property
    def makes_pictures(self) -> bool:
        """Whether an answer may be a picture without being asked for one."""
        return self.may_picture or self.kind == "image"


class Catalogue:
    """The models known by name or family; `find` gives the figures of any name."""

    def __init__(self, default: Model, models: Mapping[str, Model], families: Mapping[str, Model]) -> None:
        """`families` are globs of lower-case names; the first that matches counts."""
        self.models, self.families, self._default = models, families, default
        self.find: Callable[[str], Model] = lru_cache(maxsize=CACHED_NAMES)(self._find)

    @classmethod
    def load(cls) -> Self:
        """Read the packaged file."""
        document = tomllib.loads(resources.files("gateway.config").joinpath("models.toml").read_text())
        tables = ({name: Model(**facts) for name, facts in document[part].items()} for part in ("models", "families"))
        return cls(Model(**document["default"]), *tables)

    def _find(self, name: str) -> Model:
        if (model := self.models.get(name)) is not None:
            return model
        lowered = name.lower()
        return next((model for glob, model in self.families.items() if fnmatchcase(lowered, glob)), self._default)
