"""How does OpenAI's `usage` become counts that do not overlap?

On the wire the input's count holds the cached tokens and those of audio, and the output's holds the reasoning.  Some
relays write the reasoning beside the output: the total says so.  Counts of another API's names, which some relays put
beside these, are not read, and neither is a usage of nothing but zeros: somebody did not count.

In a stream usage may stand on every event, each time of all until then: the last one counts.

Where none is reported, the output is estimated by the text that came; the input is the business of those who estimate
it anyway.
"""

import re
from typing import NamedTuple

import msgspec
from msgspec import Raw

from gateway.call import Kind, Modality, Usage
from gateway.dialects.values import ABSENT, count_of
from gateway.framing import lenient

CHARS_PER_TOKEN = 4


class Counts(NamedTuple):
    """The counts of one answer, as they stand there."""

    input: int = 0
    cached: int = 0  # of the input
    audio_in: int = 0  # of the input
    output: int = 0
    thoughts: int = 0  # of the output, or beside it
    audio_out: int = 0  # of the output
    total: int = 0


class Details(msgspec.Struct, gc=False):
    """What a count is made of."""

    cached_tokens: Raw = ABSENT
    audio_tokens: Raw = ABSENT
    reasoning_tokens: Raw = ABSENT


class ChatUsage(msgspec.Struct, gc=False):
    """The usage of chat completions, completions and embeddings."""

    prompt_tokens: Raw = ABSENT
    completion_tokens: Raw = ABSENT
    total_tokens: Raw = ABSENT
    prompt_tokens_details: Raw = ABSENT
    completion_tokens_details: Raw = ABSENT
    prompt_cache_hit_tokens: Raw = ABSENT  # DeepSeek's word for the cached ones


class ResponsesUsage(msgspec.Struct, gc=False):
    """The usage of responses."""

    input_tokens: Raw = ABSENT
    output_tokens: Raw = ABSENT
    total_tokens: Raw = ABSENT
    input_tokens_details: Raw = ABSENT
    output_tokens_details: Raw = ABSENT


_CHAT = msgspec.json.Decoder(ChatUsage)
_RESPONSES = msgspec.json.Decoder(ResponsesUsage)
_DETAILS = msgspec.json.Decoder(Details)
_USAGE = re.compile(rb'"usage"\s*+:\s*+(\{(?:[^{}]++|\{[^{}]*+\})*+\})')


def chat_counts(raw: Raw) -> Counts | None:
    """Read the usage of a chat completion; None when it counts nothing."""
    if (said := lenient(_CHAT, raw)) is None:
        return None
    read = lenient(_DETAILS, said.prompt_tokens_details) or Details()
    written = lenient(_DETAILS, said.completion_tokens_details) or Details()
    return _or_none(
        Counts(
            input=count_of(said.prompt_tokens) or 0,
            cached=count_of(read.cached_tokens) or count_of(said.prompt_cache_hit_tokens) or 0,
            audio_in=count_of(read.audio_tokens) or 0,
            output=count_of(said.completion_tokens) or 0,
            thoughts=count_of(written.reasoning_tokens) or 0,
            audio_out=count_of(written.audio_tokens) or 0,
            total=count_of(said.total_tokens) or 0,
        )
    )


def responses_counts(raw: Raw) -> Counts | None:
    """Read the usage of a response; None when it counts nothing."""
    if (said := lenient(_RESPONSES, raw)) is None:
        return None
    read = lenient(_DETAILS, said.input_tokens_details) or Details()
    written = lenient(_DETAILS, said.output_tokens_details) or Details()
    return _or_none(
        Counts(
            input=count_of(said.input_tokens) or 0,
            cached=count_of(read.cached_tokens) or 0,
            output=count_of(said.output_tokens) or 0,
            thoughts=count_of(written.reasoning_tokens) or 0,
            total=count_of(said.total_tokens) or 0,
        )
    )


def usage_of(counts: Counts | None, *, images_out: int = 0, chars_out: int = 0) -> Usage:
    """Put the counts together; without them, estimate the output by so many characters of it."""
    if counts is None:
        output = -(-chars_out // CHARS_PER_TOKEN)
        tokens: dict[tuple[Kind, Modality], int] = {("output", "text"): output} if output else {}
        return Usage(tokens=tokens, total=output, images_out=images_out, source="estimated" if output else "none")
    beside = counts.total == counts.input + counts.output + counts.thoughts
    within = counts.audio_out + (0 if beside else counts.thoughts)
    sizes: dict[tuple[Kind, Modality], int] = {
        ("input", "text"): max(0, counts.input - counts.cached - counts.audio_in),
        ("input", "audio"): counts.audio_in,
        ("cached", "text"): counts.cached,
        ("output", "text"): max(0, counts.output - within),
        ("output", "audio"): counts.audio_out,
        ("thoughts", "text"): counts.thoughts,
    }
    tokens = {kind: size for kind, size in sizes.items() if size}
    return Usage(tokens=tokens, total=counts.total or sum(tokens.values()), images_out=images_out, source="reported")


def usage_at_end(data: bytes) -> Raw:
    """The last member `usage` of an answer that nobody looks into; within a text its name would be escaped."""
    found = _USAGE.match(data, max(0, data.rfind(b'"usage"')))
    return Raw(found[1]) if found else ABSENT


def _or_none(counts: Counts) -> Counts | None:
    return counts if counts.input or counts.output else None
