"""What has a task cost in the end?  Its creation was charged an estimate, since nobody knew better."""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Correction(NamedTuple):
    """A task that has ended, what its creation was charged, and what it is to be charged."""

    task: str
    model: str
    method: str  # the operation that created it
    request: str  # the id of that request
    before: Mapping[str, int]  # what was charged, by unit
    after: Mapping[str, int]
    reported: bool  # what it has cost was said by the upstream

    def facts(self) -> tuple[Any, ...]:
        """What correct.lua receives."""
        units = {**self.before, **self.after}
        more = {unit: self.after.get(unit, 0) - self.before.get(unit, 0) for unit in units}
        source = "reported" if self.reported else "estimated"
        return self.task, source, more, self.model, self.method, self.request, {"task": self.task}
