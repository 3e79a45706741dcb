"""What is a task, and how far is it?  Its state follows from the time; nothing runs."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Literal

State = Literal["NOT_START", "SUBMITTED", "QUEUED", "IN_PROGRESS", "SUCCESS", "FAILURE"]

_KEPT = 20_000
_QUEUED: tuple[tuple[int, State], ...] = ((3, "NOT_START"), (6, "SUBMITTED"), (10, "QUEUED"))  # up to so many per cent


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One video that was asked for."""

    id: str
    model: str
    prompt: str
    seconds: float  # of the video
    size: tuple[int, int]
    resolution: str
    created: float  # seconds since 1970
    takes: float  # seconds until it ends
    fails: bool = False
    tokens: int | None = None  # that it costs if it succeeds; None: it is not sold by tokens
    remixed_from: str | None = None
    marks: Mapping[str, str]  # of the request that made it

    def progress(self, now: float) -> int:
        """Per cent."""
        return min(100, int(100 * (now - self.created) / self.takes)) if self.takes > 0 else 100

    def state(self, now: float) -> State:
        """In new-api's words."""
        done = self.progress(now)
        if done == 100:
            return "FAILURE" if self.fails else "SUCCESS"
        return next((word for limit, word in _QUEUED if done < limit), "IN_PROGRESS")

    @property
    def ended(self) -> float:
        """When it ends, seconds since 1970."""
        return self.created + self.takes

    @property
    def quota(self) -> int:
        """What it is charged, in new-api's units; the rates are made up."""
        return self.tokens // 2 if self.tokens is not None else round(50_000 * self.seconds)


class Tasks:
    """The last tasks, by every id that an answer has named them by."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Task] = OrderedDict()
        self._lock = Lock()

    def add(self, *tasks: Task, also: str = "") -> None:
        """Keep tasks; the last of them is known by the id `also` too, if there is one."""
        with self._lock:
            self._kept.update((task.id, task) for task in tasks)
            if also:
                self._kept[also] = tasks[-1]
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    def get(self, task_id: str) -> Task | None:
        """A task, while it is kept."""
        return self._kept.get(task_id)
