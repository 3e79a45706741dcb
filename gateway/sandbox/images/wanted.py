"""What does a request for pictures ask for, whatever body it has?"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from gateway.sandbox.pictures import Size

Family = Literal["gpt", "dalle", "seedream", "wan", "qwen"]

_MOST = {"gpt": 10, "dalle": 10, "seedream": 15, "wan": 4, "qwen": 6}  # pictures of one call
_EDGES = {"1K": 1024, "2K": 2048, "4K": 4096}  # of the square
_PIXELS = re.compile(r"(\d{1,4})[x*](\d{1,4})")
_USUAL: dict[str, Size] = {"seedream": (2048, 2048), "wan": (1280, 1280)}  # where a request names no size
_SMALLEST, _LARGEST = 16, 4096  # pixels of a side


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One request, understood."""

    model: str
    prompt: str
    count: int = 1
    size: Size | None = None  # None: as the picture that was sent, else the usual one
    quality: str = "medium"  # low, medium, high
    as_url: bool
    output: str = "png"  # jpeg, webp
    stream: bool = False
    sketches: int = 0  # shown before each picture of a stream
    sources: Sequence[bytes | str] = ()  # pictures sent, or their addresses
    mask: bytes | str | None = None
    with_texts: bool = False  # a text before each picture
    edits: bool = False  # asked for on the route of edits

    @property
    def family(self) -> Family:
        return family(self.model)

    @property
    def usual_size(self) -> Size:
        return _USUAL.get(self.family, (1024, 1024))

    def checked(self) -> "Wanted":
        """The request, if it can be met.  `ValueError` when it asks for too much or sends too much."""
        if not self.prompt and not self.sources:
            raise ValueError("prompt is required")
        most = _MOST[self.family]
        if not 1 <= self.count <= most:
            raise ValueError(f"n must be 1 to {most}")
        if not 0 <= self.sketches <= 3:
            raise ValueError("partial_images must be 0 to 3")
        if len(self.sources) > 16:
            raise ValueError("At most 16 pictures can be edited at once")
        if self.edits and not self.sources:
            raise ValueError("image is required")
        return self


def family(model: str) -> Family:
    """Whose words a model's answers are written in."""
    if "seedream" in model:
        return "seedream"
    if model.startswith("wan"):
        return "wan"
    if model.startswith("qwen"):
        return "qwen"
    return "gpt" if model.startswith("gpt-") else "dalle"


def pixels(size: str | None) -> Size | None:
    """A size as it is written: "1024x768", "1024*768", "2K"; None for "auto".  `ValueError` when it is no size."""
    if not size or size == "auto":
        return None
    if edge := _EDGES.get(size.upper()):
        return edge, edge
    match = _PIXELS.fullmatch(size)
    sides = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(_SMALLEST <= side <= _LARGEST for side in sides):
        raise ValueError(f"Invalid size {size!r}")
    return sides
