"""What was used, and by whom?  The report of real records, in every form."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.commands import CommandError, WrongUseError
from gateway.commands.usage import PAGE, run
from gateway.config.settings import Settings
from gateway.limits.client_limits import key
from tests.support.gate import NOTHING, client, gate, used
from tests.support.valkey import Valkey, valkey

CLIENTS = "\n".join(
    f'[clients.{name}]\nkey_sha256 = ["{digit * 64}"]' for name, digit in [("design", "a"), ("facts", "b")]
)
DAY = 86_400_000


@pytest.fixture
def server() -> Iterator[Valkey]:
    """A store with the records of a few calls."""
    with valkey() as one:
        asyncio.run(_calls(one.url))
        yield one


@pytest.fixture
def settings(server: Valkey, tmp_path: Path) -> Settings:
    """Settings of a gateway on that store."""
    (tmp_path / "clients.toml").write_text(CLIENTS)
    return Settings(redis_url=server.url, clients_file=tmp_path / "clients.toml")


async def _calls(url: str) -> None:
    async with gate(url, timeout=5) as one:
        for name, model, usage, outcome in [
            ("design", "gemini-2.5-flash", used(1500), "ok"),
            ("design", "gemini-2.5-flash", NOTHING, "cache_hit"),
            ("design", "gemini-2.5-flash-image", used(1290, images=1), "ok"),
            ("facts", "gemini-2.5-flash", NOTHING, "ok"),
        ]:
            permit = await one.admit(client(name), model=model)
            await permit.settle(usage, outcome)


def printed(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    """The report, read back."""
    rows: list[Any] = json.loads(capsys.readouterr().out)
    return rows


def test_by_client(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """A4: the sums are those of the records."""
    assert 0 == run(settings, "24h", "client", "json")

    nothing = {"cache_hits": 0, "tokens_in": 0, "images": 0, "videos": 0, "estimated": 0, "lost": 0}
    assert [
        nothing | {"client": "design", "calls": 3, "cache_hits": 1, "tokens_out": 2790, "tokens": 2790, "images": 1},
        nothing | {"client": "facts", "calls": 1, "tokens_out": 1024, "tokens": 1024, "estimated": 1},
    ] == printed(capsys)


def test_by_model_as_a_table(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """A table lines up, numbers to the right."""
    run(settings, "24h", "model", "table")

    assert [
        "model                   calls  cache_hits  tokens_in  tokens_out  tokens  images  videos  estimated  lost",
        "gemini-2.5-flash            3           1          0       2,524   2,524       0       0          1     0",
        "gemini-2.5-flash-image      1           0          0       1,290   1,290       1       0          0     0",
    ] == capsys.readouterr().out.splitlines()


def test_by_day_as_csv(settings: Settings, server: Valkey, capsys: pytest.CaptureFixture[str]) -> None:
    """A record counts on the day of its admission, also when it was written on the next."""
    at = 20_000 * DAY - 1
    facts = ["call", "x", "at", at, "model", "m", "outcome", "lost", "usage", "estimated"]
    server.ask("DEL", key("design", "usage"), key("facts", "usage"))
    server.ask("XADD", key("facts", "usage"), f"{at + 5000}-0", *facts, "tokens", 5, "in", 0, "out", 0, "images", 0)

    run(settings, "99999d", "day", "csv")

    assert [
        "day,calls,cache_hits,tokens_in,tokens_out,tokens,images,videos,estimated,lost",
        "2024-10-03,1,0,0,0,5,0,0,1,1",
    ] == capsys.readouterr().out.splitlines()


def test_since_leaves_out_what_is_older(settings: Settings, server: Valkey, capsys: pytest.CaptureFixture[str]) -> None:
    """Only what was admitted since then is counted, over as many pages as there are."""
    seconds, _ = server.ask("TIME")
    old = int(seconds) * 1000 - 2 * 3_600_000
    fill = """for n = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'call', n, 'at', ARGV[2], 'model', 'm',
        'outcome', 'ok', 'usage', 'reported', 'tokens', 1, 'in', 0, 'out', 1, 'images', 0) end"""
    server.ask("EVAL", fill, 1, key("facts", "usage"), 2 * PAGE, old)

    run(settings, "1h", "client", "json")
    assert [3, 1] == [row["calls"] for row in printed(capsys)]

    run(settings, "3h", "client", "json")
    assert [3, 2 * PAGE + 1] == [row["calls"] for row in printed(capsys)]


def test_a_client_that_left_the_file_is_still_counted(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """A2: what a client used stays in the report when the client is taken out of the file; lists have no model."""

    async def leave() -> None:
        async with gate(str(settings.redis_url), timeout=5) as one:
            await (await one.admit(client("left"), method="listModels", model="")).settle(NOTHING, "ok")
            await one.limits.sweep([client(name) for name in ("design", "facts", "left")])

    asyncio.run(leave())
    run(settings, "1h", "client", "json")
    assert {"design": 3, "facts": 1, "left": 1} == {row["client"]: row["calls"] for row in printed(capsys)}
    run(settings, "1h", "model", "json")
    assert {"gemini-2.5-flash": 3, "gemini-2.5-flash-image": 1, "-": 1} == {
        row["model"]: row["calls"] for row in printed(capsys)
    }


def test_a_strange_time_is_wrong_use(settings: Settings) -> None:
    """What cannot be a time is refused before anything is asked."""
    for since in ("", "24", "h", "-1h", "1w", "1h "):
        with pytest.raises(WrongUseError):
            run(settings, since, "client", "table")


def test_an_unavailable_store_is_one_clear_line(settings: Settings, server: Valkey) -> None:
    """The command fails, and says what to check."""
    server.kill()
    with pytest.raises(CommandError, match="GATEWAY_REDIS_URL"):
        run(settings, "1h", "client", "table")
    server.start()


def test_a_clients_file_that_does_not_load_is_one_clear_line(settings: Settings) -> None:
    """The report knows clients by the file."""
    settings.clients_file.write_text("nonsense")
    with pytest.raises(CommandError, match="clients file"):
        run(settings, "1h", "client", "table")
