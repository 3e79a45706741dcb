"""What is known of a call before it is answered?"""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.sandbox.faults import Fault
from gateway.sandbox.log import Record

_GAP = "0.02"  # seconds between the events of a stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, and what it asks for beside the text."""

    record: Record
    body: bytes
    marks: Mapping[str, str]  # `markers.found`
    fault: Fault | None

    @property
    def gap(self) -> float:
        """Seconds between the events of a stream.  `ValueError` when the marker holds no number."""
        return float(self.marks.get("gap", _GAP))

    @property
    def content_gap(self) -> float:
        """Seconds between the pieces of a download: none unless it is asked for.  `ValueError` as above."""
        return float(self.marks.get("gap", "0"))

    @property
    def size(self) -> int | None:
        """Bytes that the answer shall have, if its size is asked for.  `ValueError` as above."""
        return int(self.marks["size"]) if "size" in self.marks else None

    @property
    def content_type(self) -> bytes:
        """Of the body, as it was sent."""
        return self.record.header(b"content-type")

    @property
    def cached(self) -> int:
        """Tokens of the prompt that shall be reported as read from a cache.  `ValueError` as above."""
        return int(self.marks.get("cached", "0"))
