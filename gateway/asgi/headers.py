"""Which headers cross the gateway, in each direction, and how are they read?

Only headers of an allow-list cross.  Names are lower-case bytes, as in ASGI.
"""

from collections.abc import Iterator, Sequence

RawHeaders = Sequence[tuple[bytes, bytes]]


class Headers:
    """The header lines of one request, read by lower-case name."""

    __slots__ = ("_first", "_raw")

    def __init__(self, raw: RawHeaders) -> None:
        self._raw = raw
        self._first = dict(reversed(raw))  # of lines with one name the first stays

    def get(self, name: bytes) -> str:
        """The first value, stripped; "" when there is none."""
        value = self._first.get(name)
        return value.decode("latin-1").strip() if value else ""

    def all(self, name: bytes) -> list[str]:
        """Every value, stripped."""
        if name not in self._first:
            return []
        return [value.decode("latin-1").strip() for key, value in self._raw if key == name]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._first)

    def __contains__(self, name: bytes) -> bool:
        return name in self._first
