"""Which tasks are there, and does a client get one that has no owner?  On one server, the embedded one, and a cluster."""

import asyncio
import time
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.commands import CommandError, WrongUseError
from gateway.commands.tasks import run
from gateway.config.settings import Settings
from gateway.limits.client_limits import key
from gateway.store import Store
from gateway.tasks import Task, Tasks
from tests.support.gateway import UPSTREAM_KEY, clients_toml
from tests.support.valkey import Valkey, cluster

HOUR = 3_600_000


def settings_for(url: str, folder: Path) -> Settings:
    """Two clients, and a store."""
    (folder / "clients.toml").write_text(clients_toml({"design": "k", "facts": "f"}, {}))
    return Settings(redis_url=url, clients_file=folder / "clients.toml", upstream_key=UPSTREAM_KEY)


def fill(url: str) -> None:
    """Three tasks of two clients, one of them with two ids, and one that is still open."""

    async def put() -> None:
        store, now = Store(url, timeout=10), int(time.time() * 1000)
        tasks = Tasks(store, taken=lambda: None, dropped=lambda: None)
        made = Task(client="design", id="t-1", model="sora-2", at=now - 2 * HOUR - 1, tokens=108_000, videos=1)
        await tasks.own(made, ["t-1", "t-1b"])
        await tasks.own(Task(client="facts", id="t-2", at=now - 50 * HOUR, state="failed"), ["t-2"])
        await tasks.own(Task(client="design", id="t-3", model="m", at=now - 1000, state="succeeded"), ["t-3"])
        await store.command("ZADD", key("design", "tasks"), now, "t-1")
        await store.aclose()

    asyncio.run(put())


def listed(settings: Settings, capsys: pytest.CaptureFixture[str], client: str | None = None) -> list[list[str]]:
    """The rows of the list."""
    capsys.readouterr()
    assert 0 == run(settings, "list", client, "", "")
    return [line.split("  ") for line in capsys.readouterr().out.splitlines()]


def test_the_list(state: Valkey, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """K10: each task once, the oldest first, with its owner, model, age, state and what it holds."""
    settings = settings_for(state.url, tmp_path)
    assert [["task", "client", "model", "age", "state", "held"]] == listed(settings, capsys)
    fill(state.url)
    words = [[word.strip() for word in row if word.strip()] for row in listed(settings, capsys)]
    assert [
        ["task", "client", "model", "age", "state", "held"],
        ["t-2", "facts", "-", "2d", "failed", "-"],
        ["t-1", "design", "sora-2", "2h", "open", "108,000 tokens, 1 video"],
        ["t-3", "design", "m", words[3][3], "succeeded", "-"],
    ] == words
    assert 2 == len(listed(settings, capsys, "facts"))


def test_a_cluster_has_all_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """K10: tasks of every node are listed, and one is given away on whatever node it lives."""
    with cluster() as ports:
        settings = settings_for(f"redis+cluster://127.0.0.1:{ports[0]}", tmp_path)
        fill(str(settings.redis_url))
        assert 4 == len(listed(settings, capsys))
        assert 0 == run(settings, "adopt", "facts", "t-9", "")
        assert 5 == len(listed(settings, capsys))


def test_a_task_without_an_owner_gets_one(state: Valkey, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """K10: an operator gives a task to a client that exists; one that has an owner stays theirs."""
    settings = settings_for(state.url, tmp_path)
    for _ in range(2):
        assert 0 == run(settings, "adopt", "facts", "t-9", "sora-2")
        assert "t-9 belongs to facts from now on\n" == capsys.readouterr().out
    with pytest.raises(CommandError, match="belongs to facts, and stays theirs"):
        run(settings, "adopt", "design", "t-9", "")
    with pytest.raises(CommandError, match="there is no client nobody"):
        run(settings, "adopt", "nobody", "t-9", "")
    for client, task in (("Nobody!", "t"), ("facts", "a/b"), ("facts", "x" * 192)):
        with pytest.raises(WrongUseError):
            run(settings, "adopt", client, task, "")
    state.kill()
    try:
        with pytest.raises(CommandError, match="the state store cannot be used"):
            run(settings, "list", None, "", "")
    finally:
        state.start()


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """K10: `tasks` and `tasks adopt` on the embedded store, which they start for their duration."""
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("GATEWAY_UPSTREAM_KEY", "sk-none")
    monkeypatch.setenv("GATEWAY_CLIENTS_FILE", str(settings_for("unix:///none", tmp_path).clients_file))
    assert 0 == main(["tasks", "adopt", "t-9", "--client", "design", "--model", "sora-2"])
    assert 0 == main(["tasks", "--client", "design"])
    assert ["t-9", "design", "sora-2"] == capsys.readouterr().out.splitlines()[2].split()[:3]
    assert 0 == main(["tasks", "--client", "facts"])
    assert 1 == len(capsys.readouterr().out.splitlines())
    assert 1 == main(["tasks", "adopt", "t-9", "--client", "nobody"])
