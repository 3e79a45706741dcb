"""What did pictures and sound cost, by the `usage` of their answers?

On the wire the input's count holds the parts of which its details speak, and the output's holds the reasoning.  How
many pictures were made is said by two other counts, where a family has them.
"""

from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from msgspec import Raw

from gateway.call import Kind, Modality
from gateway.dialects.values import ABSENT, count_of, enum_token, number_of
from gateway.framing import lenient

AUDIO_TOKENS_PER_SECOND = 32  # a planning figure, where an answer tells the seconds alone

Tokens = Mapping[tuple[Kind, Modality], int]


class Details(msgspec.Struct, gc=False):
    """What a count is made of."""

    text_tokens: Raw = ABSENT
    image_tokens: Raw = ABSENT
    audio_tokens: Raw = ABSENT
    cached_tokens: Raw = ABSENT
    reasoning_tokens: Raw = ABSENT


class Wire(msgspec.Struct, gc=False):
    """A usage of any of these families."""

    input_tokens: Raw = ABSENT
    output_tokens: Raw = ABSENT
    total_tokens: Raw = ABSENT
    input_tokens_details: Raw = ABSENT  # of pictures
    input_token_details: Raw = ABSENT  # of transcriptions
    output_tokens_details: Raw = ABSENT
    generated_images: Raw = ABSENT  # Seedream's
    image_count: Raw = ABSENT  # DashScope's
    type: Raw = ABSENT
    seconds: Raw = ABSENT


class Made(NamedTuple):
    """What one `usage` says."""

    tokens: Tokens
    total: int = 0
    images: int | None = None
    seconds: float = 0.0


_WIRE = msgspec.json.Decoder(Wire)
_DETAILS = msgspec.json.Decoder(Details)


def made_of(raw: Raw, output: Modality) -> Made | None:
    """Read a usage, of an answer whose output is mostly of one modality; None where it says nothing."""
    said = lenient(_WIRE, raw)
    if said is None:
        return None
    if enum_token(said.type) == b"DURATION":
        return heard(number_of(said.seconds))
    images = count_of(said.generated_images)
    images = count_of(said.image_count) if images is None else images
    tokens = _tokens(said, output)
    if not tokens and images is None:
        return None
    return Made(tokens, count_of(said.total_tokens) or sum(tokens.values()), images)


def heard(seconds: float) -> Made | None:
    """What so much audio is taken to cost; None for none."""
    size = round(seconds * AUDIO_TOKENS_PER_SECOND)
    return Made({("input", "audio"): size}, size, seconds=seconds) if size else None


def _tokens(said: Wire, output: Modality) -> Tokens:
    read = lenient(_DETAILS, said.input_tokens_details or said.input_token_details) or Details()
    written = lenient(_DETAILS, said.output_tokens_details) or Details()
    image, audio, cached = (count_of(raw) or 0 for raw in (read.image_tokens, read.audio_tokens, read.cached_tokens))
    text_out, thoughts = count_of(written.text_tokens) or 0, count_of(written.reasoning_tokens) or 0
    inputs, outputs = count_of(said.input_tokens) or 0, count_of(said.output_tokens) or 0
    sizes: dict[tuple[Kind, Modality], int] = {
        ("input", "text"): max(0, inputs - image - audio - cached),
        ("input", "image"): image,
        ("input", "audio"): audio,
        ("cached", "text"): cached,
        ("thoughts", "text"): thoughts,
    }
    if output == "text":
        text_out = 0  # all of it is
    elif text_out:
        sizes["output", "text"] = text_out
    sizes["output", output] = max(0, outputs - text_out - thoughts)
    return {kind: size for kind, size in sizes.items() if size}
