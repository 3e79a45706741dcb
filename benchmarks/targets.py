"""What can be loaded: the gateway of a checkout, as `serve` runs it, and the yardsticks."""

import contextlib
import http.client
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.cases import Case
from benchmarks.processes import BenchError, answers, free_port, process
from gateway.config.clients import hash_key, new_key

ROOT = Path(__file__).parents[1]
Settings = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A target that answers."""

    port: int
    pid: int  # the root of its process tree
    headers: Mapping[str, str]


# Takes the case, an empty folder, and the settings that lead to the upstream.
Target = Callable[[Case, Path, Settings], AbstractContextManager[Running]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A folder with this project's code, and the interpreter that runs it."""

    folder: Path
    python: Path

    @property
    def version(self) -> str:
        """The commit, and whether files differ from it; empty where git does not know."""
        if not (git := shutil.which("git")):
            return ""
        said = subprocess.run(
            [git, "-C", str(self.folder), "describe", "--always", "--dirty"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return said.stdout.strip()

    @contextlib.contextmanager
    def serve(self, case: Case, folder: Path, settings: Settings) -> Iterator[Running]:
        """The gateway with one worker, its own data folder and its own embedded store."""
        port, key, clients = free_port(), new_key(), folder / "clients.toml"
        clients.write_text(f'[clients.bench]\nkey_sha256 = ["{hash_key(key)}"]\n{case.terms}\n')
        # Settings that every version has: one that a checkout does not know it would refuse.
        ours = {
            "GATEWAY_UPSTREAM_KEY": "sk-bench", "GATEWAY_CLIENTS_FILE": str(clients),
            "GATEWAY_DATA_DIR": str(folder / "data"), "GATEWAY_PORT": str(port),
            "GATEWAY_METRICS_PORT": str(free_port()), "TMPDIR": str(folder),
        }  # fmt: skip
        started = process(
            str(self.python), "-m", "gateway", "serve", ready=partial(is_ready, port),
            env={**plain_environment(), **settings, **ours}, cwd=self.folder,
        )  # fmt: skip
        with started as pid:
            yield Running(port=port, pid=pid, headers={"x-goog-api-key": key})


def this_checkout() -> Checkout:
    """The code that is running now, with its interpreter."""
    return verified(Checkout(folder=ROOT, python=Path(sys.executable)))


def other_checkout(folder: Path) -> Checkout:
    """Another checkout, with the interpreter of its own `.venv`.  Raises `BenchError`."""
    folder = folder.resolve()
    if not (folder / "gateway" / "__main__.py").is_file():
        raise BenchError(f"{folder} is no checkout of this project: it has no gateway/__main__.py")
    python = folder / ".venv" / "bin" / "python"
    if not python.exists():
        raise BenchError(f"{folder} has no .venv/bin/python: run `make install` there")
    return verified(Checkout(folder=folder, python=python))


def verified(checkout: Checkout) -> Checkout:
    """The same, if its interpreter takes the gateway from its own folder.  Raises `BenchError`."""
    said = subprocess.run(
        [str(checkout.python), "-c", "import gateway, pydantic_settings; print(gateway.__file__)"],
        env=plain_environment(), cwd=checkout.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if said.returncode != 0:
        why = (said.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BenchError(f"{checkout.python} cannot import the gateway ({why}): run `make install` in that folder")
    if not (found := Path(said.stdout.strip())).resolve().is_relative_to((checkout.folder / "gateway").resolve()):
        raise BenchError(f"{checkout.python} takes the gateway from {found}, not from {checkout.folder}")
    return checkout


def plain_environment() -> dict[str, str]:
    """Ours, without what would change a setting or lead Python to other code."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "PYTHON"))}


def is_ready(port: int) -> bool:
    """Tell whether a worker says so."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(connection):
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    return False


@contextlib.contextmanager
def bare(app: str, case: Case, folder: Path, settings: Settings) -> Iterator[Running]:
    """A yardstick; it asks no upstream."""
    port = free_port()
    options = ("--no-access-log", "--loop", "uvloop", "--http", "httptools", "--log-level", "warning")
    started = process(
        sys.executable, "-m", "uvicorn", f"benchmarks.bare:{app}", "--port", str(port), *options,
        ready=partial(answers, port), env=plain_environment(), cwd=ROOT,
    )  # fmt: skip
    with started as pid:
        yield Running(port=port, pid=pid, headers={})
