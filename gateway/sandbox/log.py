"""What did the sandbox receive and send?  The tests' oracle, served at `/sandbox/log`."""

import time
from collections import deque
from collections.abc import Mapping
from hashlib import sha256
from secrets import token_hex
from typing import Any, Literal

import msgspec

_KEPT = 20_000


class Record(msgspec.Struct, kw_only=True):
    """One call, written while it runs.

    `end` is None while the call is in flight, "cancelled" when the caller hung up, else "complete": also when a fault
    cut it.
    """

    nonce: str
    method: str
    path: str  # as on the wire, not decoded
    query: str
    raw_headers: list[tuple[bytes, bytes]]
    body_bytes: int = 0
    body_sha256: str = ""
    status: int = 0  # 0: no head was sent
    answer_bytes: int = 0
    answer_sha256: str = ""
    model: str = ""  # as asked
    stream: bool = False  # whether a stream was asked for
    whole: bool = False  # whether the answer was sent to its end, a stream to its dialect's own sign of it
    usage: Mapping[str, Any] | None = None  # as reported
    tokens: Mapping[str, int] | None = None  # what the answer truly costs, by kind, whatever was reported
    pictures: int = 0  # made by this call
    seconds: float = 0.0  # of sound that was heard or made, or of the video that was asked for
    task: str = ""  # the id of the video's task that the path names
    created: list[str] = []  # ids of the tasks that this call made at the vendor
    end: Literal["complete", "cancelled"] | None = None
    started: float
    ended: float | None = None

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> "Record":
        """The record of a call that has just begun."""
        return cls(
            nonce=token_hex(12),
            method=scope["method"],
            path=scope["raw_path"].decode("latin-1"),
            query=scope["query_string"].decode("latin-1"),
            raw_headers=scope["headers"],
            started=time.time(),
        )

    def header(self, name: bytes) -> bytes:
        """The first header of that name (lower case), else nothing."""
        return next((value for each, value in self.raw_headers if each == name), b"")

    def made_nothing(self) -> None:
        """Note that the call is refused."""
        self.tokens, self.pictures, self.seconds, self.created = None, 0, 0.0, []

    def close(self, answer_sha256: str, *, complete: bool) -> None:
        """Note how the call ended."""
        self.answer_sha256, self.ended = answer_sha256, time.time()
        self.end = "complete" if complete else "cancelled"

    def shown(self) -> dict[str, Any]:
        """The record as it is served; the upstream key stands in it as a hash only."""
        shown = msgspec.structs.asdict(self)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in shown.pop("raw_headers")]
        shown["headers"] = [(name, _hash(value) if name == "authorization" else value) for name, value in headers]
        shown["request_id"] = self.header(b"x-request-id").decode("latin-1")
        return shown


class Log:
    """The last calls, oldest first."""

    def __init__(self) -> None:
        self._records: deque[Record] = deque(maxlen=_KEPT)

    def add(self, record: Record) -> None:
        self._records.append(record)

    def shown(self) -> bytes:
        """All records as a JSON list."""
        return msgspec.json.encode([record.shown() for record in self._records])

    def clear(self) -> None:
        self._records.clear()


def _hash(text: str) -> str:
    return sha256(text.encode("latin-1")).hexdigest()
