"""How does Google's `usageMetadata` become counts that do not overlap?

On the wire the prompt's count holds the cached tokens too, and the details by modality may be missing, partial or
contradict the count.  The counts decide; the details only say of which modality they are, and what they leave over is
`unknown`.  Within a stream each event repeats the counts so far, so the last one of each counts.
"""

from collections.abc import Mapping
from functools import lru_cache

import msgspec
from msgspec import Raw

from gateway.call import Kind, Modality, Usage
from gateway.dialects.gemini.wire import ABSENT, lenient, number, word

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

Split = dict[Modality, int]


class Detail(msgspec.Struct, gc=False):
    """The tokens of one modality."""

    modality: Raw = ABSENT
    token_count: Raw = ABSENT
    tokenCount: Raw = ABSENT


_METADATA = msgspec.json.Decoder(dict[str, Raw])
_DETAILS = msgspec.json.Decoder(list[Detail])


class Tally:
    """The counts of one answer, as far as they have come."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._details: dict[str, Split] = {}

    def see(self, metadata: Raw) -> None:
        """Take one `usageMetadata`; what cannot be read counts as absent."""
        for name, raw in (lenient(_METADATA, metadata) or {}).items():
            plain = _plain(name)
            if (kind := COUNTS.get(plain)) and (count := number(raw)) is not None:
                self._counts[kind] = count
            elif (kind := DETAILS.get(plain)) and (split := _split_of(raw)):
                self._details[kind] = split

    def usage(self, *, images_out: int) -> Usage:
        """Put the counts together; none is ever negative."""
        if not self._counts and not self._details:
            return Usage(images_out=images_out)
        cached, cached_split = self._count("cached"), self._details.get("cached", {})
        fresh_split: Split = {
            modality: max(0, size - cached_split.get(modality, 0))
            for modality, size in self._details.get("prompt", {}).items()
        }
        sizes: tuple[tuple[Kind, int, Split], ...] = (
            ("input", max(0, self._count("prompt") - cached), fresh_split),
            ("cached", cached, cached_split),
            ("output", self._count("output"), self._details.get("output", {})),
            ("thoughts", self._count("thoughts"), {}),
            ("tool", self._count("tool"), self._details.get("tool", {})),
        )
        tokens = {
            (kind, modality): part
            for kind, count, split in sizes
            if count
            for modality, part in _spread(count, split).items()
        }
        total = self._counts.get("total") or sum(tokens.values())
        return Usage(tokens=tokens, total=total, images_out=images_out, source="reported")

    def _count(self, name: str) -> int:
        count = self._counts.get(name)
        return sum(self._details.get(name, {}).values()) if count is None else count


@lru_cache(maxsize=64)  # the same few names in every answer
def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _split_of(raw: Raw) -> Split:
    split: Split = {}
    for detail in lenient(_DETAILS, raw) or []:
        modality = MODALITIES.get(word(detail.modality), "unknown")
        split[modality] = split.get(modality, 0) + (number(detail.token_count or detail.tokenCount) or 0)
    return split


def _spread(count: int, details: Split) -> Split:
    """Give each modality its size until the count is used up; what is left is `unknown`."""
    split: Split = {}
    for modality, size in details.items():
        split[modality] = min(size, count)
        count -= split[modality]
    split["unknown"] = split.get("unknown", 0) + count
    return {modality: size for modality, size in split.items() if size}
