"""What is kept of a task, and under which key of the state store?

Ids are the upstream's, and unique there; each id that an answer gives to a task has its own record.  The owner is the
client's name, so that a client with a new key keeps its tasks.
"""

import msgspec

from gateway.call import TaskState

KEPT_SECONDS = 30 * 86_400  # an upstream keeps a result for hours, and what it knows of a task for longer
PATTERN = "gw:task:*"


class Task(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A task, and what it was charged when it was created."""

    client: str  # the owner's name
    id: str  # the first of its ids, by which it is settled
    model: str = ""
    method: str = ""  # the operation that created it
    at: int = 0  # when that was admitted, in ms since 1970
    request: str = ""  # the id of that request
    tokens: int = 0
    videos: int = 0
    state: TaskState = "open"  # as far as its owner's polls have shown


NOBODYS = Task(client="", id="")  # no client has that name: what is not there takes the same work

_ENCODER, _DECODER = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Task)


def key_of(task_id: str) -> str:
    """Where the record of an id is."""
    return f"gw:task:{task_id}"


def packed(task: Task) -> bytes:
    """The record as it is stored."""
    return _ENCODER.encode(task)


def unpacked(stored: bytes | None) -> Task:
    """Read a record; of none, and of one that nobody can read, `NOBODYS`."""
    try:
        return _DECODER.decode(stored or _ENCODER.encode(NOBODYS))
    except msgspec.MsgspecError:
        return NOBODYS
