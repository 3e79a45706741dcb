"""How much of bodies may be held, and how is what they leave behind given back?"""

from gateway.memory import malloc
from gateway.memory.budget import MemoryBudget, MemoryLease
from gateway.memory.malloc import MallocTrimmer

__all__ = ["MallocTrimmer", "MemoryBudget", "MemoryLease", "malloc"]
