"""What does an answer say of a task: its ids, whether it has ended, and what it has cost?

The relay answers in its own shape, in OpenAI's or in the makers', on either path; each member is looked for wherever
one of them has it.  Whether a task has ended is said by the relay's word alone, never by the maker's beside it.
"""

import re
from collections.abc import Iterator, Mapping

import msgspec
from msgspec import Raw

from gateway.call import TASK_ID, Event, State, TaskReport, TaskState, Usage
from gateway.dialects.openai.media import first_byte
from gateway.dialects.values import ABSENT, count_of, enum_token, is_empty
from gateway.framing import decoded, lenient

ENDS: Mapping[bytes, TaskState] = {
    b"SUCCESS": "succeeded",
    b"SUCCEEDED": "succeeded",
    b"COMPLETED": "succeeded",
    b"FAILURE": "failed",
    b"FAILED": "failed",
    b"CANCELLED": "failed",
    b"CANCELED": "failed",
    b"EXPIRED": "failed",
}

_ID = re.compile(TASK_ID)
_MEMBERS = msgspec.json.Decoder(dict[str, Raw])
_TEXT = msgspec.json.Decoder(str)

Members = Mapping[str, Raw]


class TaskMeter:
    """The meter of one call that creates a task, or asks for one."""

    served_model, storable = "", False  # it costs what its creation was charged, and nobody keeps it
    usage = Usage()

    def __init__(self, *, creates: bool) -> None:
        self.state: State = "open"
        self.report = TaskReport()
        self._creates = creates

    def see(self, event: Event) -> None:
        """See the answer.  Raises `ValueError` when it is not a JSON object."""
        said = decoded(_MEMBERS, event.data)
        data = _members(said, "data")
        self.report = TaskReport(tuple(dict.fromkeys(_ids(said, data))), _state(said, data), _tokens(said, data))
        failed = self._creates and not self.report.ids and not is_empty(said.get("error", ABSENT))
        self.state = "complete with error" if failed else "complete"


def _members(said: Members, name: str) -> Members:
    return lenient(_MEMBERS, said.get(name, ABSENT)) or {}


def _ids(said: Members, data: Members) -> Iterator[str]:
    """Every id by which the task could be asked for."""
    places = (said, "id"), (said, "task_id"), (data, "task_id"), (data, "id"), (_members(said, "output"), "task_id")
    for members, name in places:
        raw = members.get(name, ABSENT)
        found = lenient(_TEXT, raw) if first_byte(raw) == b'"' else bytes(raw).decode("latin-1")
        if found and (first_byte(raw) == b'"' or found.isdigit()) and _ID.fullmatch(found):
            yield found


def _state(said: Members, data: Members) -> TaskState:
    word = enum_token(data.get("status", ABSENT)) or enum_token(said.get("status", ABSENT))
    return ENDS.get(word, "open")


def _tokens(said: Members, data: Members) -> int | None:
    for place in (said, data, _members(data, "data")):
        usage = _members(place, "usage")
        counts = (count_of(usage.get(name, ABSENT)) for name in ("total_tokens", "completion_tokens"))
        if tokens := next(filter(None, counts), None):
            return tokens
    return None
