"""The seams that have several implementations: dialects, framings, meters, and what limits give a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003  a type of named tuples
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:  # calls are made of these
    from msgspec import Raw

    from gateway.call.call import Call, Plan, Route
    from gateway.call.usage import Usage
    from gateway.errors import ErrorShape
    from gateway.memory import MemoryLease

State = Literal["open", "complete", "failed", "complete with error"]
TASK_ID = r"[A-Za-z0-9_-]{1,191}"  # a pattern: what callers can write into a path
TaskState = Literal["open", "succeeded", "failed"]


class Event(NamedTuple):
    """One piece of an answer that says something: what a framing finds, and a meter reads."""

    name: bytes  # of a server-sent event; b"" where it has none
    data: bytes


Frame = tuple[bytes, Event | None]  # what to write, and what it says; either may be empty


class Framing(Protocol):
    """How the bytes of an answer fall into events.  `feed` and `end` return the next frames."""

    @property
    def content_type(self) -> str:
        """Of what is written."""

    @property
    def pending(self) -> int:
        """Bytes held back until they make a whole event."""

    @property
    def terminated(self) -> bool:
        """Whether the upstream has said that nothing more comes, as `[DONE]` does."""

    def feed(self, chunk: bytes) -> list[Frame]: ...

    def end(self) -> list[Frame]:
        """The upstream ended.  Raises `UpstreamBroke` when it ended too early."""


class Sink(Protocol):
    """Where an answer goes: to a caller, or into what several callers share."""

    held: int  # bytes of it that the sink keeps

    @property
    def memory(self) -> MemoryLease:
        """Counts what of the answer is held."""

    @property
    def started(self) -> bool:
        """Whether the answer has begun."""

    async def begin(self, status: int, content_type: str) -> None:
        """The answer comes in pieces, and is of this type."""

    async def write(self, chunk: bytes | memoryview) -> None:
        """Take the next piece."""

    async def whole(
        self, status: int, content_type: str, body: bytes | memoryview, memory: MemoryLease | None = None
    ) -> None:
        """Take an answer that came whole; `memory` counts its bytes, which may leave it as they go."""


class Meter(Protocol):
    """Reads what an answer cost while its bytes pass."""

    def see(self, event: Event) -> None:
        """See one event.  Raises `ValueError` when it is not what the dialect has."""

    @property
    def usage(self) -> Usage:
        """What has been seen so far."""

    @property
    def state(self) -> State:
        """`complete` by the dialect's own sign; `failed`: an error instead of an answer, or of its rest.

        `complete with error`: an answer that says in its own way that it failed, and so may end cleanly.
        """

    @property
    def served_model(self) -> str:
        """The model that the answer names; "" where it names none."""

    @property
    def storable(self) -> bool:
        """Whether the answer ended normally, with its content inline, so that it may be cached."""


class TaskReport(NamedTuple):
    """What an answer says of a task."""

    ids: tuple[str, ...] = ()  # each by which it can be asked for, the first one first
    state: TaskState = "open"
    tokens: int | None = None  # what it has cost in all; None where that is not said


@runtime_checkable
class TaskMeter(Meter, Protocol):
    """The meter of an operation that creates a task, or asks for one."""

    @property
    def report(self) -> TaskReport:
        """What has been seen so far."""


class ListedModel(NamedTuple):
    """One model of the upstream's list."""

    name: str  # as calls name it
    entry: Raw  # as the upstream wrote it


class ModelPage(NamedTuple):
    """One page of that list."""

    models: Sequence[ListedModel]
    next_query: str = ""  # of the target, for the page behind it; "" on the last one


class ModelLister(Protocol):
    """The upstream's list of models, as a dialect reads it and shows it to a client."""

    @property
    def target(self) -> str:
        """The upstream's path of the list."""

    @property
    def query(self) -> str:
        """Of the first page, as large as it can be."""

    def read(self, body: bytes) -> ModelPage:
        """Read a page.  Raises `ValueError` when it is not one."""

    def page_wanted(self, call: Call) -> str | None:
        """The query of the one page that is enough for this call; None: all are wanted."""

    def answer(self, call: Call, pages: Sequence[ModelPage]) -> bytes:
        """What the client may see.  Raises `RouteUnknown` for a model that is not there, and `BadRequest`."""


class Dialect(Protocol):
    """One way of speaking to the upstream: bytes in, bytes out, no state.  The pipeline does the I/O.

    A request is an `asgi.Request`: the head as it stood on the wire.
    """

    @property
    def name(self) -> str:
        """The name in tests and reports."""

    @property
    def errors(self) -> ErrorShape:
        """How its callers read errors."""

    @property
    def models(self) -> ModelLister | None:
        """Where the upstream lists its models; None where it does not."""

    def route(self, request: Any) -> Route | None:
        """Say what the path asks for, whatever the HTTP method; None when it is not of this dialect."""

    def plan(self, route: Route, request: Any, body: bytes) -> Plan:
        """Say what the body adds; in a thread when it is large.  Raises `BadRequest` and nothing else."""

    def framing(self, call: Call, content_type: str) -> Framing | None:
        """Make what splits this call's answer; None: it is not an answer of this dialect."""

    def meter(self, call: Call) -> Meter:
        """Make the reader of this call's answer."""


class Permit(Protocol):
    """What the limits gave a call: a place and a reservation, to be given back once."""

    at: int  # when, in ms since 1970

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What is left of the client's limits, for the caller."""

    def charged(self, usage: Usage, outcome: str) -> Usage:
        """What a call that ends so is charged: what its answer said, else an estimate, or nothing."""

    async def settle(self, usage: Usage, outcome: str, notes: Mapping[str, str]) -> None:
        """Give the place back and correct the reservation to what is charged.  Settling twice changes nothing.

        `notes` are further fields of the call's record.
        """
