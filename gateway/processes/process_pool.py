"""How are the processes behind one listening socket started, replaced when they die, and asked to leave?

The process pool spawns child processes, waits until they are ready, restarts them with exponential backoff, replaces
them one by one (rolling restart) and reaps them.  After its own arguments a child receives three file descriptors and
a number; `gateway.processes.worker` says what they mean.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from gateway.background import Background, Report, by_the_loop

READY_SECONDS = 30.0  # a child that is not ready by then never will be
QUICK_DEATH_SECONDS = 1.0  # a child that serves no longer than that is replaced ever more slowly
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 10.0
GRACE_SECONDS = 12.0  # on top of the time that a child has to leave; then it is killed
POLL_SECONDS = 0.02


class ChildProcess:
    """One process, and its pipe: one byte on it means that the process is ready, end of file that it is dead."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: int) -> None:
        self.pid = process.pid
        self.leaving = False  # another has its place
        self._process = process
        self._pipe = pipe
        self._served_since: float | None = None

    async def wait_until_ready(self, seconds: float) -> None:
        """Wait until it serves, or has died; after so long it is killed."""
        try:
            async with asyncio.timeout(seconds):
                if await self._read_pipe():
                    self._served_since = time.monotonic()
        except TimeoutError:
            self.send_signal(signal.SIGKILL)

    async def wait_until_exit(self) -> int:
        """Wait until it has exited, and return its exit status; to be called once."""
        await self._read_pipe()
        os.close(self._pipe)
        return self._process.wait()

    @property
    def has_served(self) -> bool:
        return self._served_since is not None

    def is_short_lived(self) -> bool:
        """Whether it has served for less than `QUICK_DEATH_SECONDS`, or not at all."""
        return self._served_since is None or time.monotonic() - self._served_since < QUICK_DEATH_SECONDS

    def send_signal(self, number: int) -> None:
        """Send a signal; nothing happens where the process has exited."""
        self._process.send_signal(number)

    async def _read_pipe(self) -> bytes:
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._pipe, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(self._pipe)
        return os.read(self._pipe, 1)


class ProcessPool:
    """Processes of one kind; when the context ends, all of them are killed."""

    def __init__(
        self,
        kind: str,
        argv: Sequence[str],
        listener: socket.socket,
        *,
        notice_seconds: float,
        report: Callable[..., None],
        forget: Callable[[int], object],
        report_failure: Report = by_the_loop,
        ready_seconds: float = READY_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        """Prepare; `report(event, level=..., ...)` logs failures, `forget(pid)` is called in a thread for each exit.

        A child that is not ready within `ready_seconds`, or has not left `grace_seconds` after its time, is killed.
        """
        self.stopping = asyncio.Event()
        self._kind = kind
        self._argv = argv
        self._listener = listener
        self._notice_seconds = notice_seconds
        self._ready_seconds, self._grace_seconds = ready_seconds, grace_seconds
        self._report = report
        self._forget = forget
        self._environment: Mapping[str, str] = {}
        self._inherited: tuple[int, ...] = ()
        self._alive: set[ChildProcess] = set()
        self._keepers = Background(report_failure)
        self._replacing = asyncio.Lock()
        self._lifeline = os.pipe()  # nothing is ever written: end of file tells a child that its parent is gone
        self._deadline = float("inf")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stopping.set()
        for child in self._alive:
            child.send_signal(signal.SIGKILL)
        await self._keepers.wait()
        for descriptor in self._lifeline:
            os.close(descriptor)

    async def start(self, count: int, environment: Mapping[str, str], inherited: Sequence[int] = ()) -> bool:
        """Start so many, with these descriptors open too; False when one of them does not become ready."""
        self._environment, self._inherited = environment, tuple(inherited)
        return all(await asyncio.gather(*[self._add() for _ in range(count)]))

    async def replace(self) -> None:
        """Replace each child by a new one, one after another; stop at the first that does not become ready."""
        async with self._replacing:
            for old in [child for child in self._alive if not child.leaving]:
                if self.stopping.is_set() or old not in self._alive:
                    continue
                old.leaving = True  # set first: should it die meanwhile, its place is already being filled
                if await self._add():
                    old.send_signal(signal.SIGHUP)
                elif not self.stopping.is_set():
                    old.leaving = False
                    self._report(f"{self._kind}_not_replaced", level="error", pid=old.pid)
                    return

    def stop(self, number: int, seconds: float) -> None:
        """Send the signal to all.  From now on no child is replaced; after `seconds` and some grace they are killed."""
        self.stopping.set()
        self._deadline = min(self._deadline, time.monotonic() + seconds + self._grace_seconds)
        for child in self._alive:
            child.send_signal(
                number if child.has_served else signal.SIGTERM
            )  # half-started Python would print a traceback

    async def ended(self) -> None:
        """Wait until all have exited, or until the deadline of `stop`."""
        while self._alive and time.monotonic() < self._deadline:  # noqa: ASYNC110 - the deadline moves meanwhile
            await asyncio.sleep(POLL_SECONDS)

    async def _add(self) -> bool:
        if (child := await self._start_one()) is None:
            return False
        self._keepers.start(self._kind, self._keep(child) if child.has_served else self._reap(child))
        return child.has_served

    async def _start_one(self) -> ChildProcess | None:
        try:
            child = self._spawn()
        except OSError as error:  # no memory, no process or no descriptor left
            self._report(f"{self._kind}_not_started", level="error", problem=str(error))
            return None
        await child.wait_until_ready(self._ready_seconds)
        return child

    def _spawn(self) -> ChildProcess:
        ours, theirs = os.pipe()
        descriptors = (self._listener.fileno(), self._lifeline[0], theirs)
        try:
            process = subprocess.Popen(  # noqa: S603 - our own program, without a shell
                [*self._argv, *map(str, descriptors), str(self._notice_seconds)],
                pass_fds=(*descriptors, *self._inherited),
                env=self._environment,
                process_group=0,  # Ctrl-C reaches us alone, and we pass it on
            )
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._alive.add(child := ChildProcess(process, ours))
        if self.stopping.is_set():
            child.send_signal(signal.SIGTERM)
        return child

    async def _keep(self, child: ChildProcess) -> None:
        """Fill one place until we stop, or until another child has it."""
        delay = 0.0
        while True:
            status = await self._reap(child)
            if child.leaving or self.stopping.is_set():
                return
            self._report(f"{self._kind}_died", level="error", pid=child.pid, status=status)
            delay = min(max(delay * 2, FIRST_DELAY_SECONDS), LONGEST_DELAY_SECONDS) if child.is_short_lived() else 0.0
            if (successor := await self._successor(delay)) is None:
                return
            child = successor

    async def _successor(self, delay: float) -> ChildProcess | None:
        while not await self._stops_within(delay):
            if (child := await self._start_one()) is not None:
                return child
            delay = LONGEST_DELAY_SECONDS
        return None

    async def _stops_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)
        return self.stopping.is_set()

    async def _reap(self, child: ChildProcess) -> int:
        status = await child.wait_until_exit()
        self._alive.discard(child)
        await asyncio.to_thread(self._forget, child.pid)
        return status
