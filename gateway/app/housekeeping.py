"""What does a worker look after that changes by itself?  Files, gauges, descriptors, and what bodies leave behind."""

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
OUT_OF_FILES = "raise the limit of open files (ulimit -n, LimitNOFILE=, nofile), or run more workers"

NO_ROOM = "make room in the temporary folder (TMPDIR); calls go on, and /metrics lacks what was counted since"


async def keep_house(parts: Parts) -> None:
    """Look at everything, again and again."""
    trimmer, files, written = MallocTrimmer(), OpenFiles(parts), True
    while True:
        tell(parts, parts.clients, parts.clients.refresh())
        parts.metrics.file_ignored.set(parts.clients.problem is not None or parts.key.problem is not None)
        files.look()
        written = look_at_numbers(parts, before=written)
        parts.metrics.buffered.set(parts.memory_budget.held)
        parts.metrics.buffered_share.set(parts.memory_budget.held / parts.settings.max_buffered_bytes)
        trimmer.tick(parts.memory_budget.released)
        await asyncio.sleep(TICK_SECONDS)


async def follow_key(parts: Parts) -> None:
    """Look at the file of the upstream's key, which takes as long as the upstream takes to judge a new one."""
    while True:
        tell(parts, parts.key, await parts.key.refresh())
        await asyncio.sleep(TICK_SECONDS)


def tell(parts: Parts, file: Watched[Clients] | UpstreamKey, change: Literal["same", "changed", "failed"]) -> None:
    """Say what has changed, and what could not be taken."""
    match change:
        case "changed":
            parts.log.event("reloaded", file=file.path.name)
        case "failed":
            parts.metrics.reload_failures.inc()
            parts.log.event("reload_failed", level="error", file=file.path.name, problem=file.problem)


def look_at_numbers(parts: Parts, *, before: bool) -> bool:
    """Write those that are held in memory, and say when that begins and ends."""
    written = write_again()
    if before and not written:
        parts.log.event("metrics_unwritten", level="error", advice=NO_ROOM)
    elif written and not before:
        parts.log.event("recovered", what="metrics")
    return written


class OpenFiles:
    """Whether this process may open one more.

    The event loop says nothing when it may not: it takes new connections and closes them at once.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._out = False

    def look(self) -> None:
        """Count each look that finds none left; say it at the first one, and when it is over."""
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
