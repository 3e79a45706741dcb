"""An answer that is complete, and of which nobody has seen anything yet."""

from gateway.call import Sink
from gateway.memory import MemoryLease


class HeldAnswer:
    """Takes a unary answer and keeps it, until it is passed on."""

    held = 0
    started = False

    def __init__(self, memory: MemoryLease) -> None:
        self.memory = memory
        self._answer: tuple[int, str, bytes | memoryview] | None = None

    async def begin(self, status: int, content_type: str) -> None:
        """No answer that is held comes in pieces."""
        raise NotImplementedError

    async def write(self, chunk: bytes | memoryview) -> None:
        """No answer that is held comes in pieces."""
        raise NotImplementedError

    async def whole(
        self,
        status: int,
        content_type: str,
        body: bytes | memoryview,
        memory: MemoryLease | None = None,  # noqa: ARG002  it stays where it is
    ) -> None:
        self._answer = status, content_type, body

    async def pass_on(self, sink: Sink, memory: MemoryLease | None = None) -> None:
        """Hand it to somebody; `memory` is where its bytes leave as they go."""
        assert self._answer is not None  # noqa: S101  whoever asked has it, or an error
        await sink.whole(*self._answer, memory)
