"""The parent's sweep: what dead workers left behind, and a store that fills up."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.config.models import Catalogue
from gateway.config.settings import Settings
from gateway.limits import key
from gateway.processes import sweeper
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import CollectorRegistry, Metrics
from tests.support.gate import client, gate, leases, records
from tests.support.gateway import clients_toml
from tests.support.valkey import Valkey, valkey
from tests.support.waiting import until
from tests.unit.limits.test_leases import expire

TERMS = {"design": "tokens_per_day = 1_000_000"}


@dataclass(kw_only=True)
class Sweep:
    """A running sweep, its clients, its metrics and its log."""

    clients_file: Path
    log_file: Path
    registry: CollectorRegistry

    def lines(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self.log_file.read_text().rpartition("\n")[0].splitlines()]

    def gauge(self, name: str, **labels: str) -> float | None:
        """What it has published."""
        return self.registry.get_sample_value(f"gateway_{name}", labels)


@contextlib.asynccontextmanager
async def sweeping(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch, *, seconds: float = 0.05
) -> AsyncIterator[Sweep]:
    """The sweep, a hundred times as often as in earnest."""
    monkeypatch.setattr(sweeper, "SWEEP_SECONDS", seconds)
    clients, logged = folder / "clients.toml", folder / "log"
    clients.write_text(clients_toml({"design": "k", "quiet": "q"}, TERMS))
    settings = Settings(redis_url=url, clients_file=clients, upstream_key="sk-none")
    with logged.open("ab") as file:
        log = Log(fd=file.fileno())
        sweep = Sweep(clients_file=clients, log_file=logged, registry=CollectorRegistry())
        task = asyncio.create_task(
            sweeper.sweep(settings, log, Metrics(sweep.registry, Catalogue.load().models.__contains__))
        )
        try:
            yield sweep
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            log.close()


async def test_what_a_dead_worker_left_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L9 A2: calls of a worker that is gone are recorded as lost, once, though nobody calls any more."""
    with valkey() as server:
        async with gate(server.url) as dead:
            for _ in range(5):
                await dead.admit(client())
        expire(server)
        async with sweeping(tmp_path, server.url, monkeypatch) as sweep:
            await until(lambda: leases(server) == 0)
        assert ["lost"] * 5 == [record["outcome"] for record in records(server)]
        assert [] == sweep.lines()


async def test_budgets_that_are_gone_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """M9: the gauges of a budget or a client that leaves the file become 0, and are as before when it is back."""
    with valkey() as server:
        async with gate(server.url) as one:
            await one.admit(client(tokens_per_day=1_000_000))
        async with sweeping(tmp_path, server.url, monkeypatch) as sweep:

            def budget() -> tuple[float | None, float | None]:
                labels = {"client": "design", "limit": "tokens_per_day"}
                return sweep.gauge("limit", **labels), sweep.gauge("limit_used", **labels)

            await until(lambda: None not in budget())
            before = budget()
            assert 1_000_000 == before[0]
            assert before[1]
            for keys, terms in (({"design": "k"}, {}), ({"quiet": "q"}, TERMS)):
                sweep.clients_file.write_text(clients_toml(keys, terms))
                await until(lambda: budget() == (0, 0))
                sweep.clients_file.write_text(clients_toml({"design": "k"}, TERMS))
                await until(lambda: budget() == before)
        assert [] == sweep.lines()


async def test_open_tasks_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """M9: how many tasks of each client are created and not seen to have ended."""
    with valkey() as server:
        now = int(server.ask("TIME")[0]) * 1000
        server.ask("ZADD", key("design", "tasks"), now, "t-1", now, "t-2")
        async with sweeping(tmp_path, server.url, monkeypatch) as sweep:
            await until(lambda: sweep.gauge("open_tasks", client="design") == 2)
            assert 0 == sweep.gauge("open_tasks", client="quiet")
            server.ask("ZREM", key("design", "tasks"), "t-1")
            await until(lambda: sweep.gauge("open_tasks", client="design") == 1)
            server.ask("SET", key("quiet", "tasks"), "no set")
            await rounds(sweep)
            assert 1 == sweep.gauge("open_tasks", client="design")


async def rounds(sweep: Sweep, count: int = 3) -> None:
    """Wait until it has gone round so many times more: at the end of each it asks how full the store is."""
    before = sweep.gauge("store_duration_seconds_count", operation="ping") or 0
    await until(lambda: (sweep.gauge("store_duration_seconds_count", operation="ping") or 0) >= before + count)


VISITS = {"operation": "renew_and_reap"}
USED = {"client": "design", "limit": "tokens_per_day"}
EACH = 0.25  # seconds of a turn


@contextlib.asynccontextmanager
async def several(
    folder: Path, url: str, monkeypatch: pytest.MonkeyPatch, count: int
) -> AsyncIterator[tuple[list[Sweep], list[contextlib.AsyncExitStack]]]:
    """Gateways that share a store; each can be ended by itself."""
    sweeps, stacks = [], [contextlib.AsyncExitStack() for _ in range(count)]
    async with contextlib.AsyncExitStack() as all_of_them:
        for number, stack in enumerate(stacks):
            (home := folder / str(number)).mkdir()
            await all_of_them.enter_async_context(stack)
            sweeps.append(await stack.enter_async_context(sweeping(home, url, monkeypatch, seconds=EACH)))
            await asyncio.sleep(EACH / count)  # as gateways start, one after another
        yield sweeps, stacks


def visits(sweeps: list[Sweep]) -> float:
    """How often any of them has asked about a client."""
    return sum(sweep.gauge("store_duration_seconds_count", **VISITS) or 0 for sweep in sweeps)


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_gateways_share_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """L9: however many gateways there are, each client is swept about once a turn, and every gauge is right everywhere."""
    with valkey() as server:
        async with gate(server.url) as one, several(tmp_path, server.url, monkeypatch, count) as (sweeps, _):
            await until(lambda: all(sweep.gauge("limit_used", **USED) == 0 for sweep in sweeps))
            before, began = visits(sweeps), asyncio.get_running_loop().time()
            await one.admit(client(tokens_per_day=1_000_000))
            await until(lambda: all(sweep.gauge("limit_used", **USED) == 1024 for sweep in sweeps))
            await asyncio.gather(*(rounds(sweep, 8) for sweep in sweeps))
            turns = (asyncio.get_running_loop().time() - began) / EACH
            asked = (visits(sweeps) - before) / 2  # design and quiet
        assert 0.4 * turns <= asked <= 1.1 * turns + 1


async def test_a_turn_is_taken_over_from_the_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L9: whoever of them dies, also with the turn in hand, places of dead workers come back and gauges go on."""
    with valkey() as server:
        async with several(tmp_path, server.url, monkeypatch, 3) as (sweeps, stacks):
            for left in (2, 1):
                await stacks[left].aclose()
                server.ask("SET", sweeper.TURN, "the dead", "PX", round(EACH * 980))
                async with gate(server.url) as dead:
                    await dead.admit(client())
                expire(server)
                await until(lambda: leases(server) == 0, 4 * EACH + 1)
            await until(lambda: sweeps[0].gauge("limit_used", **USED) == 2048)
        assert ["lost"] * 2 == [record["outcome"] for record in records(server)]


async def test_new_clients_wait_for_no_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """L9: a gateway whose clients file has changed sweeps them at once, whoever has the turn."""
    with valkey() as server:
        async with sweeping(tmp_path, server.url, monkeypatch) as sweep:
            await until(lambda: server.ask("ZSCORE", "gw:clients", "quiet") is not None)
            server.ask("SET", sweeper.TURN, "somebody else")
            await rounds(sweep)
            sweep.clients_file.write_text(clients_toml({"design": "k", "young": "y"}, TERMS))
            await until(lambda: server.ask("ZSCORE", "gw:clients", "young") is not None)


@pytest.mark.parametrize("nonsense", [b"", b"\xc1", b"{}", b"\x91\x93\xa1a\x01\x02"])
async def test_what_another_left_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nonsense: bytes
) -> None:
    """Rollbacks: a result of a sweep that cannot be read changes no gauge and ends nothing."""
    with valkey() as server:
        async with gate(server.url) as one:
            await one.admit(client(tokens_per_day=1_000_000))
        async with sweeping(tmp_path, server.url, monkeypatch) as sweep:
            await until(lambda: sweep.gauge("limit_used", **USED) == 1024)
            server.ask("SET", sweeper.TURN, "somebody else")
            await rounds(sweep)
            server.ask("SET", sweeper.SWEPT, nonsense)
            await rounds(sweep)
            assert 1024 == sweep.gauge("limit_used", **USED)
        assert [] == sweep.lines()


async def test_state_of_another_version_is_logged_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rollbacks: one line names the clients of whom something cannot be read; the next comes when they are others."""
    with valkey() as server:
        server.ask("HSET", key("design", "limits"), "state", "of another kind")
        async with sweeping(tmp_path, server.url, monkeypatch) as sweep:
            await until(sweep.lines)
            await rounds(sweep)
            assert 1 == len(sweep.lines())
            server.ask("HSET", key("quiet", "limits"), "state", "too")
            await until(lambda: len(sweep.lines()) == 2)
        logged_events = [(line["event"], line["level"], line["clients"], line["of"]) for line in sweep.lines()]
    assert [
        ("state_unread", "error", ["design"], 1),
        ("state_unread", "error", ["design", "quiet"], 2),
    ] == logged_events


def _fill(server: Valkey, percent: int) -> None:
    allowed = int(server.ask("CONFIG", "GET", "maxmemory")["maxmemory"])
    server.ask("SET", "ballast", "")
    server.ask("SETRANGE", "ballast", allowed * percent // 100 - server.ask("INFO", "memory")["used_memory"], "x")


async def test_a_store_that_fills_up_is_logged_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R6: one warning above 80 % of the memory, one line when there is room again, and none in between."""
    with valkey(maxmemory="40mb", maxmemory_policy="noeviction") as server:
        async with sweeping(tmp_path, server.url, monkeypatch) as sweep:
            lines = sweep.lines
            _fill(server, 85)
            await until(lambda: len(lines()) == 1)
            assert 0.8 <= (sweep.gauge("store_full_ratio", store="state") or 0) <= 0.95
            _fill(server, 75)  # between the two bounds: nothing new
            await rounds(sweep)
            assert 1 == len(lines())
            server.ask("DEL", "ballast")
            await until(lambda: len(lines()) == 2)
            assert 0 < (sweep.gauge("store_full_ratio", store="state") or 0) < 0.7
        logged_events = [(line["event"], line["level"], line["store"]) for line in lines()]
    assert [("store_filling", "warning", "state"), ("store_has_room", "info", "state")] == logged_events
    assert 80 <= lines()[0]["full_percent"] <= 95


@pytest.mark.parametrize("options", [{}, {"maxmemory": "40mb"}], ids=["unbounded", "forbidden"])
async def test_what_cannot_be_known_is_no_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    """R6 R8: without a bound, or where the gateway's user may not run INFO, nothing is logged and the store stays available."""
    with valkey(**options) as server:
        server.ask("SETRANGE", "ballast", 38_000_000, "x")
        if options:
            server.ask("ACL", "SETUSER", "default", "-info")
        async with sweeping(tmp_path, server.url, monkeypatch) as sweep:
            async with gate(server.url) as one:
                await one.admit(client())
            await until(lambda: server.ask("HEXISTS", key("design", "limits"), "seen") == 1)
            await rounds(sweep)
        assert [] == sweep.lines()
        assert 0 == sweep.gauge("store_full_ratio", store="state")
