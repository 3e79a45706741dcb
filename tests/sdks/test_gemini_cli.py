"""Gemini CLI, headless: `gemini -p`, set as the README's table says."""

from pathlib import Path

import pytest

from tests.sdks.driving import MODULES, Ended, keys, node, require, run
from tests.sdks.written import cell, variables
from tests.support.gateway import Gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


async def ask(gateway: Gateway, folder: Path, part: str) -> Ended:
    """Run it to its end; it must leave no process."""
    program = require(MODULES / "@google" / "gemini-cli" / "bundle" / "gemini.js")
    settings = folder / "home" / ".gemini" / "settings.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(next(code for code in cell("Gemini CLI", gateway).split("`") if code.startswith("{")))
    argv = [node(), str(program), "--skip-trust", "-m", "gemini-2.5-flash", "-p", "Say hello"]
    given = variables("Gemini CLI", gateway, keys(gateway, "gemini-cli")[part])
    ended = await run(argv, folder / "home", cwd=folder, **given)
    assert [] == list(ended.left)
    return ended


async def test_text(gateway: Gateway, tmp_path: Path) -> None:
    """Gemini CLI: a prompt is answered."""
    ended = await ask(gateway, tmp_path, "good")
    assert 0 == ended.status, ended.errors
    assert "Hello from the sandbox!" in ended.output


async def test_a_wrong_key(gateway: Gateway, tmp_path: Path) -> None:
    """Gemini CLI: it shows the gateway's sentence about a wrong key."""
    ended = await ask(gateway, tmp_path, "wrong")
    assert 0 != ended.status
    assert "API key not valid. Please pass a valid API key." in ended.errors
