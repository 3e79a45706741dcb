"""How many bytes of bodies may be held at once, and by which client?

A worker has one memory budget; requests beyond it are refused (backpressure).  A client may hold ten times what is left
free: alone ten elevenths of all, and less the more others hold, so that busy clients end up with equal shares and there
is always room for another; by default for the largest body.  (Such a dynamic threshold is how switches share their
packet memory.)
"""

from collections import defaultdict
from types import TracebackType
from typing import Self

from gateway.errors import Overloaded

SHARE = 10  # times what is free


class MemoryBudget:
    """How many bytes of bodies this worker holds, and may hold."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.released = 0  # since the start
        self._by_owner = defaultdict[str, int](int)

    def lease(self) -> "MemoryLease":
        return MemoryLease(self)

    def has_room(self, owner: str, count: int) -> bool:
        """Whether a request of this client may hold so many bytes more."""
        free = self.limit - self.held - count
        return self._by_owner.get(owner, 0) + count <= SHARE * free

    def add(self, owner: str, count: int) -> None:
        """Count bytes as held, or as released where they are negative."""
        self.held += count
        self.released += max(-count, 0)
        self._by_owner[owner] += count
        if not self._by_owner[owner]:
            del self._by_owner[owner]


class MemoryLease:
    """The bytes that one call holds; released when the call ends, or slice by slice."""

    def __init__(self, memory_budget: MemoryBudget) -> None:
        self._memory_budget = memory_budget
        self.bytes = 0
        self.owner = ""  # the name of the client; bytes without an owner only reduce the free room

    def check_room(self, count: int) -> None:
        """Refuse a request for which there is no room now.  Raises `Overloaded`."""
        if not self._memory_budget.has_room(self.owner, count):
            raise Overloaded

    def reserve(self, count: int) -> None:
        """Reserve bytes of a request, or refuse it.  Raises `Overloaded`."""
        self.check_room(count)
        self.add(count)

    def add(self, count: int) -> None:
        """Count bytes of an answer: it is paid for, so it is always taken."""
        self.resize(self.bytes + count)

    def release(self, count: int) -> None:
        self.resize(max(self.bytes - count, 0))

    def resize(self, count: int) -> None:
        """Hold exactly this many bytes."""
        if more := count - self.bytes:
            self._memory_budget.add(self.owner, more)
            self.bytes = count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.resize(0)
