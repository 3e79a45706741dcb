"""Does the bench count whole process trees, compare as it says, and refuse what it cannot compare?  No time is judged."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks import processes, readers, summary, tree
from benchmarks.cases import CASES, EVENTS
from benchmarks.events import Streams
from benchmarks.load import measured
from benchmarks.processes import BenchError, answers, process
from benchmarks.targets import ROOT, Checkout, other_checkout, this_checkout
from benchmarks.tree import Times, cpu_seconds
from benchmarks.upstream import streams
from tests.support.processes import is_running
from tests.support.waiting import wait_until

# A tree of processes, each of which burns CPU time, says how much it had, and then ends or stays.
BURNING = """
import json, os, signal, sys, time
def live(ends=False, buried=True, below=(), deaf=False):
    signal.alarm(60)  # should a test forget it
    if deaf:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    to_bury = []
    for one in below:
        if pid := os.fork():
            to_bury += [pid] * (one.get("ends", False) and one.get("buried", True))
        else:
            live(**one)
    for pid in to_bury:
        os.waitpid(pid, 0)
    until = time.process_time() + 0.1
    while time.process_time() < until:
        pass
    os.write(1, b"%d %f\\n" % (os.getpid(), time.process_time()))
    if ends:
        os._exit(0)
    while True:
        signal.pause()
signal.signal(signal.SIGINT, lambda *_: os._exit(0))
live(**json.loads(sys.argv[1]))
"""
ENDED, UNBURIED = {"ends": True}, {"ends": True, "buried": False}
TREES: dict[str, dict[str, Any]] = {
    "alone": {},
    "a child": {"below": [{}]},
    "a grandchild": {"below": [{"below": [{}]}]},
    "a child that ended": {"below": [ENDED]},
    "a grandchild that ended": {"below": [{"below": [ENDED]}]},
    "a child that ended after its own": {"below": [{"ends": True, "below": [ENDED, ENDED]}]},
    "a child that ended, not yet waited for": {"below": [UNBURIED]},
    "an orphan": {"below": [{"ends": True, "below": [{}]}]},
    "everybody": {"below": [{}, ENDED, UNBURIED, {"below": [{}, ENDED]}, {"ends": True, "below": [{}]}]},
}


def size(shape: dict[str, Any]) -> int:
    """How many processes."""
    return 1 + sum(size(one) for one in shape.get("below", []))


@contextlib.contextmanager
def burning(shape: dict[str, Any]) -> Iterator[tuple[subprocess.Popen[bytes], dict[int, float]]]:
    """The tree, once all have burnt; with it what each says of itself, by pid."""
    argv = [*tree.ADOPTING, sys.executable, "-c", BURNING, json.dumps(shape)]
    root = subprocess.Popen(argv, stdout=subprocess.PIPE, process_group=0)
    assert root.stdout
    with root.stdout:
        try:
            lines = [root.stdout.readline().split() for _ in range(size(shape))]
            yield root, {int(pid): float(seconds) for pid, seconds in lines}
        finally:
            processes.end(root, signal.SIGINT)


@pytest.mark.parametrize("shape", TREES.values(), ids=TREES)
def test_a_tree_is_counted_whole(shape: dict[str, Any]) -> None:
    """Accounting: what all processes say of themselves is what is counted, wherever they stand and however they ended."""
    with burning(shape) as (root, said):
        assert len(said) == size(shape)
        counted = sum(cpu_seconds({}, tree.snapshot(root.pid)).values())
    # The kernel cuts each count to ticks of 10 ms; to end costs a little after the last word.
    assert sum(said.values()) == pytest.approx(counted, abs=0.02 * len(said) + 0.01)


def test_what_was_spent_before_is_not_counted() -> None:
    """Accounting: a tree that rests between two looks has taken nothing, the time of its ended children included."""
    with burning(TREES["everybody"]) as (root, _):
        wait_until(lambda: [state(pid) for pid in tree.members(root.pid)].count("Z") == 1, 20)
        before = tree.snapshot(root.pid)
        assert sum(cpu_seconds(before, tree.snapshot(root.pid)).values()) <= 0.01


def state(pid: int) -> str:
    """What the kernel calls the state of a process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def parent(own: int, waited_for: int) -> Times:
    """The root at one moment."""
    return Times(role="parent", own=own, waited_for=waited_for)


def worker(own: int, waited_for: int = 0) -> Times:
    """A worker at one moment."""
    return Times(role="worker", own=own, waited_for=waited_for)


ROOT_AT = (1, 1)


@pytest.mark.parametrize(
    ("before", "after", "spent"),
    [
        ({(2, 5): worker(500)}, {ROOT_AT: parent(12, 600), (3, 9): worker(30)}, {"parent": 2, "worker": 30, "rest": 100}),
        ({(2, 5): worker(500)}, {ROOT_AT: parent(12, 600), (2, 9): worker(30)}, {"parent": 2, "worker": 30, "rest": 100}),
        ({(2, 5): worker(500)}, {ROOT_AT: parent(12, 0), (3, 9): worker(30)}, {"parent": 2, "worker": 30}),
        ({(2, 5): worker(500, 40)}, {ROOT_AT: parent(10, 545)}, {"rest": 5}),
        ({(2, 5): worker(500)}, {ROOT_AT: parent(11, 0), (2, 5): worker(500, 70)}, {"parent": 1, "rest": 70}),
        ({}, {ROOT_AT: parent(10, 0), (2, 5): worker(7, 8)}, {"worker": 7, "rest": 8}),
        ({}, {}, {}),
    ],
    ids=["replaced", "the same pid again", "not waited for", "ended with children", "a child of a child", "new", "gone"],
)  # fmt: skip
def test_replaced_processes_take_nothing_away(
    before: dict[Any, Times], after: dict[Any, Times], spent: dict[str, int]
) -> None:
    """Accounting: only what was spent between the looks counts, none of it twice, and nothing is ever negative."""
    whole = {role: spent.get(role, 0) / tree.TICKS_PER_SECOND for role in tree.ROLES}
    assert cpu_seconds({ROOT_AT: parent(10, 0), **before}, after) == whole


def test_a_tree_that_is_gone_is_said() -> None:
    """Accounting: a target that has died is an error, not a target that costs nothing."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with pytest.raises(OSError, match=str(ended.pid)):
        tree.snapshot(ended.pid)


@pytest.mark.parametrize("deaf", [False, True], ids=["obedient", "deaf"])
def test_nobody_is_left(deaf: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Clean-up: whoever of a tree does not end by itself is killed, the root too, and that is said."""
    monkeypatch.setattr(processes, "STOP_SECONDS", 5.0 if not deaf else 0.2)
    with burning({"deaf": deaf, "below": [{"deaf": True}, {"ends": True, "below": [{"deaf": True}]}]}) as (root, said):
        assert len(said) == 4
    wait_until(lambda: not any(is_running(pid) for pid in said), 20)
    assert (f"process {root.pid}" in capsys.readouterr().err) == deaf


def rounds(*cpu: tuple[float, float, float]) -> list[dict[str, dict[str, float]]]:
    """Rounds whose every figure is that of `this`, `again` and `other`."""
    fields = [field for field, *_ in summary.COLUMNS]
    return [
        {name: dict.fromkeys(fields, value) for name, value in zip(("this", "again", "other"), one, strict=True)}
        for one in cpu
    ]


THREE = rounds((110, 100, 100), (240, 250, 200), (103, 100, 100))
TEXT = next(case for case in CASES if case.name == "text-c32")
STREAM = next(case for case in CASES if case.name == "sse-c64")


@pytest.mark.parametrize(
    ("given", "one", "another", "median", "low", "high"),
    [
        (THREE, "this", "other", 1.1, 1.03, 1.2),
        (THREE, "this", "again", 1.03, 0.96, 1.1),
        (THREE, "other", "other", 1, 1, 1),
        (rounds((90, 100, 100)), "this", "other", 0.9, 0.9, 0.9),
        (rounds((90, 100, 100), (50, 100, 100)), "this", "other", 0.7, 0.5, 0.9),
        # A machine that is ten times slower for a round changes nothing.
        (rounds((1100, 1000, 1000), (240, 250, 200), (103, 100, 100)), "this", "other", 1.1, 1.03, 1.2),
    ],
)
def test_ratios_are_those_of_the_rounds(
    given: summary.Rounds, one: str, another: str, median: float, low: float, high: float
) -> None:
    """Summary: the median of the rounds' own ratios, and of few rounds the lowest and the highest."""
    found = summary.ratio(given, "cpu_us", one, another)
    assert (found.median, found.low, found.high) == pytest.approx((median, low, high))


@pytest.mark.parametrize(
    ("count", "cut"), [(1, 0), (2, 0), (5, 0), (6, 0), (8, 0), (9, 1), (11, 1), (12, 2), (15, 3), (20, 5), (30, 9)]
)
def test_the_brackets_hold_the_median_in_95_of_100_runs(count: int, cut: int) -> None:
    """Summary: the ranks are those of the sign test's tables, and outliers are left out when rounds are many."""
    assert summary.outside(count) == cut
    one_each = rounds(*[(100 + number, 100, 100) for number in range(count)])
    found = summary.ratio(one_each, "cpu_us", "this", "other")
    assert (found.low, found.high) == pytest.approx((1 + cut / 100, 1 + (count - 1 - cut) / 100))


def test_the_lines_say_the_ratios() -> None:
    """Summary: targets have their medians, the base is 1.00, and the same code twice stands above the comparison."""
    lines = summary.rows(TEXT, THREE, "other")
    assert [line.split()[1:4] for line in lines] == [
        ["this", "110", "1.10"],
        ["again", "100", "1.00"],
        ["other", "100", "1.00"],
    ]
    assert len({len(line) for line in [summary.titles("other"), *lines]}) == 1
    twice, compared = summary.comparisons(TEXT, THREE, (("this", "again"), ("this", "other")))
    assert "this / again" in twice and "CPU 1.030 (0.96 to 1.10)" in twice
    assert "this / other" in compared and "CPU 1.100 (1.03 to 1.20)" in compared
    (line, *_) = summary.rows(STREAM, THREE, "other")
    assert line.endswith(f"{110 / EVENTS:.1f} us/event")


def test_loads_of_one_process_are_one_sample() -> None:
    """Summary: the mean of what the loads gave, but of the peak the last."""
    assert summary.together([{"cpu_us": 1, "peak_mb": 10}, {"cpu_us": 4, "peak_mb": 30}]) == {
        "cpu_us": 2.5,
        "peak_mb": 30,
    }


def test_a_later_tool_can_read_it() -> None:
    """Summary: the file holds every round and every ratio."""
    found = json.loads(json.dumps(summary.written({"text-c32": THREE}, (("this", "other"),))))
    assert found["text-c32"]["rounds"] == THREE
    assert found["text-c32"]["ratios"]["this / other"]["cpu_us"]["median"] == pytest.approx(1.1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What looks like a checkout, without an interpreter."""
    (tmp_path / "gateway").mkdir()
    (tmp_path / "gateway" / "__main__.py").touch()
    return tmp_path


def interpreter(folder: Path, script: str) -> None:
    """Give the checkout one that does what the script says."""
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").write_text(f"#!/bin/sh\n{script}\n")
    (folder / ".venv" / "bin" / "python").chmod(0o755)


def test_a_folder_without_the_project_is_refused(tmp_path: Path) -> None:
    """Arguments: an empty folder and one that is not there are no checkouts."""
    for place in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BenchError, match="is no checkout of this project"):
            other_checkout(place)


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (None, "has no .venv/bin/python: run `make install` there"),
        ("echo 'ModuleNotFoundError: No module named pydantic' >&2; exit 1", "No module named pydantic"),
        ("exit 3", "it said nothing"),
        ("echo /elsewhere/gateway/__init__.py", "takes the gateway from /elsewhere/gateway/__init__.py"),
        (f'cd {ROOT}; exec {sys.executable} "$@"', f"takes the gateway from {ROOT}"),
    ],
    ids=["no interpreter", "nothing installed", "broken", "another place", "our own code"],
)  # fmt: skip
def test_a_checkout_that_cannot_run_its_own_code_is_refused(folder: Path, script: str | None, problem: str) -> None:
    """Arguments: each side runs its own code with its own interpreter, or it is said in one line why not."""
    if script is not None:
        interpreter(folder, script)
    with pytest.raises(BenchError) as error:
        other_checkout(folder)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_the_environment_leads_nobody_astray(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments: neither PYTHONPATH nor the working folder puts other code under an interpreter."""
    (folder / "gateway" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")  # without it the working folder would come first
    monkeypatch.chdir(folder)
    assert this_checkout() == Checkout(folder=ROOT, python=Path(sys.executable))


@pytest.mark.parametrize(
    ("arguments", "status", "problem"),
    [
        (["--against", "/"], 2, "/ is no checkout of this project"),
        (["text-c33"], 2, "there is no case text-c33"),
        (["--rounds", "0"], 2, "0 is not a whole number above 0"),
        (["--seconds", "a"], 2, "a is not a whole number above 0"),
        (["text-c1"], 1, "nginx is missing"),
    ],
)
def test_wrong_use_is_said(arguments: list[str], status: int, problem: str) -> None:
    """Arguments: what cannot be measured ends before anything is started, with one clear line."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.run", *arguments],
        cwd=ROOT, env={**os.environ, "PATH": "/nowhere"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, problem in done.stderr.splitlines()[-1]) == (status, True)
    assert "Traceback" not in done.stderr


@contextlib.asynccontextmanager
async def answering(reply: bytes) -> Any:
    """A server that answers so and hangs up; the value is its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_readers_read_whole_streams() -> None:
    """Streams: whatever was begun is read to its end, so that paid and counted are the same."""
    server = await asyncio.get_running_loop().create_server(Streams, "127.0.0.1", 0)
    async with server:
        request = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
        found = await readers.read("127.0.0.1", server.sockets[0].getsockname()[1], 4, 0.6, request)
    assert found["wrong"] == 0
    assert found["calls"] >= 4


EVENT, HEAD, END = b"data: {}\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", readers.END


@pytest.mark.parametrize(
    "reply",
    [b"", HEAD + EVENT * EVENTS, HEAD + EVENT * (EVENTS - 1) + END, b"HTTP/1.1 429 No\r\n\r\n" + EVENT * EVENTS + END],
    ids=["nothing", "cut", "an event too few", "refused"],
)
async def test_readers_tell_streams_that_went_wrong(reply: bytes) -> None:
    """Streams: a load in which not every stream was whole is no measurement."""
    async with answering(reply) as port:
        found = await readers.read("127.0.0.1", port, 3, 0.1, b"POST / HTTP/1.1\r\n\r\n")
    assert found["wrong"] == 3


def test_a_gateway_is_measured_whole(tmp_path: Path) -> None:
    """The whole: workers, parent and both stores are in the tree that is counted, and nobody is left of it."""
    case = replace(STREAM, at_once=4)
    with streams(tmp_path, tls=False) as port:
        upstream = {"GATEWAY_UPSTREAM_URL": f"http://127.0.0.1:{port}"}
        with this_checkout().serve(case, tmp_path, upstream) as running:
            sample = measured(case, running, tmp_path, 1)
            everybody = tree.snapshot(running.pid)
            roles = sorted(times.role for times in everybody.values() if times.role != "rest")  # who guards the stores
            assert roles == ["parent", "store", "store", "worker"]
    assert sample["cpu_us"] == pytest.approx(sum(sample[f"{role}_us"] for role in tree.ROLES))
    assert sample["worker_us"] > 0
    assert sample["peak_mb"] > 0
    wait_until(lambda: not any(is_running(pid) for pid, _ in everybody), 20)


def test_a_target_that_does_not_start_is_said(tmp_path: Path) -> None:
    """Clean-up: a process that ends before it answers is named, and is no endless wait."""
    with (
        pytest.raises(BenchError, match=r"it did not start: .*nothing_of_this_name"),
        process(sys.executable, "-m", "nothing_of_this_name", ready=partial(answers, 1)),
    ):
        pytest.fail("it is not there")
