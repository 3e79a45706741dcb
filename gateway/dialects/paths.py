"""Which path is it, whatever stood in the base URL that somebody configured?

SDKs append their paths to a base URL, and people configure it with a version, without one, with two, with the name of
an API before it or with a slash behind it.  All of these reach the same operation.  What goes upstream is made of the
tail alone, never of these bytes, so a percent-encoded letter in it is no route.
"""

import re
from collections.abc import Iterable

_PREFIXES = rb"/++(?:(?:v1(?:beta)?+|openai|anthropic|api)/++)*+"


def pattern_of(tails: Iterable[str]) -> re.Pattern[bytes]:
    """The pattern that a raw path must match in full, whose group `tail` says which of the tails it is.

    A tail is what stands behind the version, like `chat/completions`.  Every repetition is possessive, so that no path
    makes the matching slow.
    """
    return re.compile(_PREFIXES + rb"(?P<tail>" + b"|".join(re.escape(tail.encode()) for tail in tails) + rb")/*+")
