"""What does the README tell the users of a tool to set?"""

import re

from tests.sdks.driving import ROOT
from tests.support.gateway import Gateway

SECTION = (ROOT / "README.md").read_text().partition("## Tools and SDKs\n")[2].partition("\n## ")[0]
ROWS = {
    cells[1].strip(): cells[2].strip()
    for cells in (line.split("|") for line in SECTION.splitlines() if line.startswith("| "))
}


def cell(tool: str, gateway: Gateway, key: str = "") -> str:
    """What stands in a tool's row, with a real key and the real address."""
    return filled(ROWS[tool], gateway, key)


def variables(tool: str, gateway: Gateway, key: str = "") -> dict[str, str]:
    """The environment variables of a tool's row."""
    return dict(re.findall(r"`([A-Z_]+)=([^` ]*)`", cell(tool, gateway, key)))


def code(tool: str, gateway: Gateway) -> str:
    """The first code of a tool's row."""
    return cell(tool, gateway).split("`")[1]


def codex_file(gateway: Gateway) -> str:
    """The configuration file for Codex."""
    return filled(SECTION.partition("```toml\n")[2].partition("```")[0], gateway, "")


def filled(text: str, gateway: Gateway, key: str) -> str:
    """A text of the README, with a real key and the real address."""
    return text.replace("thg_YOUR_KEY", key or gateway.keys["design"]).replace("http://127.0.0.1:8080", gateway.url)
