"""What do commands do whose standard streams are closed, full, or read by nobody?"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.config.clients import Clients
from gateway.telemetry.logs import Log
from tests.support.gateway import Upstream
from tests.support.valkey import free_port
from tests.support.waiting import wait_until

GATEWAY = shlex.join([sys.executable, "-m", "gateway"])
KEY = re.compile(r"thg_[0-9A-Za-z]{38}")


class Shell:
    """Runs command lines of a shell with the settings of one gateway."""

    def __init__(self, folder: Path) -> None:
        self.clients, self.port = folder / "clients.toml", free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
            "GATEWAY_CLIENTS_FILE": str(self.clients), "GATEWAY_DATA_DIR": str(folder / "data"),
            "GATEWAY_PORT": str(self.port), "GATEWAY_METRICS_PORT": "0", "GATEWAY_UPSTREAM_KEY": "sk-canary",
            "GATEWAY_UPSTREAM_URL": "http://127.0.0.1:9", "GATEWAY_WORKERS": "2",
        }  # fmt: skip

    def __call__(self, words: str) -> "subprocess.CompletedProcess[str]":
        """Run `tokenhot-gateway` with these words; redirections are the shell's."""
        line = ["bash", "-c", f"{GATEWAY} {words}"]
        return subprocess.run(line, env=self.environment, capture_output=True, text=True, timeout=60, check=False)

    def keys(self) -> dict[str, tuple[str, ...]]:
        """The hashes of every client's keys, as the gateway reads them."""
        found = Clients.parse(self.clients.read_bytes()) if self.clients.exists() else ()
        return {client.name: client.key_sha256 for client in found}


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell, with one client in its file."""
    shell = Shell(tmp_path)
    assert 0 == shell("clients add first").returncode
    return shell


@pytest.mark.parametrize("action", ["add second", "rotate first"])
@pytest.mark.parametrize("lost", [">&-", ">/dev/full", ">&- 2>&-", ">/dev/full 2>/dev/full", "<&- >&-", "| true"])
def test_a_key_that_nobody_has_seen_opens_nothing(shell: Shell, action: str, lost: str) -> None:
    """X9: where stdout takes no key, none is added, the one before it stays, and one line says so."""
    if lost == "| true":  # whose end is closed before the key comes
        lost = '> >(:) ; status=$?; exit "$status"'
    before = shell.keys()
    done = shell(f"clients {action} {lost}")
    assert 1 == done.returncode
    assert before == shell.keys()
    assert ("2>" in lost) or re.fullmatch(r"tokenhot-gateway: stdout: [^\n]+ nothing was changed\n", done.stderr)
    assert not KEY.search(done.stderr)


@pytest.mark.parametrize(
    "words", ["clients add second", "clients rotate first", "clients list", "clients revoke first"]
)
@pytest.mark.parametrize("lost", ["2>&-", "2>/dev/full", "<&-", "<&- 2>&-"])
def test_what_was_done_is_done_without_remarks(shell: Shell, words: str, lost: str) -> None:
    """X9: a command that did its work and could not say more about it ends with 0."""
    done = shell(f"{words} {lost}")
    assert (0, "") == (done.returncode, done.stderr if "2>" in lost else "")
    assert bool(KEY.search(done.stdout)) == ("list" not in words and "revoke" not in words)
    if words == "clients add second":
        assert {"first", "second"} == set(shell.keys())


@pytest.mark.parametrize("words", ["clients list", "--help", "--version", "clients add --help", "usage", "cache stats"])
@pytest.mark.parametrize("lost", [">/dev/full", ">&-"])
def test_what_cannot_be_printed_is_one_line(shell: Shell, words: str, lost: str) -> None:
    """A report that nobody gets is a failure, and says where."""
    done = shell(f"{words} {lost}")
    assert 1 == done.returncode
    assert re.fullmatch(r"tokenhot-gateway: stdout: [^\n]+\n", done.stderr)


@pytest.mark.parametrize("words", ["clients list", "--help", "usage"])
def test_who_has_seen_enough_is_not_bothered(shell: Shell, words: str) -> None:
    """`| head -0` ends a report without a word."""
    assert "" == shell(f"{words} | head -0").stderr


async def test_check_needs_no_stderr(shell: Shell, upstream: Upstream) -> None:
    """X9: `check 2>&-` says ok four times and ends with 0."""
    import asyncio

    shell.environment |= {"GATEWAY_UPSTREAM_URL": upstream.url, "GATEWAY_UPSTREAM_KEY": "sk-canary-upstream-4711"}
    done = await asyncio.to_thread(shell, "check <&- 2>&-")
    assert (0, 4) == (done.returncode, done.stdout.count("ok  "))


@pytest.mark.parametrize("streams", [">&-", ">&- 2>&- <&-", "<&-", "2>&-", ">/dev/full 2>/dev/full", "| true"])
def test_serve_serves_without_streams(shell: Shell, streams: str, tmp_path: Path) -> None:
    """X9: calls are what counts; and where no log can go, no line goes into a caller's connection."""
    line = f"{GATEWAY} serve {streams}" if "|" in streams else f"exec {GATEWAY} serve {streams}"
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            ["bash", "-c", line], env=shell.environment, stdout=out, stderr=out, start_new_session=True
        )
    try:
        answer = wait_until(lambda: answered(f"http://127.0.0.1:{shell.port}/readyz", process), 15)
        assert 200 == answer.status_code
        for pid in family(process.pid):  # no socket, and no file of ours, has the number of a stream
            held = {number: str(Path(f"/proc/{pid}/fd/{number}").readlink()) for number in (0, 1, 2)}
            assert not [where for where in held.values() if where.startswith(("socket:", "anon_inode:"))], held
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(20)
    assert "Traceback" not in (tmp_path / "out").read_text()


def answered(url: str, process: "subprocess.Popen[bytes]") -> httpx.Response | None:
    """An answer, as soon as there is one."""
    assert process.poll() is None
    try:
        return httpx.get(url, trust_env=False, timeout=2)
    except httpx.HTTPError:
        return None


def family(pid: int) -> Iterator[int]:
    """The process and all below it."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from family(int(child))


def test_a_line_cut_by_a_full_disk_spoils_no_other(tmp_path: Path) -> None:
    """What was half written when room ran out is ended before the next line, and counted as dropped once."""
    import resource

    path, limit = tmp_path / "log", resource.getrlimit(resource.RLIMIT_FSIZE)
    drops: list[int] = []
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with path.open("ab") as file:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
            log = Log(fd=file.fileno(), on_drop=drops.append)
            for number in range(40):
                log.event("said", number=number)
            wait_until(lambda: sum(drops), 20)
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
            log.event("said", number=40)
            log.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, ignored)
    lines = [line for line in path.read_text().split("\n") if line]
    whole = [json.loads(line)["number"] for line in lines if line.endswith("}")]
    assert 40 == whole[-1]
    assert list(range(len(whole) - 1)) == whole[:-1]
    assert 41 == len(whole) + sum(drops)
    assert 1 == len(lines) - len(whole)
