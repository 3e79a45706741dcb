"""What does a worker check again and again?

Four times a second: reload the clients file, set gauges, probe for free file descriptors, write metrics that are held
in memory, and trim memory that bodies have freed.  A task of its own watches the file of the upstream's key.
"""

import asyncio
import errno
import os
import resource
from typing import Literal

from gateway.config import Clients, Watched
from gateway.memory import MallocTrimmer, MemoryBudget
from gateway.telemetry import Metrics, logs, write_again
from gateway.upstream import UpstreamKey

TICK_SECONDS = 0.25
OUT_OF_FILES = "raise the limit of open files (ulimit -n, LimitNOFILE=, nofile), or run more workers"

NO_ROOM = "make room in the temporary folder (TMPDIR); calls go on, and /metrics lacks what was counted since"


class Housekeeping:
    """The checks of one worker."""

    def __init__(
        self,
        *,
        clients: Watched[Clients],
        key: UpstreamKey,
        memory_budget: MemoryBudget,
        metrics: Metrics,
        log: logs.Log,
    ) -> None:
        self._clients, self._key, self._memory_budget = clients, key, memory_budget
        self._metrics, self._log = metrics, log

    async def run(self) -> None:
        """Run every check, once a tick."""
        trimmer, files, written = MallocTrimmer(), OpenFiles(self._metrics, self._log), True
        while True:
            self._report(self._clients, self._clients.refresh())
            self._metrics.file_ignored.set(self._clients.problem is not None or self._key.problem is not None)
            files.check()
            written = self._write_metrics(before=written)
            self._metrics.buffered.set(self._memory_budget.held)
            self._metrics.buffered_share.set(self._memory_budget.held / self._memory_budget.limit)
            trimmer.tick(self._memory_budget.released)
            await asyncio.sleep(TICK_SECONDS)

    async def watch_key(self) -> None:
        """Reload the file of the upstream's key; a tick lasts for as long as the upstream takes to check a new key."""
        while True:
            self._report(self._key, await self._key.refresh())
            await asyncio.sleep(TICK_SECONDS)

    def _report(self, file: Watched[Clients] | UpstreamKey, change: Literal["same", "changed", "failed"]) -> None:
        """Log a reload, or that the changed file did not load."""
        match change:
            case "changed":
                self._log.event("reloaded", file=file.path.name)
            case "failed":
                self._metrics.reload_failures.inc()
                self._log.event("reload_failed", level="error", file=file.path.name, problem=file.problem)

    def _write_metrics(self, *, before: bool) -> bool:
        """Write metrics that are held in memory to their files; log when they cannot be, and when they can again."""
        written = write_again()
        if before and not written:
            self._log.event("metrics_unwritten", level="error", advice=NO_ROOM)
        elif written and not before:
            self._log.event("recovered", what="metrics")
        return written


class OpenFiles:
    """Whether this process may open one more.

    The event loop reports nothing when it may not: it takes new connections and closes them at once.
    """

    def __init__(self, metrics: Metrics, log: logs.Log) -> None:
        self._metrics, self._log = metrics, log
        self._out = False

    def check(self) -> None:
        """Count each check that finds none left; log the first one, and the recovery."""
        before, self._out = self._out, none_left()
        if self._out:
            self._metrics.out_of_files.inc()
        if self._out and not before:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            self._log.event("out_of_files", level="error", open_files=limit, advice=OUT_OF_FILES)
        elif before and not self._out:
            self._log.event("recovered", what="open files")


def none_left() -> bool:
    """Try it: the lowest free number costs a microsecond."""
    try:
        os.close(os.open("/", os.O_RDONLY))
    except OSError as error:
        return error.errno in {errno.EMFILE, errno.ENFILE}  # of this process, of the machine
    return False
