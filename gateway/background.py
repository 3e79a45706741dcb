"""What runs in the background, and who notices when it fails?

Nobody awaits a background task, so an exception in it would be silent and lasting: a dead watcher of the clients file
would leave a revoked key valid.  Here tasks are supervised: every failure is reported, and a task that is meant to run
for good is restarted with exponential backoff.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

Report = Callable[[str, BaseException], None]  # receives the name of a task and its exception

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds before a restart


LARGE_BYTES = 64 * 1024  # from here on a body is read in a thread, so that the loop never stalls
T = TypeVar("T")
P = ParamSpec("P")


async def off_loop(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do work on so many bytes: at once, or in a thread where it could stall the loop."""
    if size < LARGE_BYTES:
        return work(*args, **kwargs)
    return await asyncio.to_thread(work, *args, **kwargs)


def by_the_loop(name: str, error: BaseException) -> None:
    """Report to the event loop, for processes that have no log of their own."""
    asyncio.get_running_loop().call_exception_handler({"message": f"{name} has failed", "exception": error})


async def supervised(
    name: str,
    work: Callable[[], Awaitable[None]],
    report: Report,
    *,
    first_seconds: float = FIRST_PAUSE,
    longest_seconds: float = LONGEST_PAUSE,
) -> None:
    """Run work that has no end; when it fails, report it and restart it, ever later while it goes on failing.

    The pause before a restart is `first_seconds`, then twice as long each time, up to `longest_seconds`.
    """
    loop, pause = asyncio.get_running_loop(), first_seconds
    while True:
        began = loop.time()
        try:
            return await work()
        except Exception as error:  # noqa: BLE001  whatever it is, it is reported, and the work goes on
            report(name, error)
        if loop.time() - began > longest_seconds:
            pause = first_seconds
        await asyncio.sleep(pause)
        pause = min(pause * 2, longest_seconds)


class Background:
    """The background tasks of one owner, which end with its context."""

    def __init__(self, report: Report = by_the_loop) -> None:
        self._report = report
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def keep(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run work that has no end, supervised."""
        self.start(name, supervised(name, work, self._report))

    def start(self, name: str, work: Coroutine[Any, Any, object]) -> asyncio.Task[Any]:
        """Run work once; its failure is reported."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def wait(self, seconds: float | None = None) -> None:
        """Wait until all have ended, for so long at most."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def aclose(self) -> None:
        """Cancel what still runs, and wait until it has ended."""
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._report(task.get_name(), error)
