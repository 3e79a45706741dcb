"""What does a worker check again and again?

Four times a second: reload the clients file, set gauges, probe for free file descriptors, write metrics that are held
in memory, and trim memory that bodies have freed.  Tasks of their own watch the file of the upstream's key, and share
the names of the vendor's models with the other workers.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
from typing import TYPE_CHECKING, Literal

from gateway.memory import MallocTrimmer
from gateway.telemetry import write_again

if TYPE_CHECKING:  # it imports us
    from gateway.app.app import Parts
    from gateway.config import Clients, Watched
    from gateway.upstream import UpstreamKey

TICK_SECONDS = 0.25
SHARE_SECONDS = 60.0
OUT_OF_FILES = "raise the limit of open files (ulimit -n, LimitNOFILE=, nofile), or run more workers"

NO_ROOM = "make room in the temporary folder (TMPDIR); calls go on, and /metrics lacks what was counted since"


async def run_housekeeping(parts: Parts) -> None:
    """Run every check, once a tick."""
    trimmer, files, written = MallocTrimmer(), OpenFiles(parts), True
    while True:
        report_reload(parts, parts.clients, parts.clients.refresh())
        parts.metrics.file_ignored.set(parts.clients.problem is not None or parts.key.problem is not None)
        files.check()
        written = write_metrics(parts, before=written)
        parts.metrics.buffered.set(parts.memory_budget.held)
        parts.metrics.buffered_share.set(parts.memory_budget.held / parts.settings.max_buffered_bytes)
        trimmer.tick(parts.memory_budget.released)
        await asyncio.sleep(TICK_SECONDS)


async def watch_key(parts: Parts) -> None:
    """Reload the file of the upstream's key; a tick lasts for as long as the upstream takes to check a new key."""
    while True:
        report_reload(parts, parts.key, await parts.key.refresh())
        await asyncio.sleep(TICK_SECONDS)


async def share_models(parts: Parts) -> None:
    """Keep the names of the vendor's models the same here and in the state store."""
    while True:
        await parts.vendor_models.wait(SHARE_SECONDS)
        await parts.vendor_models.sync(parts.state_store)


def report_reload(
    parts: Parts, file: Watched[Clients] | UpstreamKey, change: Literal["same", "changed", "failed"]
) -> None:
    """Log a reload, or that the changed file did not load."""
    match change:
        case "changed":
            parts.log.event("reloaded", file=file.path.name)
        case "failed":
            parts.metrics.reload_failures.inc()
            parts.log.event("reload_failed", level="error", file=file.path.name, problem=file.problem)


def write_metrics(parts: Parts, *, before: bool) -> bool:
    """Write metrics that are held in memory to their files; log when they cannot be, and when they can again."""
    written = write_again()
    if before and not written:
        parts.log.event("metrics_unwritten", level="error", advice=NO_ROOM)
    elif written and not before:
        parts.log.event("recovered", what="metrics")
    return written


class OpenFiles:
    """Whether this process may open one more.

    The event loop reports nothing when it may not: it takes new connections and closes them at once.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._out = False

    def check(self) -> None:
        """Count each check that finds none left; log the first one, and the recovery."""
        before, self._out = self._out, none_left()
        if self._out:
            self._parts.metrics.out_of_files.inc()
        if self._out and not before:
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            self._parts.log.event("out_of_files", level="error", open_files=limit, advice=OUT_OF_FILES)
        elif before and not self._out:
            self._parts.log.event("recovered", what="open files")


def none_left() -> bool:
    """Try it: the lowest free number costs a microsecond."""
    try:
        os.close(os.open("/", os.O_RDONLY))
    except OSError as error:
        return error.errno in {errno.EMFILE, errno.ENFILE}  # of this process, of the machine
    return False
