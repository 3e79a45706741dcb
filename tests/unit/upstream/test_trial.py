"""Does a new upstream key take force only when the upstream takes it, and is the one in force kept meanwhile?"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.app import Intervals
from gateway.config import watched_file as files
from tests.support.gateway import GENERATE, TEXT, Gateway, running
from tests.support.valkey import Valkey
from tests.support.waiting import until
from tests.support.wire import Wire, answer, saying, wire

OLD, NEW = "sk-canary-old-0815", "sk-canary-new-4711"
ANSWER = b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}],"usageMetadata":{}}'
SPENT = b'{"error":{"message":"no","type":"new_api_error","code":"insufficient_user_quota"}}'
OTHER = b'{"error":{"message":"no","type":"new_api_error","code":"access_denied"}}'
SPENT_CUT = answer(SPENT, status="403 Forbidden")[:-40]
HANG = b""
JUDGEMENTS = {
    "taken": [
        answer(b'{"models":[]}'), answer(b"", status="204 No Content"), answer(b"{}", status="404 Not Found"),
        answer(OTHER, status="403 Forbidden"), answer(b"{}", status="429 Too Many Requests"),
        answer(b"<html>", status="500 Internal Server Error"), answer(b"", status="302 Found", more="location: /x\r\n"),
        answer(b"[" * 5 * 2**20),
    ],
    "refused": [
        answer(b"{}", status="401 Unauthorized"), answer(b"<html>", status="401 Unauthorized"),
        answer(SPENT, status="403 Forbidden"), answer(b"x", status="401 No", more="content-encoding: zstd\r\n"),
    ],
    "unreached": [
        answer(b"", status="407 Proxy Authentication Required"), b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", answer(b"x", more="content-encoding: zstd\r\n"),
        SPENT_CUT, HANG,
    ],
}  # fmt: skip
CASES = [(verdict, said) for verdict, answers in JUDGEMENTS.items() for said in answers]


class Judge:
    """Answers calls, and a trial of the new key as it is told; an empty word is silence."""

    def __init__(self, said: bytes) -> None:
        self.said = said
        self.trials = 0

    async def __call__(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"pageSize=1" not in head:
            await saying(answer(ANSWER), close=False)(head, reader, writer)
            return
        assert f"Bearer {NEW}".encode() in head
        self.trials += 1
        await saying(self.said or b"", pause=0 if self.said else 60)(head, reader, writer)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """The key's file."""
    path = tmp_path / "key"
    path.write_text(f"{OLD}\n")
    return path


@contextlib.asynccontextmanager
async def following(tmp_path: Path, url: str, state: Valkey, secret: Path) -> AsyncIterator[Gateway]:
    """A gateway whose trials of the key in the file end soon, and are repeated soon."""
    soon = Intervals(trial_seconds=0.3, refused_key_seconds=0.05, unreached_seconds=0.05)
    async with running(
        tmp_path, url, redis_url=state.url, upstream_key=None, upstream_key_file=secret, intervals=soon
    ) as gateway:
        yield gateway


def said(gateway: Gateway, event: str) -> list[str]:
    """The problems of all such lines."""
    return [str(line.get("problem", "")) for line in gateway.lines() if line["event"] == event]


async def key_used(gateway: Gateway, heard: Wire) -> str:
    """The key with which a call goes up."""
    assert 200 == (await gateway.http.post(GENERATE, json=TEXT)).status_code
    found = re.search(rb"Bearer (\S+)", next(head for head in reversed(heard.heads) if b"POST" in head))
    assert found is not None
    return found[1].decode()


@pytest.mark.parametrize(
    ("verdict", "words"), CASES, ids=[f"{verdict}-{number}" for number, (verdict, _) in enumerate(CASES)]
)
async def test_a_new_key_is_judged(tmp_path: Path, state: Valkey, secret: Path, verdict: str, words: bytes) -> None:
    """S6: refused or untried it leaves the old one in force, said once; judged well later it is taken."""
    judge = Judge(words)
    async with wire(judge) as heard, following(tmp_path, heard.url, state, secret) as gateway:
        files.replace(secret, lambda _: f"{NEW}\n".encode())
        if verdict != "taken":
            await until(lambda: judge.trials >= 2)
            assert OLD == await key_used(gateway, heard)
            (problem,) = said(gateway, "reload_failed")
            assert {"refused": "refuses this key", "unreached": "cannot be reached"}[verdict] in problem
            await until(lambda: gateway.metric("gateway_config_file_ignored") == 1)
            assert 1 == gateway.metric("gateway_config_reload_failures_total")
            judge.said = answer(b"{}")
        await until(lambda: len(said(gateway, "reloaded")) == 1)
        assert NEW == await key_used(gateway, heard)
        tried = judge.trials
        assert "same" == await gateway.app.parts.key.refresh()
        assert tried == judge.trials
        await until(lambda: gateway.metric("gateway_config_file_ignored") == 0)
        assert 0 == gateway.metric("gateway_upstream_key_refused_total")
        assert not [line for line in gateway.lines() if "sk-canary" in str(line)]


async def test_an_upstream_that_is_away_is_asked_again(tmp_path: Path, state: Valkey, secret: Path) -> None:
    """S6: with nobody listening the old key stays; once somebody does, the new one is taken."""
    judge = Judge(answer(b"{}"))
    async with wire(judge) as first:
        url = first.url
    port = int(url.rpartition(":")[2])
    async with following(tmp_path, url, state, secret) as gateway:
        files.replace(secret, lambda _: NEW.encode())
        await until(lambda: bool(said(gateway, "reload_failed")))
        assert OLD == gateway.app.parts.key.value
        server = await asyncio.start_server(lambda r, w: saying(answer(b"{}"))(b"", r, w), "127.0.0.1", port)
        await until(lambda: gateway.app.parts.key.value == NEW)
        server.close()


@pytest.mark.parametrize("content", ["", "  \n", "sk a", "sk-ca\nnary", "sk-\u00fc", "\0", "x" * 2000])
async def test_what_is_no_key_is_not_even_tried(tmp_path: Path, state: Valkey, secret: Path, content: str) -> None:
    """S6: a half-written file is refused as it is; and the old key's coming back ends it."""
    judge = Judge(answer(b"{}"))
    async with wire(judge) as heard, following(tmp_path, heard.url, state, secret) as gateway:
        files.replace(secret, lambda _: content.encode())
        await until(lambda: len(said(gateway, "reload_failed")) == 1)
        assert (0, OLD) == (judge.trials, await key_used(gateway, heard))
        files.replace(secret, lambda _: OLD.encode())
        await until(lambda: len(said(gateway, "reloaded")) == 1)
        assert 0 == judge.trials
        await until(lambda: gateway.metric("gateway_config_file_ignored") == 0)


async def test_the_old_key_back_ends_the_trial(tmp_path: Path, state: Valkey, secret: Path) -> None:
    """S6: a refused key that is taken back is asked about no more."""
    judge = Judge(answer(b"{}", status="401 Unauthorized"))
    async with wire(judge) as heard, following(tmp_path, heard.url, state, secret) as gateway:
        files.replace(secret, lambda _: NEW.encode())
        await until(lambda: judge.trials >= 1)
        files.replace(secret, lambda _: OLD.encode())
        await until(lambda: gateway.app.parts.key.problem is None and len(said(gateway, "reloaded")) == 1)
        tried = judge.trials
        assert "same" == await gateway.app.parts.key.refresh()
        assert (tried, OLD) == (judge.trials, await key_used(gateway, heard))
