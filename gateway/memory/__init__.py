"""How much of bodies may be held, and how is what they leave behind given back?"""

from gateway.memory import heap
from gateway.memory.budget import Buffered, Hold
from gateway.memory.heap import Heap

__all__ = ["Buffered", "Heap", "Hold", "heap"]
