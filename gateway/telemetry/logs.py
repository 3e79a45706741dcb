"""How does one JSON line a call reach stdout without ever stalling the loop?

Lines are encoded once and put into a bounded deque; a thread writes them, many at a time.  When the reader of stdout
stalls, lines are dropped and counted rather than awaited (row M5 of docs/reliability.md).  What other libraries log
goes the same way, by class of exception and place in the code, never by its text, which could hold a key or a prompt.
"""

import datetime as dt
import logging
import os
import select
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
MAX_LINES = 10_000
FIELD_CHARS = 256
GATHER_SECONDS = 0.02  # a thread that wakes for each line costs more than the line


class CallLine(msgspec.Struct, kw_only=True, gc=False):
    """The access line: one for each call, in the order in which it is written."""

    time: dt.datetime = msgspec.field(default_factory=partial(dt.datetime.now, dt.UTC))
    level: str = "info"
    event: str = "call"
    request_id: str
    client: str
    model: str
    method: str
    status: int
    outcome: str
    cache: str
    attempts: int
    duration_ms: float
    overhead_ms: float
    upstream_ms: float
    first_byte_ms: float | None
    bytes_in: int
    bytes_out: int
    tokens_in: int
    tokens_out: int
    usage: str
    served_model: str | None  # that the answer names
    upstream_request_id: str | None  # the vendor's own
    task: str | None  # the id of a task that it asks for, or has created
    reason: str | None  # of the error the call ended with
    upstream_status: int | None  # of the upstream's last answer
    key_fingerprint: str | None  # the first characters of the key's hash in the clients file
    client_address: str | None


class Log:
    """A queue of JSON lines with one writing thread behind it."""

    def __init__(
        self, level: str = "info", *, fd: int | None = None, on_drop: Callable[[int], None] | None = None
    ) -> None:
        self.on_drop = on_drop
        self._threshold = LEVELS[level]
        self._fd = sys.stdout.fileno() if fd is None else fd
        self._lines: deque[bytes] = deque()
        self._torn = False  # the last line that was written is not whole
        self._wake, self._stop = threading.Event(), threading.Event()
        self._encode = msgspec.json.Encoder().encode
        self._room = select.poll()  # unlike select() it takes descriptors above 1023
        self._room.register(self._fd, select.POLLOUT)
        self._thread = threading.Thread(target=self._write_all, name="log", daemon=True)
        self._thread.start()

    def event(self, event: str, *, level: str = "info", **fields: object) -> None:
        """Write one line: time, level, event and the fields."""
        if LEVELS[level] >= self._threshold:
            values = {name: whole(field) if isinstance(field, str) else field for name, field in fields.items()}
            self._put({"time": dt.datetime.now(dt.UTC), "level": level, "event": event, **values})

    def call(self, line: CallLine) -> None:
        """Write an access line."""
        if LEVELS["info"] >= self._threshold:
            self._put(line)

    def _put(self, line: object) -> None:
        if len(self._lines) >= MAX_LINES:
            self._drop(1)
            return
        self._lines.append(self._encode(line) + b"\n")
        if not self._wake.is_set():
            self._wake.set()

    def close(self) -> None:
        """Write what is queued, for at most two seconds."""
        self._stop.set()
        self._wake.set()
        self._thread.join(timeout=2)

    def _write_all(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._stop.wait(GATHER_SECONDS)
            self._wake.clear()
            self._drain()
        self._drain()

    def _drain(self) -> None:
        while self._lines:
            batch = b"\n" * self._torn
            batch += b"".join(self._lines.popleft() for _ in range(min(len(self._lines), 500)))
            while batch:
                try:
                    taken = os.write(self._fd, batch)
                    self._torn = batch[taken - 1 : taken] != b"\n"
                    batch = batch[taken:]
                except BlockingIOError:  # whoever shares this pipe has made it non-blocking
                    self._room.poll()
                except OSError:  # nobody reads any more, or there is no room
                    self._drop(batch.lstrip(b"\n").count(b"\n"))
                    return

    def _drop(self, lines: int) -> None:
        if self.on_drop:
            self.on_drop(lines)


class Bridge(logging.Handler):
    """Writes what libraries send to `logging` to the same stream."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower() if record.levelname.lower() in LEVELS else "error"
        fields: dict[str, object] = {"logger": record.name, "message": plain(record.msg)}
        if record.exc_info and record.exc_info[1] is not None:
            fields |= exception_fields(record.exc_info[1])
        self._log.event("library", level=level, **fields)


def plain(template: object) -> str:
    """A library's message without its arguments, redacted: those may hold an exception's text, and with it anything."""
    text = "an exception" if isinstance(template, BaseException) else str(template)
    return whole(text.strip()[:FIELD_CHARS])


def whole(text: str) -> str:
    """The text without lone surrogates, which no line of JSON can hold: names of files may have them."""
    return text.encode(errors="backslashreplace").decode()


def exception_fields(error: BaseException) -> dict[str, object]:
    """What may be logged of an exception: its class and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)[-5:]
    at = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return {"exception": type(error).__name__, "at": at}


def take_over(log: Log, level: str) -> None:
    """Send everything the process logs through `log`; libraries only from warnings up, unless debugging."""
    root = logging.getLogger()
    root.handlers[:] = [Bridge(log)]
    root.setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # its warnings are of callers' bad requests
    for chatty in ("httpx", "httpcore", "pyqwest", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
