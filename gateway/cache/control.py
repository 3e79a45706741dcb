"""What does a caller's `Cache-Control` ask of the cache?

`no-store`, `no-cache`, `only-if-cached` and `max-age` are known; others are ignored, as RFC 9111 says.  A value that
cannot be parsed counts as the strictest one.
"""

from dataclasses import dataclass

NEVER = 2**31  # seconds: RFC 9111's own "longer than anything"


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheControl:
    """How one call may be answered."""

    store: bool = True  # `no-store`: neither read nor written
    reuse: bool = True  # `no-cache`: a fresh answer, stored
    ask: bool = True  # `only-if-cached`: the upstream is not asked
    max_age: int = NEVER  # seconds


NO_DIRECTIVES = CacheControl()


def parse(header: str) -> CacheControl:
    """Parse the header's value, in lower case."""
    if not header:
        return NO_DIRECTIVES
    directives = [
        (name.strip(), value.strip(' \t"')) for name, _, value in (part.partition("=") for part in header.split(","))
    ]
    names = {name for name, _ in directives}
    return CacheControl(
        store="no-store" not in names,
        reuse="no-cache" not in names,
        ask="only-if-cached" not in names,
        max_age=min([NEVER, *(_seconds(value) for name, value in directives if name == "max-age")]),
    )


def _seconds(value: str) -> int:
    """A number of seconds; what is no number counts as 0, the strictest."""
    return min(int(value[:10]), NEVER) if value.isascii() and value.isdigit() else 0
