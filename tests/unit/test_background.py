"""Is the failure of every background task seen, and does its work go on?"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app.housekeeping import Housekeeping
from gateway.background import Background, supervised
from gateway.limits.settlements import Settlements
from gateway.store import Store
from gateway.telemetry.vendor_models import VendorModels
from gateway.upstream import UpstreamKey
from tests.support.gateway import running
from tests.support.processes import Serve
from tests.support.valkey import valkey
from tests.support.waiting import turns, until, wait_until

Failures = list[tuple[str, BaseException]]


class Flaw(Exception):
    """What is injected."""


async def test_work_begins_again_ever_later() -> None:
    """M10: each failure is reported under the task's name, and the pause before the next try doubles up to a bound."""
    failures: Failures = []
    began: list[float] = []

    async def fail() -> None:
        began.append(time.monotonic())
        if len(began) < 6:
            raise Flaw

    await supervised(
        "a task", fail, lambda *failure: failures.append(failure), first_seconds=0.01, longest_seconds=0.04
    )
    assert ["a task"] * 5 == [name for name, _ in failures]
    pauses = [late - early for early, late in pairwise(began)]
    assert [True] * 5 == [
        pause >= 0.9 * least for pause, least in zip(pauses, (0.01, 0.02, 0.04, 0.04, 0.04), strict=True)
    ]


async def test_work_that_went_well_for_long_begins_again_at_once() -> None:
    """M10: a failure after a long good time is the first one again, whatever went before it."""
    began: list[float] = []

    async def fail() -> None:
        began.append(time.monotonic())
        if len(began) == 8:
            await asyncio.sleep(0.6)  # the time for which it works
        if len(began) < 9:
            raise Flaw

    await supervised("a task", fail, lambda *_: None, first_seconds=0.01, longest_seconds=0.5)
    *_, before, after = [late - early for early, late in pairwise(began)]
    assert after - 0.6 < before


async def test_a_process_without_a_log_tells_its_loop() -> None:
    """M10: where nobody else reports a failure the loop's own handler does."""
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))

    async def fail() -> None:
        raise Flaw

    async with Background() as tasks:
        await asyncio.wait([tasks.start("once", fail())])
        await turns()
    assert [("once has failed", Flaw)] == [(one["message"], type(one["exception"])) for one in said]


async def test_a_failure_of_what_runs_once_is_reported_and_all_ends_with_the_owner() -> None:
    """M10: nothing fails in silence and nothing outlives its owner, whose end waits for it."""
    failures: Failures = []
    ended: list[str] = []
    began = asyncio.Event()

    async def fail() -> None:
        raise Flaw

    async def last() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await turns()  # its end takes another one
            ended.append("last")

    async with Background(lambda *failure: failures.append(failure)) as tasks:
        await asyncio.wait([tasks.start("once", fail())])
        tasks.keep("for good", last)
        await began.wait()
    assert [("once", Flaw)] == [(name, type(error)) for name, error in failures]
    assert ["last"] == ended


def failing_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> dict[int, int]:
    """Let a function fail the first time that it is called of each object; returns how often each has called it."""
    calls: dict[int, int] = {}
    whole = getattr(owner, name)

    def fail(*args: Any, **kwargs: Any) -> Any:
        one = id(args[0])
        calls[one] = calls.get(one, 0) + 1
        if calls[one] == 1:
            raise Flaw
        return whole(*args, **kwargs)

    monkeypatch.setattr(owner, name, fail)
    return calls


@pytest.mark.parametrize(
    ("tasks", "owner", "name"),
    [
        ({"housekeeping"}, Housekeeping, "_write_metrics"),
        ({"vendor models"}, VendorModels, "wait"),
        ({"upstream key"}, UpstreamKey, "refresh"),
        ({"lease renewal"}, Settlements, "flush"),
        ({"state probe", "cache probe"}, Store, "ping"),
    ],
)
async def test_a_workers_background_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: set[str], owner: Any, name: str
) -> None:
    """M10: watcher, key, leases and probes: killed by an exception each is logged, counted and back."""
    calls = failing_once(monkeypatch, owner, name)
    with valkey() as server:
        async with running(tmp_path, "http://127.0.0.1:9", redis_url=server.url) as gateway:
            await until(lambda: len(calls) >= len(tasks) and min(calls.values()) > 1)
            lines = [line for line in gateway.lines() if line["event"] == "background_failed"]
            assert tasks == {line["task"] for line in lines}
            assert {"Flaw"} == {line["exception"] for line in lines}
            for task in tasks:
                assert 1 == gateway.metric("gateway_background_failures_total", task=task)


INJECTED = """
import {module} as module
owner, failed = {owner}, []
whole = owner.{name}
async def fail(*args, **kwargs):
    if not failed:
        failed.append(True)
        raise RuntimeError("injected")
    print('{{"event":"back"}}', flush=True)
    return await whole(*args, **kwargs)
owner.{name} = fail
"""


@pytest.mark.parametrize(
    ("task", "module", "owner", "name"),
    [
        ("sweep", "gateway.processes.sweeper", "module", "used_budgets"),
        ("store guardian", "gateway.store.embedded", "module.Embedded", "_watch_guardian"),
        ("state store", "gateway.store.embedded", "module", "_watch"),
        ("operators' port", "gateway.processes.operators", "module", "serve"),
    ],
)
def test_the_parents_background_work_goes_on(tmp_path: Path, task: str, module: str, owner: str, name: str) -> None:
    """M10: sweep, watches and the operators' port: killed by an exception each is logged, counted and back."""
    before = INJECTED.format(module=module, owner=owner, name=name)
    with Serve(tmp_path, before=before) as gateway:
        assert task == gateway.event("background_failed")["task"]
        gateway.event("back")
        metrics = gateway.event("ready")["metrics"]
        assert f'gateway_background_failures_total{{task="{task}"}} 1.0' in asked(lambda: text_of(metrics))


def text_of(url: str) -> str:
    """What a GET brings."""
    return httpx.get(url, timeout=5, trust_env=False).text


def asked(ask: Callable[[], str]) -> str:
    """The answer, as soon as somebody listens."""

    def answer() -> str:
        with contextlib.suppress(httpx.ConnectError):
            return ask()
        return ""

    return wait_until(answer)


REPLACE_FAILS = """
from gateway.processes.process_pool import ProcessPool
async def fail(self):
    raise RuntimeError("injected")
ProcessPool.replace = fail
"""


def test_sigterm_drains_after_a_failed_sighup(tmp_path: Path) -> None:
    """M10, X1: a replacement that fails is said, and the parent hears the next signal all the same."""
    with Serve(tmp_path, before=REPLACE_FAILS) as gateway:
        gateway.event("ready")
        gateway.tell(signal.SIGHUP)
        assert "replacement" == gateway.event("background_failed")["task"]
        gateway.tell(signal.SIGTERM)
        gateway.event("stopped")
        assert 0 == gateway.process.wait(20)
