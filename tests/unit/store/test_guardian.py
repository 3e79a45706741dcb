"""Does the guardian stop the embedded stores of a killed gateway when nobody uses them, never before, without loss?"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gateway.background import Background
from gateway.store import guardian
from gateway.store.embedded import Embedded, StoreError, borrow
from gateway.store.guardian import held_by_another
from tests.support.processes import Serve, is_running
from tests.support.waiting import until, wait_until

PARENT = """
import asyncio, os, signal, subprocess, sys
from pathlib import Path
from gateway.store.embedded import Embedded
if "COVERAGE_PROCESS_CONFIG" in os.environ:  # what measures a guardian is kept out by -IS
    start = subprocess.Popen
    subprocess.Popen = lambda argv, **how: start([word if word != "-IS" else "-P" for word in argv], **how)

async def main():
    async with Embedded(Path(sys.argv[1]), guard_seconds=float(sys.argv[2])) as stores:
        if len(sys.argv) > 3:
            argv = ["sleep", sys.argv[3]]
            print(subprocess.Popen(argv, pass_fds=[stores.worker_lock], stdout=-3, stderr=-3).pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder; whatever holds a lock in it is gone after the test."""
    folder = tmp_path / "data"
    yield folder
    for name in ("state", "cache"):
        if (pid := guardian.process_of(folder / name)) and held_by_another(folder / name / "lock"):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not held_by_another(folder / "guardian"), 20)


def leave(folder: Path, seconds: float, *worker: str) -> int:
    """Start the servers, put a record into one, and kill their parent; the pid of its worker, which stays so long."""
    argv = [sys.executable, "-c", PARENT, str(folder), str(seconds), *worker]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert -signal.SIGKILL == done.returncode, done.stderr
    return int(done.stdout or 0)


def servers(folder: Path) -> list[int]:
    """The pids of the servers that run."""
    found = [
        guardian.process_of(folder / name) for name in ("state", "cache") if held_by_another(folder / name / "lock")
    ]
    return [pid for pid in found if pid]


def state(folder: Path) -> "redis.Redis":
    """The state store, asked directly."""
    return redis.Redis(unix_socket_path=(folder / "state" / "socket").read_text(), decode_responses=True)


def written(folder: Path, **patience: float) -> str:
    """What the store holds after a start."""

    async def read() -> str:
        async with Embedded(folder, **patience):
            with state(folder) as client:
                return str(client.get("record"))

    return asyncio.run(read())


def test_servers_that_nobody_takes_over_end_and_lose_nothing(folder: Path) -> None:
    """X8: not before their time, then both, with what was written in the last moment; and the guardian with them."""
    leave(folder, 1.0)
    with state(folder) as client:
        client.set("record", "paid")
    began, left = time.monotonic(), servers(folder)
    assert 2 == len(left)
    wait_until(lambda: not any(is_running(pid) for pid in left), 20)
    assert time.monotonic() - began > 0.7
    wait_until(lambda: not held_by_another(folder / "guardian"), 20)
    assert "paid" == written(folder)
    wait_until(lambda: not [name for name in ("guardian", "users", "workers") if held_by_another(folder / name)], 20)


def test_workers_that_finish_their_calls_keep_the_servers(folder: Path) -> None:
    """X8: the time begins when the last worker of the killed parent has ended."""
    worker = leave(folder, 0.3, "1.2")  # four times what they stay without a worker
    left = servers(folder)

    def ended() -> bool:
        alive = servers(folder)
        assert alive == left or not is_running(worker)
        return not is_running(worker)

    wait_until(ended, 20)
    wait_until(lambda: not servers(folder), 20)


def test_a_command_meanwhile_neither_ends_nor_loses_them(folder: Path) -> None:
    """X8: a command uses what a killed gateway left, and while workers linger leaves it running."""
    worker = leave(folder, 0.5, "60")
    left = servers(folder)

    async def use() -> None:
        async with borrow(folder) as stores:
            assert left == servers(folder)
            with redis.Redis.from_url(stores.state_url) as client:
                client.set("record", "paid")

    asyncio.run(use())
    assert left == servers(folder)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: not servers(folder), 20)
    assert "paid" == written(folder)


@pytest.mark.parametrize("after", [0.0, 0.4, 0.5, 0.6])
def test_who_comes_in_time_has_them_for_good(folder: Path, after: float) -> None:
    """X8: taken over at any moment, also at the last or just behind it, they answer and stay."""
    leave(folder, 0.5)
    with state(folder) as client:
        client.set("record", "paid")
    time.sleep(after)  # the moment is what is tested

    async def take() -> None:
        async with Embedded(folder) as stores:
            before = servers(folder)
            await asyncio.sleep(1)  # twice what they would stay: nothing tells that they are left alone
            assert before == servers(folder)
            with redis.Redis.from_url(stores.state_url, decode_responses=True) as client:
                assert "paid" == client.get("record")
        assert [] == servers(folder)

    asyncio.run(take())


def test_a_guardian_is_replaced_and_one_is_enough(folder: Path) -> None:
    """X8: killed, it is back while the gateway lives; after three kills of parents one is on duty, not four."""
    for _ in range(3):
        leave(folder, 30)

    async def guarded() -> None:
        async with Embedded(folder) as stores, Background() as background:
            stores.watch(background, lambda *_, **__: None)
            (first,) = guardians(folder)
            os.kill(first, signal.SIGKILL)
            await until(lambda: len(now := guardians(folder)) == 1 and now != [first], every_ms=50)

    asyncio.run(guarded())
    wait_until(lambda: not guardians(folder), 20)


def guardians(folder: Path) -> list[int]:
    """The pids of the guardians of a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if os.fsencode(guardian.__file__) in words and os.fsencode(folder) in words:
                found.append(int(path.parent.name))
    return [pid for pid in found if is_running(pid)]


@pytest.mark.parametrize("lost", ["socket", "folder", "socket of a frozen one", "record"])
def test_servers_that_nobody_can_reach_are_ended_by_proof(lost: str) -> None:
    """X8: a cleaner took the socket: the next start ends the servers in order, and has every record."""
    with tempfile.TemporaryDirectory() as short:
        folder = Path(short) / "data"
        leave(folder, 60)
        with state(folder) as client:
            client.set("record", "paid")
        left = servers(folder)
        for name in ("state", "cache"):
            (folder / "run" / f"{name}.sock").unlink()
            if lost == "record":
                (folder / name / "socket").unlink()
        if lost == "folder":
            (folder / "run").rmdir()
        if lost == "socket of a frozen one":
            os.kill(left[0], signal.SIGSTOP)
        assert "paid" == written(folder)
        assert not any(is_running(pid) for pid in left)


@pytest.mark.parametrize("proof", ["none", "somebody else's", "nonsense"])
def test_without_proof_nothing_is_killed(proof: str) -> None:
    """A process that does not hold the lock is left alone; the start is refused in one line that says what to do."""
    with tempfile.TemporaryDirectory() as short:
        folder = Path(short) / "data"
        leave(folder, 60)
        left = servers(folder)
        (folder / "run" / "state.sock").unlink()
        innocent = subprocess.Popen(["sleep", "60"])
        words = {"none": "", "somebody else's": str(innocent.pid), "nonsense": "-1"}
        (folder / "state" / "pid").write_text(words[proof])
        with pytest.raises(StoreError, match=r"state server of another gateway runs and cannot be reached at [^\n]+$"):
            written(folder, reach_seconds=0.2)
        assert None is innocent.poll()
        assert is_running(left[0])
        innocent.kill()
        innocent.wait()
        os.kill(left[0], signal.SIGKILL)
        wait_until(lambda: not held_by_another(folder / "guardian"), 20)


def test_a_socket_that_goes_while_it_serves_is_made_again(tmp_path: Path) -> None:
    """X8: a cleaner comes by under a living gateway: the store is reachable again, with what it held."""
    with Serve(tmp_path) as gateway:
        url = gateway.settings()["redis_url"]
        with redis.Redis.from_url(url) as client:
            client.set("record", "paid")
        Path(url.removeprefix("unix://")).unlink()
        assert "state" == gateway.event("store_restarted", seconds=10)["store"]
        with redis.Redis.from_url(url) as client:
            assert b"paid" == client.get("record")


def test_the_whole_thing_ends_by_itself(tmp_path: Path) -> None:
    """X2, X8: kill -9 of a parent with real workers, which finish; nothing of it runs some seconds later."""
    with Serve(tmp_path, guard=1.0) as gateway:
        url = gateway.settings()["redis_url"]
        pids = [*servers(tmp_path / "data"), *guardians(tmp_path / "data"), *gateway.workers()]
        assert 5 == len(pids)
        with redis.Redis.from_url(url) as client:
            client.set("record", "paid")
        gateway.tell(signal.SIGKILL)
        gateway.process.wait()
        wait_until(lambda: not any(is_running(pid) for pid in pids), 30)
    assert "paid" == written(tmp_path / "data")
