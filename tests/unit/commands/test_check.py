"""Would it serve?  What `check` prints of good and of broken parts."""

import asyncio
import re
from pathlib import Path

import pytest

from gateway.commands import check
from gateway.config.settings import Settings
from tests.support.gateway import UPSTREAM_KEY, Upstream
from tests.support.valkey import Valkey
from tests.support.wire import Play, answer, wire

GOOGLES, OPENAIS = b'{"models":[{"name":"models/a"},{"name":"models/b"}]}', b'{"data":[{"id":"c"}]}'
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
    assert re.search(r": /v1beta/models names [1-9]\d* model\(s\), /v1/models names [1-9]\d* model\(s\)$", lines[3])


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


def listing(google: bytes, openai: bytes) -> Play:
    """An upstream that gives these answers to the two lists."""
    given = {b"GET /v1beta/models": google, b"GET /v1/models": openai}

    async def play(head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (said,) = [said for path, said in given.items() if head.startswith((path + b"?", path + b" "))]
        writer.write(LAST_PAGE if b"pageToken=2" in head else said)
        await writer.drain()

    return play


FIRST_PAGE = answer(GOOGLES.replace(b"]}", b'],"nextPageToken":"2"}'))
LAST_PAGE = answer(b'{"models":[{"name":"models/b"},{"name":"models/c"}]}')
NOT_THERE, HTML = answer(b"{}", status="404 Not Found"), answer(b"<html>", content_type="text/html")
REFUSED = answer(b'{"error":{"message":"sk-canary-upstream-4711"}}', status="401 Unauthorized")


@pytest.mark.parametrize(
    ("google", "openai", "said"),
    [
        (answer(GOOGLES), answer(OPENAIS), "/v1beta/models names 2 model(s), /v1/models names 1 model(s)"),
        (FIRST_PAGE, answer(OPENAIS), "/v1beta/models names 3 model(s), /v1/models names 1 model(s)"),
        (NOT_THERE, answer(OPENAIS), "/v1beta/models answers 404, /v1/models names 1 model(s)"),
        (answer(GOOGLES), HTML, "/v1beta/models names 2 model(s), /v1/models answers 200 and is no list"),
        (answer(GOOGLES), REFUSED, "/v1beta/models names 2 model(s), /v1/models answers 401"),
    ],
    ids=["both", "two pages", "no Gemini", "a page", "refused"],
)
async def test_one_list_is_enough(
    good: dict[str, object], capsys: pytest.CaptureFixture[str], google: bytes, openai: bytes, said: str
) -> None:
    """Interface: the line of the upstream says how many models each of its lists names; one that can be read is enough."""
    async with wire(listing(google, openai)) as upstream:
        status, lines = await checked({**good, "upstream_url": upstream.url}, capsys)
    assert (0, f"ok   upstream  {upstream.url}: {said}") == (status, lines[3])


@pytest.mark.parametrize(
    ("google", "openai", "said"),
    [
        (NOT_THERE, HTML, "lists no models: /v1beta/models answers 404, /v1/models answers 200 and is no list"),
        (
            HTML,
            answer(b'{"error":{"message":"no"}}'),
            "/v1/models answers 200 and is no list; is it the right address?",
        ),
        (REFUSED, NOT_THERE, "refuses our key (401)"),
        (NOT_THERE, answer(b"", status="407 Login"), "the forward proxy refuses our user or password"),
    ],
    ids=["not there", "another service", "refused", "proxy"],
)
async def test_without_a_list_the_upstream_is_red(
    good: dict[str, object], capsys: pytest.CaptureFixture[str], google: bytes, openai: bytes, said: str
) -> None:
    """X3, S1: neither list can be read, so the line is red and says why, without the key."""
    async with wire(listing(google, openai)) as upstream:
        status, lines = await checked({**good, "upstream_url": upstream.url}, capsys)
    assert (1, True) == (status, lines[3].startswith("RED  upstream"))
    assert said in lines[3]
    assert UPSTREAM_KEY not in "".join(lines)
