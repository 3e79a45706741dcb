"""How are the processes behind one listening socket kept: started, replaced when they die, and told to leave?

Behind its own arguments a child gets three descriptors and a number; `gateway.processes.worker` says what they mean.
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

READY_SECONDS = 30.0  # a child that does not serve by then never will
QUICK_DEATH_SECONDS = 1.0  # whoever serves no longer than that is replaced ever more slowly
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 10.0
GRACE_SECONDS = 12.0  # on top of what a child was given to leave; then it is killed
LOOK_SECONDS = 0.02


class Child:
    """One process, and the pipe on which it says one byte when it serves, and whose end says that it is dead."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: int) -> None:
        self.pid = process.pid
        self.leaving = False  # another has its place
        self._process = process
        self._pipe = pipe
        self._served_since: float | None = None

    async def comes_to_serve(self) -> None:
        """Wait until it serves, or has died; one that does neither in time is killed."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                if await self._hear():
                    self._served_since = time.monotonic()
        except TimeoutError:
            self.tell(signal.SIGKILL)

    async def dies(self) -> int:
        """Wait for its end, and return its exit status; to be called once."""
        await self._hear()
        os.close(self._pipe)
        return self._process.wait()

    @property
    def has_served(self) -> bool:
        return self._served_since is not None

    def has_just_come(self) -> bool:
        """Tell whether it has hardly served, or not at all."""
        return self._served_since is None or time.monotonic() - self._served_since < QUICK_DEATH_SECONDS

    def tell(self, number: int) -> None:
        """Send a signal, if there is still somebody to receive it."""
        self._process.send_signal(number)

    async def _hear(self) -> bytes:
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._pipe, heard.set)
        try:
            await heard.wait()
        finally:
            loop.remove_reader(self._pipe)
        return os.read(self._pipe, 1)


class Children:
    """Processes of one kind; the end of the context is the end of them all."""

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
    ) -> None:
        """Prepare: `report(event, level=..., ...)` hears what goes wrong, `forget(pid)`, in a thread, whose end."""
        self.stopping = asyncio.Event()
        self._kind = kind
        self._argv = argv
        self._listener = listener
        self._notice_seconds = notice_seconds
        self._report = report
        self._forget = forget
        self._environment: Mapping[str, str] = {}
        self._inherited: tuple[int, ...] = ()
        self._living: set[Child] = set()
        self._keepers = Background(report_failure)
        self._replacing = asyncio.Lock()
        self._lifeline = os.pipe()  # nothing is ever written: its end says that we are gone
        self._deadline = float("inf")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stopping.set()
        for child in self._living:
            child.tell(signal.SIGKILL)
        await self._keepers.wait()
        for descriptor in self._lifeline:
            os.close(descriptor)

    async def start(self, count: int, environment: Mapping[str, str], inherited: Sequence[int] = ()) -> bool:
        """Start so many, with these descriptors open too; False when one of them does not come to serve."""
        self._environment, self._inherited = environment, tuple(inherited)
        return all(await asyncio.gather(*[self._add() for _ in range(count)]))

    async def replace(self) -> None:
        """Put a new child in the place of each, one after another; stop at the first that does not come to serve."""
        async with self._replacing:
            for old in [child for child in self._living if not child.leaving]:
                if self.stopping.is_set() or old not in self._living:
                    continue
                old.leaving = True  # said first: should it die meanwhile, its place is already being filled
                if await self._add():
                    old.tell(signal.SIGHUP)
                elif not self.stopping.is_set():
                    old.leaving = False
                    self._report(f"{self._kind}_not_replaced", level="error", pid=old.pid)
                    return

    def stop(self, number: int, seconds: float) -> None:
        """Pass the signal on to all.  From now on nobody is replaced; after `seconds` and some grace, kill."""
        self.stopping.set()
        self._deadline = min(self._deadline, time.monotonic() + seconds + GRACE_SECONDS)
        for child in self._living:
            child.tell(number if child.has_served else signal.SIGTERM)  # half-started Python would print a traceback

    async def ended(self) -> None:
        """Wait until all have left, or until their time is over."""
        while self._living and time.monotonic() < self._deadline:  # noqa: ASYNC110 - the deadline moves meanwhile
            await asyncio.sleep(LOOK_SECONDS)

    async def _add(self) -> bool:
        if (child := await self._bring_up()) is None:
            return False
        self._keepers.start(self._kind, self._keep(child))
        return child.has_served

    async def _bring_up(self) -> Child | None:
        try:
            child = self._spawn()
        except OSError as error:  # no memory, no process or no descriptor left
            self._report(f"{self._kind}_not_started", level="error", problem=str(error))
            return None
        await child.comes_to_serve()
        return child

    def _spawn(self) -> Child:
        ours, theirs = os.pipe()
        told = (self._listener.fileno(), self._lifeline[0], theirs)
        try:
            process = subprocess.Popen(  # noqa: S603 - our own program, without a shell
                [*self._argv, *map(str, told), str(self._notice_seconds)],
                pass_fds=(*told, *self._inherited),
                env=self._environment,
                process_group=0,  # Ctrl-C reaches us alone, and we pass it on
            )
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._living.add(child := Child(process, ours))
        if self.stopping.is_set():
            child.tell(signal.SIGTERM)
        return child

    async def _keep(self, child: Child) -> None:
        """Fill one place until we stop, or until another child has it."""
        delay = 0.0
        while True:
            status = await self._bury(child)
            if child.leaving or self.stopping.is_set():
                return
            self._report(f"{self._kind}_died", level="error", pid=child.pid, status=status)
            delay = min(max(delay * 2, FIRST_DELAY_SECONDS), LONGEST_DELAY_SECONDS) if child.has_just_come() else 0.0
            if (successor := await self._successor(delay)) is None:
                return
            child = successor

    async def _successor(self, delay: float) -> Child | None:
        while not await self._stops_within(delay):
            if (child := await self._bring_up()) is not None:
                return child
            delay = LONGEST_DELAY_SECONDS
        return None

    async def _stops_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)
        return self.stopping.is_set()

    async def _bury(self, child: Child) -> int:
        status = await child.dies()
        self._living.discard(child)
        await asyncio.to_thread(self._forget, child.pid)
        return status
