"""Does a line reach stdout whole, and never at the price of a stalled loop or a secret?"""

import array
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import resource
import termios
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.telemetry.logs import FIELD_CHARS, MAX_LINES, Log, take_over
from tests.support.gateway import GENERATE, TEXT, Gateway, Upstream, running
from tests.support.waiting import wait_until

ACCESS_LINE = (
    "time", "level", "event", "request_id", "client", "model", "method", "status", "outcome", "cache", "attempts",
    "duration_ms", "overhead_ms", "upstream_ms", "first_byte_ms", "bytes_in", "bytes_out", "tokens_in", "tokens_out",
    "usage", "served_model", "upstream_request_id", "task", "reason", "upstream_status", "key_fingerprint", "client_address",
)  # fmt: skip
HOSTILE = 'x\ny\r\n{"event":"call"}\x1b[31mred\x00\u2028\ud800"}'
SECRET = "thg_canary-in-an-exception"


@dataclass(kw_only=True)
class Piped:
    """A log that writes into a pipe, and what it dropped."""

    log: Log
    reader: int
    writer: int
    drops: list[int] = field(default_factory=list)

    def read(self, seconds: float = 10) -> list[dict[str, Any]]:
        """End the log and give every line that came through the pipe."""
        pieces: list[bytes] = []

        def drain() -> None:
            while piece := os.read(self.reader, 65536):
                pieces.append(piece)

        draining = threading.Thread(target=drain)
        draining.start()
        self.log.close()
        os.close(self.writer)
        self.writer = -1
        draining.join(seconds)
        return [json.loads(line) for line in b"".join(pieces).split(b"\n") if line]


@pytest.fixture
def piped() -> Iterator[Piped]:
    """A log into a pipe that nobody reads until the test does."""
    reader, writer = os.pipe()
    drops: list[int] = []
    yield (made := Piped(log=Log(fd=writer, on_drop=drops.append), reader=reader, writer=writer, drops=drops))
    if made.writer != -1:
        made.read()
    os.close(reader)


@contextlib.contextmanager
def bridged(log: Log) -> Iterator[None]:
    """Bring what libraries say into this log, for as long as the context is open."""
    root = logging.getLogger()
    named = [logging.getLogger(name) for name in ("", "uvicorn.error", "httpx", "httpcore", "pyqwest", "asyncio")]
    handlers, levels = root.handlers[:], [logger.level for logger in named]
    take_over(log, "info")
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for logger, level in zip(named, levels, strict=True):
            logger.setLevel(level)


def unread(reader: int) -> int:
    """How many bytes are in the pipe."""
    count = array.array("i", [0])
    fcntl.ioctl(reader, termios.FIONREAD, count)
    return count[0]


@pytest.mark.parametrize("number", [None, 1023, 1024, 1500])
def test_a_pipe_made_non_blocking_loses_nothing(number: int | None) -> None:
    """X4: however high its descriptor, the thread waits for room and writes on; `select` ended above 1023."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if number is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(limit[0], number + 1), limit[1]))
    reader, writer = os.pipe()
    if number is not None:
        os.dup2(writer, number)
        os.close(writer)
        writer = number
    os.set_blocking(writer, False)
    drops: list[int] = []
    piped = Piped(log=Log(fd=writer, on_drop=drops.append), reader=reader, writer=writer, drops=drops)
    for line in range(3000):  # 600 kB, of which a pipe takes 64
        piped.log.event("call", number=line, filler="x" * 200)
    wait_until(lambda: unread(reader) > 50_000)  # the pipe is full, and the thread waits
    assert list(range(3000)) == [line["number"] for line in piped.read()]
    assert [] == drops
    os.close(reader)
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)


def test_names_of_files_that_are_no_text_are_said(piped: Piped) -> None:
    """A path of any bytes stands in the line, its odd ones escaped."""
    piped.log.event("failed", problem=os.fsdecode(b"/tmp/\xff\xfe/x"), other="\ud800", plain="\u00fc")
    (line,) = piped.read()
    assert ["/tmp/\\udcff\\udcfe/x", "\\ud800", "\u00fc"] == [line[name] for name in ("problem", "other", "plain")]


def test_a_stalled_reader_stalls_no_call(piped: Piped) -> None:
    """M5: with stdout blocked a line costs microseconds, what does not fit is dropped, and every drop is counted."""
    said, slowest = MAX_LINES + 5000, 0.0
    for number in range(said):
        before = time.thread_time()
        piped.log.event("call", number=number, filler="x" * 200)
        slowest = max(slowest, time.thread_time() - before)

    assert slowest < 0.1  # seconds of CPU: a garbage collection may fall into one
    assert sum(piped.drops) > 1000
    lines = piped.read()
    assert said == len(lines) + sum(piped.drops)
    assert sorted({line["number"] for line in lines}) == [line["number"] for line in lines], "in order, none twice"


def test_a_pipe_that_somebody_made_non_blocking(piped: Piped) -> None:
    """M5: a full non-blocking pipe is waited for; no line is cut or lost."""
    flags = fcntl.fcntl(piped.writer, fcntl.F_GETFL)
    fcntl.fcntl(piped.writer, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    for number in range(3000):
        piped.log.event("call", number=number, filler="x" * 200)

    assert list(range(3000)) == [line["number"] for line in piped.read()]
    assert [] == piped.drops


def test_a_reader_that_went_away(piped: Piped) -> None:
    """M5: when nobody reads any more, lines are dropped and counted, and nothing is raised."""
    os.close(piped.reader)
    piped.log.event("call")
    piped.log.close()
    assert [1] == piped.drops
    piped.reader = os.open(os.devnull, os.O_RDONLY)


def test_hostile_text_stays_on_its_line(piped: Piped) -> None:
    """P8: line ends, escape sequences and lone surrogates neither forge a line nor break one."""
    piped.log.event("said", text=HOSTILE.replace("\ud800", ""))
    with bridged(piped.log):
        logging.getLogger("library").error(HOSTILE)
        logging.getLogger("library").error("y" * 100_000)

    first, second, third = piped.read()
    assert ("said", HOSTILE.replace("\ud800", "")) == (first["event"], first["text"])
    assert ("library", HOSTILE.replace("\ud800", "\\ud800")) == (second["event"], second["message"])
    assert FIELD_CHARS == len(third["message"])


def test_libraries_are_quoted_without_their_arguments(piped: Piped) -> None:
    """S2: of what a library logs, the template, the class and the place are kept; texts of exceptions never are."""
    library = logging.getLogger("library")
    error = RuntimeError(SECRET)
    with bridged(piped.log):
        try:
            raise error
        except RuntimeError:
            library.exception("call failed: %s", SECRET)
        library.error("call failed: %s", error)
        library.error(error)
        library.error("%d pieces", "not a number")
        library.info("chatter %s", SECRET)
        logging.getLogger("uvicorn.error").warning("a bad request of %s", SECRET)

    raised, *others = piped.read()
    assert ("library", "error", "call failed: %s", "RuntimeError") == (
        raised["logger"], raised["level"], raised["message"], raised["exception"],
    )  # fmt: skip
    assert raised["at"][-1].endswith("test_libraries_are_quoted_without_their_arguments")
    assert ["call failed: %s", "an exception", "%d pieces"] == [line["message"] for line in others]
    assert SECRET not in str([raised, *others])


def test_the_level_is_a_threshold(tmp_path: Path) -> None:
    """GATEWAY_LOG_LEVEL: less than it asks for is not written, and closing writes what is queued."""
    path = tmp_path / "log"
    with path.open("wb") as file:
        log = Log("warning", fd=file.fileno())
        for level in ("debug", "info", "warning", "error"):
            log.event("said", level=level)
        log.close()
    assert ["warning", "error"] == [json.loads(line)["level"] for line in path.read_text().splitlines()]


async def test_the_fields_of_the_access_line(gateway: Gateway) -> None:
    """Interface: one line a call with exactly these fields, in this order, whatever became of the call."""
    await gateway.http.post(GENERATE, json=TEXT)
    await gateway.http.get("/nowhere?key=secret")
    good, refused = await gateway.entries(2)

    assert ACCESS_LINE == tuple(good) == tuple(refused)
    assert ("info", "design", "gemini-2.5-flash", "generateContent") == (
        good["level"], good["client"], good["model"], good["method"],
    )  # fmt: skip
    assert good["duration_ms"] >= good["overhead_ms"] + good["upstream_ms"] > 0
    assert good["duration_ms"] >= good["first_byte_ms"] > 0
    assert ("unknown", "", "other", 404, "none") == (
        refused["client"], refused["model"], refused["method"], refused["status"], refused["usage"],
    )  # fmt: skip


async def test_an_outage_is_logged_once(tmp_path: Path, upstream: Upstream) -> None:
    """R9: however many calls come while the state store is unavailable, there is one line."""
    async with running(tmp_path, upstream.url, redis_url=f"unix://{tmp_path}/nobody") as gateway:
        for _ in range(4):
            answers = await asyncio.gather(*[gateway.http.post(GENERATE, json=TEXT) for _ in range(25)])
            assert {200} == {answer.status_code for answer in answers}
        await gateway.entries(100)
        others = [line["event"] for line in gateway.lines() if line["event"] != "call"]
    assert ["degraded"] * 2 == others  # of the state and of the cache, which are one server here
