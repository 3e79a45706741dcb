"""A real `serve` in a process of its own, with stand-in workers, its lines of log at hand."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
SERVE = """
import sys
from gateway.processes.supervisor import serve
from gateway.config.settings import load
workers = [sys.executable, "-m", "tests.support.stand_in"]
sys.exit(serve(load(), sandbox=sys.argv[1] == "True", worker_argv=workers, notice_seconds=float(sys.argv[2]),
    guard_seconds=float(sys.argv[3])))
"""


def bare_environment() -> dict[str, str]:
    """What any program needs, and what a traced suite says to the processes it starts; no setting, nothing else."""
    traced = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return {"PATH": "/usr/bin:/bin", **traced}


def is_running(pid: int) -> bool:
    """Tell whether the process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may end between opening and reading
        return False


class Serve:
    """One gateway: the parent, its workers and its stores."""

    def __init__(
        self,
        folder: Path,
        *,
        notice: float = 0.3,
        guard: float = 10,
        sandbox: bool = False,
        before: str = "",
        **variables: str,
    ) -> None:
        """Start it; `before` is code that its parent runs first."""
        clients = folder / "clients.toml"
        clients.write_text("# nobody may call yet\n")
        defaults = {"GATEWAY_DATA_DIR": str(folder / "data"), "GATEWAY_PORT": "0", "GATEWAY_METRICS_PORT": "0"}
        defaults["GATEWAY_CLIENTS_FILE"] = str(clients)
        self._output = folder / f"serve-{time.monotonic_ns()}.log"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", before + SERVE, str(sandbox), str(notice), str(guard)],
                env={**os.environ, **defaults, "GATEWAY_WORKERS": "2", "TMPDIR": str(folder), **variables},
                stdout=output,
                stderr=output,
                cwd=ROOT,
                process_group=0,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it at once, so that nothing it started is left."""
        if self.process.poll() is None:
            self.tell(signal.SIGINT)
            self.tell(signal.SIGINT)
        self.process.wait(20)
        if kind is not None:
            print(self._output.read_text())  # noqa: T201 - for the report of the failed test

    @property
    def noise(self) -> list[str]:
        """What it said that is no line of its log."""
        return [line for line in self._output.read_text().splitlines() if not line.startswith("{")]

    @property
    def events(self) -> list[dict[str, Any]]:
        lines = self._output.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]

    def event(self, name: str, seconds: float = 20) -> dict[str, Any]:
        """Wait for the event's first line.  Fails at once when the gateway has ended without it."""

        def look() -> dict[str, Any] | None:
            ended = self.process.poll() is not None
            found = next((line for line in self.events if line["event"] == name), None)
            assert found or not ended, f"it ended without saying {name}"
            return found

        return wait_until(look, seconds)

    @property
    def url(self) -> str:
        return str(self.event("ready")["url"])

    def tell(self, number: int) -> None:
        self.process.send_signal(number)

    def get(self, path: str) -> httpx.Response:
        """Ask on a connection of its own."""
        return httpx.get(f"{self.url}{path}", timeout=20, trust_env=False)

    def settings(self) -> dict[str, Any]:
        """Ask a worker for the settings it got."""
        return dict(self.get("/settings").json())

    def workers(self, count: int = 2) -> set[int]:
        """Ask until so many workers have answered."""
        found: set[int] = set()

        def ask() -> bool:
            found.add(int(self.get("/pid").text))
            return len(found) == count

        wait_until(ask, 20)
        return found
