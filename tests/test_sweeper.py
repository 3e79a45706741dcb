"""The parent's sweep: what dead workers left behind, and a store that fills up."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import sweeper
from gateway.logs import Log
from gateway.settings import Settings
from tests.limits.gate import client, gate, leases, records
from tests.limits.test_leases import expire
from tests.support.gateway import clients_toml
from tests.support.valkey import Valkey, until, valkey

Lines = Callable[[], list[dict[str, Any]]]


@contextlib.asynccontextmanager
async def sweeping(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lines]:
    """The sweep, a hundred times as often as in earnest, and what it has logged."""
    monkeypatch.setattr(sweeper, "SWEEP_SECONDS", 0.05)
    clients, logged = folder / "clients.toml", folder / "log"
    clients.write_text(clients_toml({"design": "k", "quiet": "q"}, {"design": "tokens_per_day = 1_000_000"}))
    settings = Settings(redis_url=url, clients_file=clients, upstream_key="sk-none")
    with logged.open("ab") as file:
        log = Log(fd=file.fileno())
        task = asyncio.create_task(sweeper.sweep(settings, log))
        try:
            yield lambda: [json.loads(line) for line in logged.read_text().splitlines()]
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
        async with sweeping(tmp_path, server.url, monkeypatch) as lines:
            await until(lambda: leases(server) == 0)
        assert ["lost"] * 5 == [record["outcome"] for record in records(server)]
        assert [] == lines()


def _fill(server: Valkey, percent: int) -> None:
    allowed = int(server.ask("CONFIG", "GET", "maxmemory")["maxmemory"])
    server.ask("SET", "ballast", "")
    server.ask("SETRANGE", "ballast", allowed * percent // 100 - server.ask("INFO", "memory")["used_memory"], "x")


async def test_a_store_that_fills_up_is_told_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """R6: one warning above 80 % of the memory, one line when there is room again, and none in between."""
    with valkey(maxmemory="40mb", maxmemory_policy="noeviction") as server:
        async with sweeping(tmp_path, server.url, monkeypatch) as lines:
            _fill(server, 85)
            await until(lambda: len(lines()) == 1)
            _fill(server, 75)  # between the two bounds: nothing new
            visits = server.ask("INFO", "commandstats")["cmdstat_info"]["calls"]
            await until(lambda: server.ask("INFO", "commandstats")["cmdstat_info"]["calls"] > visits + 5)
            assert 1 == len(lines())
            server.ask("DEL", "ballast")
            await until(lambda: len(lines()) == 2)
        told = [(line["event"], line["level"], line["store"]) for line in lines()]
    assert [("store_filling", "warning", "state"), ("store_has_room", "info", "state")] == told
    assert 80 <= lines()[0]["full_percent"] <= 95


@pytest.mark.parametrize("options", [{}, {"maxmemory": "40mb"}], ids=["unbounded", "forbidden"])
async def test_what_cannot_be_known_is_no_alarm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, str]
) -> None:
    """R6 R8: without a bound, or where the gateway's user may not ask, nothing is said and the store is not lost."""
    with valkey(**options) as server:
        server.ask("SETRANGE", "ballast", 38_000_000, "x")
        if options:
            server.ask("ACL", "SETUSER", "default", "-info")
        async with sweeping(tmp_path, server.url, monkeypatch) as lines:
            async with gate(server.url) as one:
                await one.admit(client())
            await until(lambda: server.ask("HEXISTS", "gw:{design}:limits", "seen") == 1)
            await asyncio.sleep(0.2)
        assert [] == lines()
