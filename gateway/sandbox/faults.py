"""Which misbehaviour was asked for, and is it due?

Asked for by `x-sandbox-fault: SPEC` or by `sandbox-fault: SPEC` anywhere in the request body.  SPEC is
`NAME[=ARGUMENT][*TIMES]`; with TIMES only the first so many calls with the same body misbehave.  The names:

* `429`, `503` or any other status, the argument being `Retry-After`; `google=STATUS[/SECONDS]` in Google's shape;
  `quota`, `key`, `echokey`, `redirect`, `html`, `html200`, `empty`: another answer altogether
* `blocked`, `safety`, `link`, `nousage`, `toolong=BYTES`: an answer with unusual content
* `badjson`, `gzip`, `bomb`: an answer that does not match its head
* `slow=SECONDS`, `drip=SECONDS`, `hang`, `cut`, `cutstart`: an answer that comes late, slowly, not, or in part
* `sse`, `crlf`, `ping`, `nonewline`, `streamerror`: streams as other relays frame them
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.sandbox import twists
from gateway.sandbox.log import Record
from gateway.sandbox.turn import Turn
from gateway.sandbox.wire import Answer, Event

_SPEC = re.compile(r"(?P<name>[a-z0-9]+)(?:=(?P<argument>[^*\s]+))?(?:\*(?P<times>[0-9]+))?")
_STATUS = re.compile(r"[2-5][0-9]{2}")
_MOST_COUNTED = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One misbehaviour.  Of the three ways to misbehave a fault has one; the others change nothing."""

    name: str
    argument: str

    @property
    def forces_sse(self) -> bool:
        """Whether a stream is server-sent events even without `alt=sse`."""
        return self.name == "sse" or self.name in twists.STREAMS

    def change_events(self, events: list[Event]) -> list[Event]:
        """The events of the answer, changed.  `ValueError` when the argument is no number."""
        twist = twists.EVENTS.get(self.name)
        return twist(events, self.argument) if twist else events

    def change_turn(self, turn: Turn) -> Turn:
        """What is said, changed."""
        return turn

    def change_answer(self, answer: Answer, record: Record) -> Answer:
        """The bytes of the answer, changed.  `ValueError` when the argument is no number."""
        if _STATUS.fullmatch(self.name):
            return twists.status(int(self.name), self.argument, record)
        if self.name in twists.STREAMS:
            return twists.STREAMS[self.name](answer)
        twist = twists.ANSWERS.get(self.name)
        return twist(answer, self.argument, record) if twist else answer


class Faults:
    """Counts which calls have had their fault."""

    def __init__(self) -> None:
        self._had: Counter[tuple[str, str]] = Counter()

    def due(self, record: Record, markers: Mapping[str, str]) -> Fault | None:
        """The fault for this call.  `ValueError` when there is no such fault."""
        spec = record.header(b"x-sandbox-fault").decode("latin-1") or markers.get("fault")
        if not spec:
            return None
        match = _SPEC.fullmatch(spec)
        if not match or not _known(match["name"]):
            raise ValueError(f"There is no sandbox fault {spec!r}.")
        if match["times"] and self._count(spec, record.body_sha256) > int(match["times"]):
            return None
        return Fault(name=match["name"], argument=match["argument"] or "")

    def forget(self) -> None:
        """Count from the start."""
        self._had.clear()

    def _count(self, spec: str, body: str) -> int:
        if len(self._had) >= _MOST_COUNTED:
            self.forget()
        self._had[spec, body] += 1
        return self._had[spec, body]


def _known(name: str) -> bool:
    return name == "sse" or name in {*twists.EVENTS, *twists.ANSWERS, *twists.STREAMS} or bool(_STATUS.fullmatch(name))
