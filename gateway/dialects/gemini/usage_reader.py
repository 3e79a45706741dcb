"""How does Google's `usageMetadata` become counts that do not overlap?

On the wire the prompt's count holds the cached tokens too, and the details by modality may be missing, partial or
contradict the count.  The counts decide; the details only say of which modality they are, and what they leave over is
`unknown`.

Within a stream each event repeats the counts so far.  Those of one event belong together, so they are never mixed: the
last event counts that names a total and what it is made of, and none whose output went back to zero.  Only where no
event does so, the last count of each that is not zero is taken.

The total says whether thoughts are part of the candidates' tokens, as relays of OpenAI's shape have it, or stand beside
them, as Google has it; without a total they stand beside them.  What it holds beyond the counts is the prompt's, where
that has none, or else output.  One that is less than they come to, however they are read, is wrong.

No text comes of no tokens: where an answer says so, its output is an estimate.
"""

from collections.abc import Mapping
from functools import lru_cache

import msgspec
from msgspec import Raw

from gateway.call import Kind, Modality, Usage
from gateway.dialects.values import ABSENT, count_of, enum_token
from gateway.framing import lenient

# Spelt without case and underscores, since both casings occur.
COUNTS: Mapping[str, str] = {
    "prompttokencount": "prompt",
    "cachedcontenttokencount": "cached",
    "candidatestokencount": "output",
    "thoughtstokencount": "thoughts",
    "tooluseprompttokencount": "tool",
    "totaltokencount": "total",
}
DETAILS: Mapping[str, str] = {
    "prompttokensdetails": "prompt",
    "cachetokensdetails": "cached",
    "candidatestokensdetails": "output",
    "tooluseprompttokensdetails": "tool",
}
MODALITIES: Mapping[bytes, Modality] = {
    b"TEXT": "text",
    b"IMAGE": "image",
    b"VIDEO": "video",
    b"AUDIO": "audio",
    b"DOCUMENT": "document",
    b"1": "text",
    b"2": "image",
    b"3": "video",
    b"4": "audio",
    b"5": "document",
}
READINGS = ((True, False), (False, True), (True, True))  # thoughts in the output, tools in the prompt
MANY_CHARS = 100  # of text, that cannot have come of no tokens
CHARS_PER_TOKEN = 4

Split = dict[Modality, int]


class Detail(msgspec.Struct, gc=False):
    """The tokens of one modality."""

    modality: Raw = ABSENT
    token_count: Raw = ABSENT
    tokenCount: Raw = ABSENT


_METADATA = msgspec.json.Decoder(dict[str, Raw])
_DETAILS = msgspec.json.Decoder(list[Detail])


class UsageReader:
    """The counts of one answer, as far as they have come."""

    def __init__(self) -> None:
        self._seen = False
        self._counts: dict[str, int] = {}
        self._details: dict[str, Split] = {}
        self._is_whole = False  # the counts are those of one event, with its total

    def see(self, metadata: Raw) -> None:
        """Take one `usageMetadata`; what cannot be read counts as absent."""
        counts: dict[str, int] = {}
        details: dict[str, Split] = {}
        for name, raw in (lenient(_METADATA, metadata) or {}).items():
            plain = _plain(name)
            if (kind := COUNTS.get(plain)) and (count := count_of(raw)) is not None:
                self._seen = True
                if count:
                    counts[kind] = count
            elif (kind := DETAILS.get(plain)) and (split := _split_of(raw)):
                self._seen, details[kind] = True, split
        is_whole = "total" in counts and len(counts) > 1
        if is_whole and not (self._is_whole and _wrote(self._counts) and not _wrote(counts)):
            self._counts, self._details, self._is_whole = counts, details, True
        elif not self._is_whole:
            self._counts |= counts
            self._details |= details

    def usage(self, *, images_out: int, chars_out: int) -> Usage:
        """Put the counts together; none is ever negative.  `chars_out`: so much text was answered."""
        if not self._seen:
            return Usage(images_out=images_out)
        prompt, cached = self._count("prompt"), self._count("cached")
        output, thoughts, tool = self._count("output"), self._count("thoughts"), self._count("tool")
        total = self._counts.get("total", 0)
        fresh = max(0, prompt - cached)
        beyond = total - (fresh + cached + output + thoughts + tool)  # where all stand beside each other
        for within, tool_within in READINGS if total and beyond < 0 else ():
            read = output - thoughts * within, fresh - tool * tool_within
            if min(read) >= 0 and cached + thoughts + tool + sum(read) == total:
                output, fresh = read
                break
        if beyond > 0 and output and not prompt:
            fresh = beyond
        elif beyond > 0:
            output += beyond
        is_believed = bool(output or thoughts) or chars_out < MANY_CHARS
        if not is_believed:
            output = -(-chars_out // CHARS_PER_TOKEN)
        tokens = self._tokens(fresh=fresh, cached=cached, output=output, thoughts=thoughts, tool=tool)
        return Usage(
            tokens=tokens,
            total=sum(tokens.values()),
            images_out=images_out,
            source="reported" if is_believed else "estimated",
        )

    def _tokens(
        self, *, fresh: int, cached: int, output: int, thoughts: int, tool: int
    ) -> dict[tuple[Kind, Modality], int]:
        cached_split = self._details.get("cached", {})
        fresh_split: Split = {
            modality: max(0, size - cached_split.get(modality, 0))
            for modality, size in self._details.get("prompt", {}).items()
        }
        sizes: tuple[tuple[Kind, int, Split], ...] = (
            ("input", fresh, fresh_split),
            ("cached", cached, cached_split),
            ("output", output, self._details.get("output", {})),
            ("thoughts", thoughts, {}),
            ("tool", tool, self._details.get("tool", {})),
        )
        return {
            (kind, modality): part
            for kind, count, split in sizes
            if count
            for modality, part in _spread(count, split).items()
        }

    def _count(self, name: str) -> int:
        count = self._counts.get(name)
        return sum(self._details.get(name, {}).values()) if count is None else count


def _wrote(counts: Mapping[str, int]) -> bool:
    return "output" in counts or "thoughts" in counts


@lru_cache(maxsize=64)  # the same few names in every answer
def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _split_of(raw: Raw) -> Split:
    split: Split = {}
    for detail in lenient(_DETAILS, raw) or []:
        if count := count_of(detail.token_count or detail.tokenCount):
            modality = MODALITIES.get(enum_token(detail.modality), "unknown")
            split[modality] = split.get(modality, 0) + count
    return split


def _spread(count: int, details: Split) -> Split:
    """Give each modality its size until the count is used up; what is left is `unknown`."""
    if not details:
        return {"unknown": count}
    split: Split = {}
    for modality, size in details.items():
        split[modality] = min(size, count)
        count -= split[modality]
    split["unknown"] = split.get("unknown", 0) + count
    return {modality: size for modality, size in split.items() if size}
