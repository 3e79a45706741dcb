"""Codex, headless: `codex exec`, with the README's configuration file."""

from pathlib import Path

import pytest

from tests.sdks.driving import MODULES, Ended, all_written, keys, node, require, run
from tests.sdks.written import codex_file
from tests.support.gateway import Gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
FEW_TRIES = "request_max_retries = 1\nstream_max_retries = 1\n"  # behind the provider's own lines


class Codex:
    """The tool, and what the gateway wrote of its requests."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        self._gateway, self._home, self._seen = gateway, folder / "home", len(gateway.lines())
        self._program = require(MODULES / "@openai" / "codex" / "bin" / "codex.js")
        self._keys = keys(gateway, "codex")

    async def ask(self, prompt: str, part: str = "good", file: str = "", variable: str = "GATEWAY_KEY") -> Ended:
        """Run it to its end; it must leave no process."""
        folder, work = self._home / ".codex", self._home / "work"
        folder.mkdir(parents=True, exist_ok=True)
        work.mkdir(exist_ok=True)
        (folder / "config.toml").write_text(file or codex_file(self._gateway) + FEW_TRIES)
        argv = [node(), str(self._program), "exec", "--skip-git-repo-check", prompt]
        given = {"CODEX_HOME": str(folder), variable: self._keys[part]}
        ended = await run(argv, self._home, cwd=work, **given)
        await all_written(self._gateway)
        assert [] == list(ended.left)
        return ended

    def statuses(self) -> list[tuple[int, str | None]]:
        """Status and reason of every request since the test began."""
        calls = [line for line in self._gateway.lines()[self._seen :] if line["event"] == "call"]
        return [(call["status"], call.get("reason")) for call in calls]


@pytest.fixture
def codex(gateway: Gateway, tmp_path: Path) -> Codex:
    """The tool, with a home of its own."""
    return Codex(gateway, tmp_path)


async def test_text(codex: Codex) -> None:
    """Codex: a prompt is answered by a provider of one's own, without the internet."""
    ended = await codex.ask("Say hello")
    assert 0 == ended.status, ended
    assert "Hello from the sandbox!" in ended.output
    assert 1 == len(codex.statuses())


async def test_websockets(codex: Codex, gateway: Gateway) -> None:
    """Codex: with a base URL alone it asks for a WebSocket, is refused once, and goes on over HTTP at once."""
    file = f'model = "gpt-5.4-mini"\nopenai_base_url = "{gateway.url}/v1"\n'
    ended = await codex.ask("Say hello", file=file, variable="CODEX_API_KEY")
    assert 0 == ended.status, ended
    assert "Hello from the sandbox!" in ended.output
    assert "Reconnecting" not in ended.errors
    statuses = codex.statuses()
    assert (426, "UPGRADE") == statuses[0]
    assert 2 == len(statuses)


async def test_tools(codex: Codex) -> None:
    """Codex: its own tool, a shell, is called, and the result is sent in a second request."""
    ended = await codex.ask("echo tool")
    assert 0 == ended.status, ended
    assert "The tool said" in ended.output
    assert 2 == len(codex.statuses())


async def test_errors(codex: Codex) -> None:
    """Codex: it shows the gateway's sentence about a wrong key; a spent budget ends it at once."""
    wrong = await codex.ask("Say hello", "wrong")
    assert (1, True) == (wrong.status, "API key not valid." in wrong.errors)
    assert {(401, "KEY_INVALID")} == set(codex.statuses())

    await codex.ask("Say hello", "spent")
    before = len(codex.statuses())
    spent = await codex.ask("Say hello", "spent")
    assert (1, True) == (spent.status, "Quota exceeded." in spent.errors)
    assert [(429, "BUDGET_SPENT")] == codex.statuses()[before:]


async def test_cut_streams(codex: Codex) -> None:
    """Codex: a stream that breaks off is asked for again, and in the end is an error, never an answer."""
    ended = await codex.ask("sandbox-gap: 0.1 sandbox-fault: cut Say hello", "cut")
    assert (1, "") == (ended.status, ended.output.strip())
    assert "stream disconnected before completion" in ended.errors
    assert [(200, "UPSTREAM_BROKE")] * 2 == codex.statuses()
