"""How is a program run that is not ours?  With a home of its own, and with nothing in reach but this machine."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import Gateway
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / ".sdks"
MODULES = INSTALLED / "node" / "node_modules"
DRIVERS = ROOT / "tests" / "sdks" / "drivers"
SECONDS = 150  # for one program; CI's cores are shared

# Each driver's folder under .sdks, and its script.
SCRIPTS = {
    "openai-python": ("newest", "openai_sdk"),
    "openai-python-2": ("older", "openai_sdk"),
    "openai-node": ("node", "openai_sdk.mjs"),
    "anthropic-python": ("newest", "anthropic_sdk"),
    "anthropic-python-0": ("older", "anthropic_sdk"),
    "anthropic-node": ("node", "anthropic_sdk.mjs"),
    "ai-sdk": ("node", "ai_sdk.mjs"),
    "google-node": ("node", "google_sdk.mjs"),
    "langchain": ("frameworks", "langchain_models"),
    "litellm": ("frameworks", "litellm_sdk"),
}

# What a client of each part may do, as further lines of the clients file.
PARTS = {
    "good": "",
    "narrow": 'models = ["nothing-*"]',
    "limited": "requests_per_minute = 15\nburst = 1",
    "spent": "tokens_per_day = 1",
    "busy": "",
    "cut": "",
}


@dataclass(kw_only=True)
class Outside:
    """A proxy that refuses all there is outside of this machine, and keeps what was asked for."""

    url: str = ""
    asked: list[str] = field(default_factory=list)

    async def refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append((await reader.readline()).decode().strip())
        with contextlib.suppress(ConnectionError):
            writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def nothing_outside() -> AsyncIterator[Outside]:
    """Run such a proxy."""
    outside = Outside()
    server = await asyncio.start_server(outside.refuse, "127.0.0.1", 0)
    async with server:
        outside.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield outside


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a program ended, and whom it asked outside."""

    status: int
    output: str
    errors: str
    asked: Sequence[str]
    left: Sequence[str]  # command lines of processes that it started and left


async def run(argv: Sequence[str], home: Path, *, cwd: Path = ROOT, **variables: str) -> Ended:
    """Run a program to its end.  Nothing of this process's environment reaches it but PATH."""
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    async with nothing_outside() as outside:
        way = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), outside.url)
        stays = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
        path = f"{MODULES / '.bin'}:{os.environ['PATH']}"
        environment = {"PATH": path, "HOME": str(home), "TMPDIR": str(temporary), "LANG": "C.UTF-8", "TERM": "dumb"}
        process = await asyncio.create_subprocess_exec(
            *argv,
            env={**environment, **way, **stays, **variables},
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            output, errors = await asyncio.wait_for(process.communicate(), SECONDS)
        finally:
            left = _living(home)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return Ended(
        status=process.returncode or 0,
        output=output.decode(),
        errors=errors.decode(),
        asked=outside.asked,
        left=left,
    )


def _living(home: Path) -> list[str]:
    """The command lines of all processes that have this home."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"HOME={home}\0".encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_text().replace("\0", " "))
    return found


def require(path: Path) -> Path:
    """A path under .sdks.  Where it is not there the test is skipped, and in CI it fails."""
    if not path.exists():
        reason = f"{path.relative_to(ROOT)} is missing: make test-sdks installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def node() -> str:
    """The Node that the SDKs ask for; where npm has none for this machine, its own."""
    own = MODULES / ".bin" / "node"
    return str(own) if own.exists() else shutil.which("node") or pytest.fail("there is no node")


def beside_modules(folder: Path) -> Path:
    """The scripts for Node, copied to where they find the installed packages."""
    (folder / "node_modules").symlink_to(require(MODULES))
    for script in DRIVERS.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one SDK saw, case by case, and what the gateway wrote of it."""

    sdk: str
    cases: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    asked_outside: Sequence[str]

    def __getitem__(self, case: str) -> Any:
        return self.cases[case]

    def tries(self, part: str) -> list[tuple[int, str | None]]:
        """Status and reason of every request with the key of this part."""
        mine = [line for line in self.lines if line.get("client") == f"{self.sdk}-{part}"]
        return [(line["status"], line.get("reason")) for line in mine]


def clients(*sdks: str) -> dict[str, str]:
    """A client for each part that each SDK plays, for `running`."""
    return {f"{sdk}-{part}": terms for sdk in sdks for part, terms in PARTS.items()}


def keys(gateway: Gateway, sdk: str) -> dict[str, str]:
    """The keys for a driver."""
    return {part: gateway.keys[f"{sdk}-{part}"] for part in PARTS} | {"wrong": "thg_" + "0" * 38}


def calls(gateway: Gateway) -> list[dict[str, Any]]:
    """The access lines so far."""
    return [line for line in gateway.lines() if line["event"] == "call"]


async def all_written(gateway: Gateway) -> None:
    """Wait until every call has ended and has its access line, which a thread writes."""
    await gateway.at_rest()
    await until(lambda: len(calls(gateway)) == gateway.metric("gateway_requests_total"))


async def drive(gateway: Gateway, sdk: str, folder: Path) -> Seen:
    """Run an SDK's driver against the gateway."""
    place, script = SCRIPTS[sdk]
    given = json.dumps({"url": gateway.url, "keys": keys(gateway, sdk)})
    require(INSTALLED / place / ".installed")
    if script.endswith(".mjs"):
        argv = [node(), str(beside_modules(folder) / script), given]
    else:
        argv = [str(INSTALLED / place / "bin" / "python"), "-m", f"tests.sdks.drivers.{script}", given]
    ended = await run(argv, folder / "home", LITELLM_LOCAL_MODEL_COST_MAP="True")
    assert 0 == ended.status, ended.errors
    await all_written(gateway)
    lines = calls(gateway)
    cases = json.loads(ended.output.splitlines()[-1])
    return Seen(sdk=sdk, cases=cases, lines=lines, asked_outside=ended.asked)
