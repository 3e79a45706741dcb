"""Where does a process write its metrics, so that the parent can add them up, and what if the disk is full?

Each process maps files of prometheus_client's form.  The library makes them longer than what is on disk, and on a full
disk the first touch of such a page ends the process by SIGBUS.  Here every page is allocated before it is touched.
Where there is none, or no folder, the file is held in memory: calls go on and are counted, the parent reads what was
written last, and all of it again as soon as there is room.
"""

import contextlib
import mmap
import os
import struct
import threading
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from prometheus_client.mmap_dict import MmapedDict, mmap_key

FIRST_BYTES = 1 << 14
ENTRY_BYTES = 28  # at most, on top of its key
DEAD = 0  # the process id under which the sums of those that have ended stand


class MetricFile(MmapedDict):
    """The library's dictionary of numbers, on pages that are allocated."""

    held: ClassVar[list["MetricFile"]] = []  # in memory; the library keeps its files by process too

    def __init__(self, filename: str) -> None:
        self._fname, self._positions = filename, {}
        self._capacity, self._used = FIRST_BYTES, 8
        self._take(mmap.mmap(-1, self._capacity))
        self._m[:4] = self._used.to_bytes(4, "little")
        self.held.append(self)
        self.write()

    def cell(self, key: str) -> int:
        """Where in `cells` the number of this key stands, from now on for good."""
        if key not in self._positions:
            self._init_value(key)
        position: int = self._positions[key]
        return position // 8

    def write(self) -> bool:
        """Bring what is held in memory to disk, if there is room; whether it is there."""
        with contextlib.suppress(OSError):
            pages = mapped(self._fname, self._capacity)
            pages[8 : self._used] = self._m[8 : self._used]
            pages[:8] = self._m[:8]  # last: a reader trusts this length
            self._take(pages)
            self.held.remove(self)
        return self not in self.held

    def _take(self, pages: mmap.mmap) -> None:
        self._m, self.cells = pages, memoryview(pages).cast("d")

    def _init_value(self, key: str) -> None:
        while self._used + len(key.encode()) + ENTRY_BYTES > self._capacity:
            self._grow()
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _grow(self) -> None:
        self._capacity *= 2
        before = self._m
        self._take(mmap.mmap(-1, self._capacity))
        self._m[: self._used] = before[: self._used]
        if self not in self.held:
            self.held.append(self)
        self.write()


class MetricValue:
    """One number of this process, in its file: the library's own value at a tenth of the price.

    That looks for a fork and packs two doubles each time; a process of ours never forks, and its timestamp is always 0.
    """

    _multiprocess = True
    _lock: ClassVar[threading.Lock] = threading.Lock()
    _files: ClassVar[dict[str, MetricFile]] = {}

    def __init__(  # noqa: PLR0917  the library's signature
        self,
        kind: str,
        metric: str,
        sample: str,
        labels: list[str],
        label_values: list[str],
        text: str,
        multiprocess_mode: str = "",
        **_: object,
    ) -> None:
        name = f"{kind}_{multiprocess_mode}" if kind == "gauge" else kind
        with self._lock:
            if name not in self._files:
                path = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"], f"{name}_{os.getpid()}.db")
                self._files[name] = MetricFile(str(path))
            self._file = self._files[name]
            self._cell = self._file.cell(mmap_key(metric, sample, labels, label_values, text))

    def inc(self, amount: float) -> None:
        with self._lock:
            self._file.cells[self._cell] += amount

    def set(self, value: float, timestamp: float | None = None) -> None:  # noqa: ARG002  the library's signature
        with self._lock:
            self._file.cells[self._cell] = value

    def get(self) -> float:
        return self._file.cells[self._cell]

    def set_exemplar(self, exemplar: object) -> None:
        """Files have no room for one."""

    def get_exemplar(self) -> None:
        """Files have no room for one."""


def mapped(path: str, size: int) -> mmap.mmap:
    """Map a file of so many bytes that all have their room.  Raises `OSError`."""
    new = not Path(path).exists()
    where = Path(f"{path}.draft" if new else path)  # a reader never meets an empty file
    descriptor = os.open(where, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        allocate(descriptor, size)
        pages = mmap.mmap(descriptor, size)
        if new:
            where.replace(path)
    except OSError:
        if new:
            where.unlink()
        raise
    finally:
        os.close(descriptor)
    return pages


def allocate(descriptor: int, size: int) -> None:
    """Give a file its room now.  Raises `OSError` where there is none."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:  # pragma: no cover - macOS
        length = os.fstat(descriptor).st_size
        os.pwrite(descriptor, bytes(size - length), length)


def write_again() -> bool:
    """Try to write what is held in memory; whether all is written."""
    for file in MetricFile.held.copy():
        file.write()
    return not MetricFile.held


def merge_dead(folder: Path, pid: int) -> None:
    """Add the counts of a process that has exited to the sums of the dead, and remove its files.

    Readers must wait meanwhile.  Where the sums cannot be written its files stay, and count.
    """
    for kind in ("counter", "histogram"):
        with contextlib.suppress(OSError):
            _add(folder / f"{kind}_{DEAD}.db", folder / f"{kind}_{pid}.db")
    for gauge in folder.glob(f"gauge_live*_{pid}.db"):
        gauge.unlink(missing_ok=True)


def _add(sums: Path, ended: Path) -> None:
    values: dict[str, float] = defaultdict(float)
    for path in (ended, sums) if sums.exists() else (ended,):
        for key, value, _, _ in MmapedDict.read_all_values_from_file(path):  # type: ignore[no-untyped-call]
            values[key] += value
    draft = sums.with_suffix(".draft")
    draft.write_bytes(packed(values))
    draft.replace(sums)
    ended.unlink()


def packed(values: Mapping[str, float]) -> bytes:
    """Numbers in the form of the library's files: how many bytes are used, and entries, each padded to eight."""
    entries = b"".join(_entry(key.encode(), value) for key, value in values.items())
    return struct.pack("ii", 8 + len(entries), 0) + entries


def _entry(key: bytes, value: float) -> bytes:
    padded = key + b" " * (8 - (len(key) + 4) % 8)
    return struct.pack(f"i{len(padded)}sdd", len(key), padded, value, 0.0)
