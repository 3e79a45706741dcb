"""What does a caller's `Cache-Control` ask of the cache?

Four words are known and others are ignored, as RFC 9111 has it.  What cannot be read counts as the stricter one.
"""

from dataclasses import dataclass

NEVER = 2**31  # seconds: RFC 9111's own "longer than anything"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheControl:
    """How one call may be answered."""

    store: bool = True  # `no-store`: neither read nor written
    reuse: bool = True  # `no-cache`: a fresh answer, stored
    ask: bool = True  # `only-if-cached`: the upstream is left alone
    max_age: int = NEVER  # seconds


NO_DIRECTIVES = CacheControl()


def read(header: str) -> CacheControl:
    """Read the header's value, in lower case."""
    if not header:
        return NO_DIRECTIVES
    words = [
        (name.strip(), value.strip(' \t"')) for name, _, value in (word.partition("=") for word in header.split(","))
    ]
    names = {name for name, _ in words}
    return CacheControl(
        store="no-store" not in names,
        reuse="no-cache" not in names,
        ask="only-if-cached" not in names,
        max_age=min([NEVER, *(_seconds(value) for name, value in words if name == "max-age")]),
    )


def _seconds(value: str) -> int:
    """A number of seconds; what is none counts as 0, since it was meant to be short of something."""
    return min(int(value[:10]), NEVER) if value.isascii() and value.isdigit() else 0
