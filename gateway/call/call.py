"""What flows through the pipeline: who asks, what for, and what it came to.

Plain values only.  A *call* is one request, understood.  An *answer* is what the upstream said.  *Usage* is what
an answer says it cost.  The Protocols at the end are the seams that have, or will have, several implementations.
"""

from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from gateway.config import Client

Kind = Literal["input", "output", "cached", "thoughts", "tool"]
Modality = Literal["text", "image", "audio", "video", "document", "unknown"]
Source = Literal["reported", "estimated", "none"]


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one answer cost, as far as the upstream said so."""

    tokens: Mapping[tuple[Kind, Modality], int] = msgspec.field(default_factory=dict)  # kinds do not overlap
    total: int = 0  # what is charged: totalTokenCount, else the sum
    images_out: int = 0
    source: Source = "none"

    @property
    def tokens_in(self) -> int:
        return sum(count for (kind, _), count in self.tokens.items() if kind in {"input", "cached", "tool"})

    @property
    def tokens_out(self) -> int:
        return sum(count for (kind, _), count in self.tokens.items() if kind in {"output", "thoughts"})


class Demand(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a request body asks for, as far as limits and metrics need it.  Media are no text, even if unread."""

    text_chars: int = 0
    images: int = 0  # inline pictures
    other_media: int = 0  # inline audio, video and documents
    max_output_tokens: int | None = None
    candidates: int = 1
    image_output: bool = False  # responseModalities names images
    unread: bool = False  # not read to its end: it may ask for anything


class Call(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One request, understood."""

    client: Client
    method: str  # Google's name: generateContent, countTokens, ...
    model: str  # as the path names it, decoded; "" for lists
    path: str  # where the upstream is asked, always under /v1beta
    query: str  # what of the query crosses: "alt=sse", paging
    accept: str
    body: bytes
    stream: bool
    sse: bool  # the caller wants server-sent events; else JSON or a JSON array
    demand: Demand
    request_id: str
    deadline: float  # on the loop's clock, seconds
    cache_control: str = ""  # the caller's, lower case

    @property
    def generates(self) -> bool:
        """Whether its answer costs tokens and should say how many."""
        return self.method in {"generateContent", "streamGenerateContent"}

    @property
    def costs(self) -> bool:
        """Whether it costs tokens, even if its answer need not say how many."""
        return self.generates or self.method in {"embedContent", "batchEmbedContents"}

    @property
    def http_method(self) -> str:
        return "GET" if self.lists else "POST"

    @property
    def lists(self) -> bool:
        """Whether it is answered from the upstream's list of models."""
        return self.method in {"listModels", "getModel"}


class Permit(Protocol):
    """What the limits gave a call: a place and a reservation, to be given back once."""

    def charged(self, usage: Usage, outcome: str) -> Usage:
        """What a call that ends so is charged: what its answer said, else an estimate, or nothing."""

    async def settle(self, usage: Usage, outcome: str) -> None:
        """Give the place back and correct the reservation to what is charged.  Settling twice changes nothing."""


class Meter(Protocol):
    """Reads what an answer cost while its bytes pass."""

    def event(self, data: bytes) -> None:
        """See one whole JSON object of the answer.  Raises `ValueError` when it is not one."""

    @property
    def usage(self) -> Usage:
        """What has been seen so far."""

    @property
    def finished(self) -> bool:
        """Whether the answer said that it is complete: every candidate ended, or the prompt was blocked."""

    @property
    def storable(self) -> bool:
        """Whether every candidate ended normally with inline content, so that the answer may be kept."""

    @property
    def errored(self) -> bool:
        """Whether the answer carried an error instead of its rest, after a head that said 200."""
