"""What does the process pool do with child processes that crash, hang or cannot be started?"""

import contextlib
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from gateway.processes.process_pool import ProcessPool
from tests.support.waiting import until

LEAVES = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL); "  # whatever we were started with
SERVES = "import os, signal, sys; os.write(int(sys.argv[3]), b'1'); "
STAYS = "import signal; signal.pause()"


class Reports(list[tuple[str, dict[str, Any]]]):
    """What was reported, and when."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.forgotten: list[int] = []

    def report(self, event: str, **fields: Any) -> None:
        self.times.append(time.monotonic())
        self.append((event, fields))


@contextlib.asynccontextmanager
async def children(reports: Reports, *argv: str, **options: Any) -> AsyncIterator[ProcessPool]:
    """Prepare children of kind `worker`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with ProcessPool(
            "worker",
            argv,
            listener,
            notice_seconds=0,
            report=reports.report,
            forget=reports.forgotten.append,
            **options,
        ) as found:
            yield found


def python(code: str) -> tuple[str, ...]:
    """Write the arguments of a child that runs the code."""
    return sys.executable, "-IS", "-c", code


async def test_a_child_that_dies_at_once_is_replaced_ever_more_slowly() -> None:
    """X4: no crash loop: each quick death doubles the backoff."""
    reports = Reports()
    async with children(reports, *python(SERVES)) as found:
        assert await found.start(1, {})
        await until(lambda: len(reports) >= 4)
    waits = [late - early for early, late in zip(reports.times, reports.times[1:], strict=False)]
    assert 0.1 < waits[0] < waits[1] < waits[2]
    assert {"worker_died"} == {event for event, _ in reports}
    assert len(reports) <= len(reports.forgotten)


async def test_a_child_that_is_not_ready_in_time_is_killed() -> None:
    """X4: a child that hangs in its start is a failed start."""
    async with children(Reports(), *python(STAYS), ready_seconds=0.2) as found:
        assert not await found.start(2, {})
        await until(lambda: not found._alive)


async def test_a_child_that_cannot_be_started_is_reported() -> None:
    """X4: the system's refusal to start a process is a failed start and one line, not a traceback."""
    reports = Reports()
    async with children(reports, "/nonexistent") as found:
        assert not await found.start(1, {})
    assert ["worker_not_started"] == [event for event, _ in reports]


async def test_a_child_that_does_not_leave_in_time_is_killed() -> None:
    """X1: the time to leave is bounded even for a child that ignores every signal."""
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + SERVES + STAYS
    reports = Reports()
    async with children(reports, *python(deaf), grace_seconds=0.1) as found:
        assert await found.start(1, {})
        began = time.monotonic()
        found.stop(signal.SIGTERM, 0.1)
        await found.ended()
        assert found._alive
    assert 0.2 <= time.monotonic() - began < 2
    assert not found._alive
    assert [] == reports


async def test_old_children_stay_when_new_ones_cannot_start() -> None:
    """X1: a replacement that does not become ready leaves the old children in their places."""
    reports = Reports()
    async with children(reports, *python(SERVES + STAYS)) as found:
        assert await found.start(2, {})
        before = set(found._alive)
        found._argv = ("/nonexistent",)
        await found.replace()
        assert before == found._alive
    assert ["worker_not_started", "worker_not_replaced"] == [event for event, _ in reports]


async def test_a_failed_replacement_leaves_no_child_too_many() -> None:
    """X1: a new child that dies before it is ready is not started again; the old ones keep their places, and no more."""
    reports = Reports()
    async with children(reports, *python(LEAVES + SERVES + STAYS)) as found:
        assert await found.start(2, {})
        before = set(found._alive)
        whole, found._argv = found._argv, python("raise SystemExit(3)")
        await found.replace()
        found._argv = whole
        await until(lambda: before == found._alive)
        await found.replace()
        await until(lambda: len(found._alive) == 2 and not before & found._alive)
    assert ["worker_not_replaced"] == [event for event, _ in reports]
