"""What does a call ask for, and what has it cost?"""

from collections.abc import Mapping
from typing import Literal

import msgspec

Kind = Literal["input", "output", "cached", "thoughts", "tool"]
Modality = Literal["text", "image", "audio", "video", "document", "unknown"]
Source = Literal["reported", "estimated", "none"]


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one answer cost, as far as the upstream said so."""

    tokens: Mapping[tuple[Kind, Modality], int] = msgspec.field(default_factory=dict)  # kinds do not overlap
    total: int = 0  # what is charged: the upstream's own total, else the sum
    images_out: int = 0
    cache_writes_5m: int = 0  # of the input: put into the provider's cache for so long, which costs more
    cache_writes_1h: int = 0
    videos: int = 0
    size: str = ""  # of the pictures, as the answer says it, else as it was asked for: prices may go by it
    quality: str = ""  # the same
    seconds: float = 0.0  # of audio that was heard
    source: Source = "none"

    @property
    def tokens_in(self) -> int:
        return sum(count for (kind, _), count in self.tokens.items() if kind in {"input", "cached", "tool"})

    @property
    def tokens_out(self) -> int:
        return sum(count for (kind, _), count in self.tokens.items() if kind in {"output", "thoughts"})


class Demand(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a request asks for, as far as limits and metrics need it.  Media are no text, even if unread."""

    text_chars: int = 0
    tokens: int = 0  # of input that is tokens already, such as token lists; beside the text
    images: int = 0  # inline pictures
    other_media: int = 0  # inline audio, video and documents
    generates: bool = True  # the answer holds something made, which costs output tokens
    max_output_tokens: int | None = None
    candidates: int = 1
    up_to: bool = False  # so many at most: how many there will be is up to the model
    videos: int = 0  # to be made
    seconds: int | None = None  # how long each shall be
    pixels: int | None = None  # of one frame
    image_output: bool = False  # pictures are named among what is wanted back
    size: str = ""  # of these pictures
    quality: str = ""
    unread: bool = False  # not read to its end: it may ask for anything
