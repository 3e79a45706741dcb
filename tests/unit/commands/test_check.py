"""Would it serve?  What `check` prints of good and of broken parts."""

import asyncio
from pathlib import Path

import pytest

from gateway.commands import check
from gateway.config.settings import Settings
from tests.support.gateway import UPSTREAM_KEY, Upstream
from tests.support.valkey import Valkey
from tests.support.wire import answer, saying, wire

GONE = "unix:///nonexistent/socket"


@pytest.fixture
def good(tmp_path: Path, upstream: Upstream, state: Valkey) -> dict[str, object]:
    """Settings with which all is well."""
    (tmp_path / "clients.toml").write_text('[clients.design]\nkey_sha256 = ["%s"]\ndisabled = true\n' % ("a" * 64))
    return {
        "clients_file": tmp_path / "clients.toml",
        "redis_url": state.url,
        "upstream_url": upstream.url,
        "upstream_key": UPSTREAM_KEY,
    }


async def checked(settings: dict[str, object], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str]]:
    """Exit status and lines."""
    status = await asyncio.to_thread(check.run, Settings(**settings))  # type: ignore[arg-type]
    return status, capsys.readouterr().out.splitlines()


async def test_all_is_well(good: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    """Interface: one line each for settings, clients, store and upstream, and exit status 0."""
    status, lines = await checked(good, capsys)
    assert (0, ["settings", "clients", "store", "upstream"]) == (status, [line.split()[1] for line in lines])
    assert {"ok"} == {line.split()[0] for line in lines}
    assert "1 in" in lines[1]
    assert "1 of them disabled" in lines[1]


@pytest.mark.parametrize(
    ("broken", "red", "advice"),
    [
        ({"clients_file": Path("/nonexistent")}, "clients", "clients add"),
        ({"redis_url": GONE}, "store", "state: "),
        ({"cache_redis_url": GONE}, "store", "cache: "),
        ({"redis_url": None, "cache_redis_url": GONE}, "store", "cache: "),
        ({"upstream_url": "http://127.0.0.1:1"}, "upstream", "cannot be reached"),
        ({"upstream_key": "sk-wrong"}, "upstream", "refuses our key (401)"),
        ({"upstream_key": None}, "upstream", "GATEWAY_UPSTREAM_KEY"),
    ],
)
async def test_what_is_broken_is_red(
    good: dict[str, object],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    broken: dict[str, object],
    red: str,
    advice: str,
) -> None:
    """X3: the one broken part is red with what to do, the others are still checked, and the exit status is 1."""
    status, lines = await checked({**good, "data_dir": tmp_path / "data", **broken}, capsys)
    reds = [line for line in lines if line.startswith("RED")]
    assert (1, 4, [red]) == (status, len(lines), [line.split()[1] for line in reds])
    assert advice in reds[0]
    assert UPSTREAM_KEY not in "".join(lines)


@pytest.mark.parametrize(
    ("status", "advice"),
    [("407 Proxy Authentication Required", "GATEWAY_UPSTREAM_PROXY"), ("404 Not Found", "is it the right address?")],
)
async def test_an_address_that_is_no_upstream(
    good: dict[str, object], capsys: pytest.CaptureFixture[str], status: str, advice: str
) -> None:
    """X3: whoever answers in the upstream's place is named with what to look at."""
    async with wire(saying(answer(b"{}", status=status))) as other:
        ended, lines = await checked({**good, "upstream_url": other.url}, capsys)
    assert 1 == ended
    assert lines[3].startswith("RED")
    assert advice in lines[3]
