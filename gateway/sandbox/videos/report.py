"""What is reported of a task at one moment?  A plain value that each route writes in its own way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from gateway.sandbox.videos.tasks import State, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One poll's answer, before it is written."""

    task: Task
    now: float  # seconds since 1970
    url: str  # of the result
    usage: Mapping[str, int] | None  # only where it is sold by tokens and has succeeded
    nonce: str

    @property
    def state(self) -> State:
        return self.task.state(self.now)


def _nousage(report: Report, _argument: str) -> Report:
    return replace(report, usage=None)


def _moretokens(report: Report, argument: str) -> Report:
    more = int(argument or "1000")
    return replace(report, usage=report.usage and {name: count + more for name, count in report.usage.items()})


LIES: Mapping[str, Callable[[Report, str], Report]] = {"nousage": _nousage, "moretokens": _moretokens}
