"""Claude Code, headless: `claude -p`, set as the README's table says."""

from pathlib import Path

import pytest

from tests.sdks.driving import MODULES, Ended, all_written, keys, require, run
from tests.sdks.written import variables
from tests.support.gateway import Gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
MODEL = "claude-opus-4-6"
FEW_TRIES = {"CLAUDE_CODE_MAX_RETRIES": "1"}  # the usual ten take minutes


class ClaudeCode:
    """The tool, and what the gateway wrote of its requests."""

    def __init__(self, gateway: Gateway, folder: Path) -> None:
        self._gateway, self._folder = gateway, folder
        packages = sorted(MODULES.glob("@anthropic-ai/claude-code-*/claude"))
        self._program = packages[0] if packages else require(MODULES / "@anthropic-ai" / "claude-code-linux-x64")
        self._keys = keys(gateway, "claude-code")

    async def ask(self, prompt: str, part: str = "good", tools: str = "", **more: str) -> Ended:
        """Run it to its end; it must leave no process, and ask nobody else."""
        work = self._folder / "work"
        work.mkdir(exist_ok=True)
        argv = [str(self._program), "-p", prompt, "--model", MODEL, "--tools", tools]
        given = variables("Claude Code", self._gateway, self._keys[part])
        ended = await run(argv, self._folder / "home", cwd=work, **{**given, **FEW_TRIES, **more})
        await all_written(self._gateway)
        assert ([], []) == (list(ended.left), list(ended.asked))
        return ended

    def tries(self, part: str = "good") -> list[tuple[int, str | None]]:
        """Status and reason of every request with the key of this part."""
        calls = [line for line in self._gateway.lines() if line.get("client") == f"claude-code-{part}"]
        return [(call["status"], call.get("reason")) for call in calls]


@pytest.fixture
def claude_code(gateway: Gateway, tmp_path: Path) -> ClaudeCode:
    """The tool, with a home of its own."""
    return ClaudeCode(gateway, tmp_path)


async def test_text(claude_code: ClaudeCode) -> None:
    """Claude Code: a prompt is answered, also beside a real key of Anthropic's in the environment."""
    alone = await claude_code.ask("Say hello")
    beside = await claude_code.ask("Say hello", ANTHROPIC_API_KEY="sk-ant-api03-somebody-else")
    for ended in (alone, beside):
        assert 0 == ended.status, ended
        assert "Hello from the sandbox!" in ended.output


async def test_tools(claude_code: ClaudeCode) -> None:
    """Claude Code: its own tool is called, and the result is sent in a second request."""
    before = len(claude_code.tries())
    ended = await claude_code.ask("Read", tools="Read")
    assert 0 == ended.status, ended
    assert "The tool said" in ended.output
    assert [(200, None)] * 2 == claude_code.tries()[before:]


async def test_errors(claude_code: ClaudeCode) -> None:
    """Claude Code: it shows the gateway's sentence about a wrong key, and about a spent budget, which it asks once."""
    wrong = await claude_code.ask("Say hello", "wrong")
    await claude_code.ask("Say hello", "spent")
    spent = await claude_code.ask("Say hello", "spent")
    assert (1, True) == (wrong.status, "API key not valid." in wrong.output)
    assert (1, True) == (spent.status, "tokens_per_day: 1 are allowed." in spent.output)
    assert [(200, None), (429, "BUDGET_SPENT")] == claude_code.tries("spent")


async def test_cut_streams(claude_code: ClaudeCode) -> None:
    """Claude Code: a stream that breaks off is asked for again, as a stream or whole, never shown as whole."""
    prompt = "sandbox-gap: 0.1 sandbox-fault: cut*1 Say hello"  # once for each form of the request
    ended = await claude_code.ask(prompt, "cut", CLAUDE_CODE_MAX_RETRIES="3")
    tries = claude_code.tries("cut")
    assert 0 == ended.status, (ended, tries)
    assert "I always answer like this." in ended.output
    assert ((200, "UPSTREAM_BROKE"), (200, None)) == (tries[0], tries[-1])
