"""How do the counts of a message become counts that do not overlap?

On the wire the input stands beside what was read from the provider's cache and what was written into it; thinking is
part of the output.  A stream says its counts at its beginning and again at its end: the last one of each counts.  A
relay that converts another API begins with zeros, and some end with zeros where the beginning said more: a zero never
takes a count back.

Only the end says how long an answer was.  Where it does not, or says that text came of nothing, the output is an
estimate by what was written; where no input is counted, that is the business of those who estimate it anyway.
"""

from collections.abc import Iterator

import msgspec
from msgspec import Raw

from gateway.call import Kind, Modality, Usage
from gateway.dialects.values import count_of
from gateway.framing import lenient

COUNTS = frozenset({
    "input_tokens", "output_tokens", "thinking_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
    "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens",
})  # fmt: skip
GROUPS = frozenset({"cache_creation", "output_tokens_details"})
MANY_CHARS = 100  # that cannot have come of no tokens
CHARS_PER_TOKEN = 4

_MEMBERS = msgspec.json.Decoder(dict[str, Raw])


class UsageReader:
    """The counts of one answer, as far as they have come."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._output: int | None = None  # as the end says

    def see(self, usage: Raw, *, at_end: bool) -> None:
        """Take one `usage`; what cannot be read counts as absent."""
        for name, count in _counts_of(usage):
            if count or name not in self._counts:
                self._counts[name] = count
            if at_end and name == "output_tokens":
                self._output = count or self._output or 0

    def usage(self, *, chars_out: int) -> Usage:
        """Put the counts together, none of which is ever negative.  `chars_out`: so much was answered."""
        fresh, cached, output = map(self._count, ("input_tokens", "cache_read_input_tokens", "output_tokens"))
        hour = self._count("ephemeral_1h_input_tokens")
        written = max(self._count("cache_creation_input_tokens"), self._count("ephemeral_5m_input_tokens") + hour)
        knows_output = self._output is not None and (self._output > 0 or chars_out < MANY_CHARS)
        if not knows_output:
            output = max(output, -(-chars_out // CHARS_PER_TOKEN))
        thoughts = min(self._count("thinking_tokens"), output)
        sizes: dict[tuple[Kind, Modality], int] = {
            ("input", "unknown"): fresh + written,
            ("cached", "unknown"): cached,
            ("output", "text"): output - thoughts,
            ("thoughts", "text"): thoughts,
        }
        tokens = {kind: size for kind, size in sizes.items() if size}
        is_reported = knows_output and fresh + written + cached > 0
        return Usage(
            tokens=tokens,
            total=sum(tokens.values()),
            cache_writes_5m=written - hour,
            cache_writes_1h=hour,
            source="reported" if is_reported else "estimated" if tokens else "none",
        )

    def _count(self, name: str) -> int:
        return self._counts.get(name, 0)


def _counts_of(usage: Raw) -> Iterator[tuple[str, int]]:
    for name, raw in (lenient(_MEMBERS, usage) or {}).items():
        if name in GROUPS:
            yield from _counts_of(raw)
        elif name in COUNTS and (count := count_of(raw)) is not None:
            yield name, count
