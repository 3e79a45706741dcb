"""How many pictures stand in the text of an answer itself?

Some channels write a picture into the text, as a data URI: in Markdown, in HTML or bare.  It is a picture made like any
other, whatever way it is written in, and wherever events cut it.
"""

import re

CARRY = 512  # characters kept: all that may stand before the picture's own

PICTURE = re.compile(r"data:image/[\w.+-]{1,40}+(?:;[^,;\s]{0,64}+){0,6}+,(?=[^\s\"'`)\]>,])", re.IGNORECASE)


class Inline:
    """What the text of one candidate holds, as far as it has come."""

    def __init__(self) -> None:
        self._tail = ""

    def see(self, text: str) -> int:
        """Take the next piece of the text; return how many pictures begin in it."""
        seen = self._tail + text if self._tail else text
        self._tail = seen[-CARRY:]
        if ":" not in seen or "data:" not in seen.lower():
            return 0
        ends = [found.end() for found in PICTURE.finditer(seen)]
        if ends:
            self._tail = seen[max(ends[-1], len(seen) - CARRY) :]
        return len(ends)
