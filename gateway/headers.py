"""Which headers cross the gateway, in each direction, and how are they read?

Only what stands in an allow-list crosses.  Names are lower case bytes, as ASGI hands them over.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

RawHeaders = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Headers:
    """The header lines of one request, read by lower-case name."""

    raw: RawHeaders

    def get(self, name: bytes) -> str:
        """The first value, stripped; "" when there is none."""
        for key, value in self.raw:
            if key == name:
                return value.decode("latin-1").strip()
        return ""

    def all(self, name: bytes) -> list[str]:
        """Every value, stripped."""
        return [value.decode("latin-1").strip() for key, value in self.raw if key == name]

    def __contains__(self, name: bytes) -> bool:
        for key, _ in self.raw:  # noqa: SIM110  any() with a generator costs four times as much, and this runs per call
            if key == name:
                return True
        return False


def picked(raw: Iterable[tuple[str, str]], names: frozenset[str]) -> list[tuple[bytes, bytes]]:
    """The lines of an answer whose names may cross outwards."""
    return [(key.lower().encode(), value.encode("latin-1")) for key, value in raw if key.lower() in names]
