"""How does Google's `usageMetadata` become counts that do not overlap?

On the wire the prompt's count holds the cached tokens too, and the details by modality may be missing, partial or
contradict the count.  The counts decide; the details only say of which modality they are, and what they leave over is
`unknown`.  Within a stream each event repeats the counts so far, so the last one of each counts.
"""

from collections.abc import Mapping

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
            plain = name.replace("_", "").lower()
            if (kind := COUNTS.get(plain)) and (count := number(raw)) is not None:
                self._counts[kind] = count
            elif (kind := DETAILS.get(plain)) and (split := _split_of(raw)):
                self._details[kind] = split

    def usage(self, *, images_out: int) -> Usage:
        """Put the counts together; none is ever negative."""
        cached, cached_split = self._count("cached"), self._details.get("cached", {})
        fresh_split: Split = {
            modality: max(0, size - cached_split.get(modality, 0))
            for modality, size in self._details.get("prompt", {}).items()
        }
        kinds: dict[Kind, Split] = {
            "input": _spread(max(0, self._count("prompt") - cached), fresh_split),
            "cached": _spread(cached, cached_split),
            "output": _spread(self._count("output"), self._details.get("output", {})),
            "thoughts": _spread(self._count("thoughts"), {}),
            "tool": _spread(self._count("tool"), self._details.get("tool", {})),
        }
        tokens = {(kind, modality): size for kind, split in kinds.items() for modality, size in split.items()}
        return Usage(
            tokens=tokens,
            total=self._counts.get("total") or sum(tokens.values()),
            images_out=images_out,
            source="reported" if self._counts or self._details else "none",
        )

    def _count(self, name: str) -> int:
        return self._counts.get(name, sum(self._details.get(name, {}).values()))


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
