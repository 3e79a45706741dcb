"""Whose is this task?  The upstream shows any task to whoever has our one key, so here each belongs to a client."""

from gateway.tasks.task import KEPT_SECONDS, PATTERN, Task, key_of, packed, unpacked
from gateway.tasks.tasks import OWN, Tasks

__all__ = ["KEPT_SECONDS", "OWN", "PATTERN", "Task", "Tasks", "key_of", "packed", "unpacked"]
