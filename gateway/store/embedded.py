"""Where does state live when no Redis is given?  In two embedded Valkey servers, which outlive a killed parent.

`state` holds limits, leases and usage and loses a second of them at most (append-only file); `cache` holds answers and
may lose them all.

One gateway at a time may use a data folder: it holds the lock on the folder.  Servers left behind by a killed parent
are taken over by the next one; nothing is ever killed that was not started here.  Where nobody takes them over their
guardian stops them, when the killed parent's workers have exited too.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Self

from gateway.background import Background
from gateway.config import PREFIX, private
from gateway.store import guardian
from gateway.store.valkey_server import StoreError, ValkeyServer

__all__ = ["CACHE", "STATE", "Embedded", "FolderInUse", "StoreError", "borrow"]

ALWAYS = {
    "port": "0",
    "unixsocketperm": "700",
    "save": "",  # no snapshots: state has its append-only file, the cache may be lost
}
STATE = ALWAYS | {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
    # About four million usage records, or 90 days of 40 000 calls a day; When full, it refuses writes.
    "maxmemory": "1gb",
}
CACHE = ALWAYS | {
    "maxmemory-policy": "allkeys-lru",
    "maxmemory": "256mb",
}

CHECK_SECONDS = 0.1  # how often it is checked that a server lives; one that died is back well within a second
STEP_SECONDS = 0.01
RETRY_SECONDS = 10.0  # the longest wait between two attempts to start a server that will not start
GUARD_SECONDS = 10.0  # how long the servers of a killed gateway wait for the next one
DUTY_SECONDS = 1.0  # how often it is checked that the guardian lives
USE_SECONDS = 30.0  # how long to wait for a guardian that is stopping servers at this moment
LONGEST_SOCKET_PATH = 100  # bytes; the kernel takes 107 on Linux and 103 on macOS


class FolderInUse(StoreError):
    """Another process holds the data folder."""


class Embedded:
    """Both servers of one data folder, held while the context is open and stopped at its end."""

    def __init__(self, data_dir: Path, *, guard_seconds: float = GUARD_SECONDS, **patience: float) -> None:
        """`guard_seconds` is how long the servers outlive a killed gateway; `patience` is `ValkeyServer`'s."""
        self._folder, self._guard_seconds = data_dir.absolute(), guard_seconds
        self._sockets = _socket_folder(self._folder)
        self._state = ValkeyServer("state", self._folder / "state", self._sockets, STATE, **patience)
        self._cache = ValkeyServer("cache", self._folder / "cache", self._sockets, CACHE, **patience)
        self._locks: dict[str, int] = {}

    @property
    def state_url(self) -> str:
        return self._state.url

    @property
    def cache_url(self) -> str:
        return self._cache.url

    @property
    def worker_lock(self) -> int:
        """What a worker inherits: as long as it is open the servers stay, also without a parent."""
        return self._locks["workers"]

    async def __aenter__(self) -> Self:
        """Lock the folder and start both servers, or take them over.  Raises `FolderInUse` or `StoreError`."""
        try:
            self._make_folders()
            self._take_folder()
            await self._lock_shared()
            await asyncio.gather(self._state.start(), self._cache.start(), self._ensure_guardian())
        except BaseException as error:
            await self._leave()
            if isinstance(error, OSError):
                raise StoreError(f"the embedded store cannot use {self._folder}: {error}") from error
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    def watch(self, background: Background, report: Callable[..., None]) -> None:
        """Restart a server that has died; `report(event, store=..., ...)` logs each restart."""
        background.keep("state store", partial(_watch, self._state, report))
        background.keep("cache store", partial(_watch, self._cache, report))
        background.keep("store guardian", self._watch_guardian)

    async def join(self) -> None:
        """Use the servers that another process runs, until `part`.  Raises `StoreError`."""
        try:
            await self._lock_shared()
        except OSError as error:
            raise StoreError(f"the embedded store cannot use {self._folder}: {error}") from error
        self._state.find()
        self._cache.find()

    def part(self) -> None:
        """Let go of every lock."""
        for descriptor in self._locks.values():
            os.close(descriptor)
        self._locks.clear()

    def _make_folders(self) -> None:
        if not _is_socket_path(self._sockets / "state.sock"):
            raise StoreError(f"{self._sockets} is too long for a socket, or no text; set TMPDIR to a shorter path")
        private.take(self._folder)
        for folder in (self._folder / "state", self._folder / "cache", self._sockets):
            private.make(folder)

    def _take_folder(self) -> None:
        path = self._folder / "lock"
        if (held := private.lock(path)) is None:
            raise FolderInUse(f"the data folder {self._folder} is in use by process {path.read_text().strip()}")
        self._locks["lock"] = held
        os.truncate(held, 0)
        os.write(held, f"{os.getpid()}\n".encode())

    async def _lock_shared(self) -> None:
        """Keep the guardian from stopping the servers; where it is just doing that, wait for it."""
        deadline = time.monotonic() + USE_SECONDS
        for name in ("users", "workers"):
            while (held := private.lock(self._folder / name, fcntl.LOCK_SH)) is None:
                if time.monotonic() > deadline:
                    raise StoreError(f"the servers of {self._folder} do not end; end them, and start again")
                await asyncio.sleep(STEP_SECONDS)
            self._locks[name] = held

    async def _ensure_guardian(self) -> None:
        """Start a guardian unless one is on duty, and return when it is."""
        duty = private.lock(self._folder / "guardian")
        if duty is None:
            return
        os.close(duty)
        argv = [sys.executable, "-IS", guardian.__file__, str(self._folder), str(self._guard_seconds)]
        environment = {name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)}
        with contextlib.suppress(OSError):  # no process can be started: calls need none, and it is tried again
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own program, without a shell; waited for below
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env=environment, cwd="/", start_new_session=True,
            )  # fmt: skip
            await asyncio.to_thread(process.wait)

    async def _watch_guardian(self) -> None:
        while True:
            await asyncio.sleep(DUTY_SECONDS)
            await self._ensure_guardian()

    async def _leave(self) -> None:
        """Stop the servers, unless workers of a killed parent still use them: then their guardian does."""
        if "workers" in self._locks:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(self._locks["workers"], fcntl.LOCK_EX | fcntl.LOCK_NB)
                await asyncio.gather(self._state.stop(), self._cache.stop())
        self.part()


@contextlib.asynccontextmanager
async def borrow(data_dir: Path) -> AsyncIterator[Embedded]:
    """Use the servers of the gateway that runs on this folder, or start them for the duration.  Raises `StoreError`."""
    stores = Embedded(data_dir)
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(stores)
        except FolderInUse:
            await stores.join()
            stack.callback(stores.part)
        yield stores


async def _watch(server: ValkeyServer, report: Callable[..., None]) -> None:
    delay = CHECK_SECONDS
    while True:
        await asyncio.sleep(delay)
        if server.is_alive() and server.is_reachable():
            continue
        try:
            await server.start()
        except (OSError, StoreError) as error:
            delay = min(delay * 2, RETRY_SECONDS)
            report("store_failed", store=server.name, problem=str(error))
        else:
            delay = CHECK_SECONDS
            report("store_restarted", store=server.name)


def _socket_folder(folder: Path) -> Path:
    """Choose a folder in the data folder, or one with a short name where that is too long for a socket, or not text."""
    if _is_socket_path(folder / "run" / "state.sock"):
        return folder / "run"
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(_temporary()) / f"tokenhot-gateway-{os.getuid()}-{digest}"


def _is_socket_path(path: Path) -> bool:
    try:
        return len(os.fspath(path).encode()) <= LONGEST_SOCKET_PATH
    except UnicodeEncodeError:  # a URL is text
        return False


def _temporary() -> str:
    """The folder for temporary files; where none takes a file, the one that would."""
    try:
        return tempfile.gettempdir()
    except OSError:
        return "/tmp"  # noqa: S108 - what is made in it is private, or refused
