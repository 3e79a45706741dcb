"""How many bytes of bodies may be held, and how is freed memory returned to the system?"""

from gateway.memory import malloc
from gateway.memory.budget import MemoryBudget, MemoryLease
from gateway.memory.malloc import MallocTrimmer

__all__ = ["MallocTrimmer", "MemoryBudget", "MemoryLease", "malloc"]
