"""Is what the README says true?  Its tables come from the code, and its examples are run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import errors
from gateway.config.settings import PREFIX, Settings
from tests.support.gateway import Gateway

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
TABLE = re.compile(r"(<!-- settings: [^>]* -->\n).*?(<!-- /settings -->)", re.DOTALL)


def settings_table() -> str:
    """The settings, as the README shows them."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "none" if field.default is None else f"`{field.default}`"
        if isinstance(field.default, bool):
            default = default.lower()
        rows.append(f"| `{PREFIX}{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def block(language: str) -> str:
    """The first example in a language that calls the gateway."""
    return str(next(code for code in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if "127.0.0.1" in code))


def test_every_setting_is_in_the_readme() -> None:
    """The settings table is the code's; `python -m tests.behaviour.test_docs` writes it anew."""
    found = TABLE.search(README)
    assert found is not None
    assert f"{found[1]}{settings_table()}{found[2]}" == found[0]


def test_every_reason_is_in_the_readme() -> None:
    """A caller finds each reason an error can give."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.GatewayError)]
    reasons = {kind.reason for kind in kinds if hasattr(kind, "reason")} - {"CLIENT_GONE"}
    assert set() == {reason for reason in reasons if f"`{reason}`" not in README}


async def run(*argv: str, cwd: Path | None = None) -> str:
    """What a program prints, run beside the loop that serves it."""
    import asyncio

    environment = {name: value for name, value in os.environ.items() if not name.upper().endswith("_PROXY")}
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd, env=environment
    )
    output, problems = await process.communicate()
    assert 0 == process.returncode, problems.decode()
    return output.decode()


def filled(code: str, gateway: Gateway) -> str:
    """An example, with a real key and the real address."""
    return code.replace("thg_YOUR_KEY", gateway.key).replace("http://127.0.0.1:8080", gateway.url)


async def test_the_python_example_runs(gateway: Gateway) -> None:
    """README: Google's Python SDK, as written there."""
    output = await run(sys.executable, "-c", filled(block("python"), gateway))
    assert "Hello" in output
    assert "ok" == (await gateway.entry())["outcome"]


async def test_the_curl_example_runs(gateway: Gateway) -> None:
    """README: curl, as written there, gets a stream."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    code = next(code for code in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "streamGenerateContent" in code)
    output = await run("sh", "-c", filled(code, gateway))
    assert output.startswith("data: {")
    assert "STOP" in output


async def test_the_javascript_example_runs(gateway: Gateway, tmp_path: Path) -> None:
    """README: Google's JavaScript SDK, as written there; CI installs it beside the project."""
    modules = os.environ.get("TEST_NODE_MODULES", "")
    if not modules or shutil.which("node") is None:
        pytest.skip("needs node, and TEST_NODE_MODULES naming a folder that holds @google/genai")
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "example.mjs").write_text(filled(block("javascript"), gateway))
    output = await run("node", "example.mjs", cwd=tmp_path)
    assert "Hello" in output
    assert "ok" == (await gateway.entry())["outcome"]


if __name__ == "__main__":
    (ROOT / "README.md").write_text(TABLE.sub(lambda found: found[1] + settings_table() + found[2], README))
