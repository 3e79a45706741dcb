"""How much CPU time has a whole process tree taken, and how much memory?

Of each process the kernel counts the time of its own, and that of the children it has waited for, with theirs.  The
sum of both over everybody alive therefore also holds those who have ended, as long as somebody waited for them.
"""

import contextlib
import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
# Put before a command: a descendant that loses its parent stays in the tree (36 is PR_SET_CHILD_SUBREAPER).
ADOPTING = (sys.executable, "-c", "import ctypes, os, sys; ctypes.CDLL(None).prctl(36, 1, 0, 0, 0); os.execvp(sys.argv[1], sys.argv[1:])")  # fmt: skip
ROLES = ("worker", "parent", "store", "rest")
VANISHED = (FileNotFoundError, ProcessLookupError)  # between opening and reading it is the second


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """One process at one moment, in ticks."""

    role: str
    own: int
    waited_for: int


NOBODY = Times(role="rest", own=0, waited_for=0)
# By pid and start, because a pid may come again.
Snapshot = Mapping[tuple[int, int], Times]


def members(root: int) -> list[int]:
    """The pids of the tree, parents before their children."""
    children: dict[int, list[int]] = {}
    for pid in [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]:
        with contextlib.suppress(*VANISHED):
            children.setdefault(int(_stat(pid)[1]), []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def snapshot(root: int) -> Snapshot:
    """Everybody's times.  Raises an `OSError` when the root is gone.

    Who ends while we look is missing after its parent was read, and we look again; from the bottom up it would count
    twice.
    """
    while True:
        _stat(root)
        with contextlib.suppress(*VANISHED):
            return dict(_look(pid, root) for pid in members(root))


def cpu_seconds(before: Snapshot, after: Snapshot) -> dict[str, float]:
    """CPU time between two looks, by role.  Who ended in between has been waited for, and counts as `rest`."""
    ticks: Counter[str] = Counter()
    waited_for = 0
    for process, now in after.items():
        then = before.get(process, NOBODY)
        ticks[now.role] += now.own - then.own
        waited_for += now.waited_for - then.waited_for
    gone = [before[process] for process in before.keys() - after.keys()]
    # What they had taken before is no news; and nobody takes less than nothing, even if no parent waited.
    ticks["rest"] += max(0, waited_for - sum(one.own + one.waited_for for one in gone))
    return {role: ticks[role] / TICKS_PER_SECOND for role in ROLES}


def kill(everybody: Snapshot) -> None:
    """Kill those of the snapshot who are still there."""
    for pid, start in everybody:
        with contextlib.suppress(*VANISHED):
            if int(_stat(pid)[19]) == start:
                os.kill(pid, signal.SIGKILL)


def peak_megabytes(root: int) -> float:
    """The sum of the peaks of everybody alive (VmHWM).  Pages that two of them share count twice."""
    kilobytes = 0
    for pid in members(root):
        with contextlib.suppress(*VANISHED):
            peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
            kilobytes += int(peak[1]) if peak else 0  # a process that has ended has none
    return kilobytes / 1024


def machine_seconds() -> float:
    """CPU time that the whole machine has spent on anything, what its own host took away included."""
    user, nice, system, _idle, _waiting, *rest = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + sum(rest)) / TICKS_PER_SECOND


def _stat(pid: int) -> list[str]:
    """The fields behind the name, which may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _look(pid: int, root: int) -> tuple[tuple[int, int], Times]:
    fields = _stat(pid)
    own, waited_for = (int(fields[at]) + int(fields[at + 1]) for at in (11, 13))
    return (pid, int(fields[19])), Times(role=_role(pid, root), own=own, waited_for=waited_for)


def _role(pid: int, root: int) -> str:
    program = Path(f"/proc/{pid}/cmdline").read_bytes()
    if pid == root:
        return "parent"
    return (
        "worker"
        if re.search(rb"-m\0gateway\.(processes\.)?worker", program)
        else "store"
        if b"valkey" in program
        else "rest"
    )
