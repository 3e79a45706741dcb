"""The real thing: `tokenhot-gateway serve` in a process of its own, with its real workers, as its operators start it."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.support.gateway import UPSTREAM_KEY
from tests.support.waiting import wait_until

SERVE = """
import sys
from gateway.processes.supervisor import serve
from gateway.config.settings import load
sys.exit(serve(load(), sandbox=False, notice_seconds=float(sys.argv[1])))
"""


class Served:
    """A running gateway and the key of its one client; in front of a sandbox of its own where no `upstream` is given."""

    def __init__(
        self, folder: Path, *, upstream: str | None = None, notice: float | None = None, **settings: str
    ) -> None:
        """Start it; `notice` makes the time shorter for which it still accepts after SIGTERM."""
        self.log = folder / "log"
        way = {"GATEWAY_UPSTREAM_URL": upstream, "GATEWAY_UPSTREAM_KEY": UPSTREAM_KEY} if upstream else {}
        given = {f"GATEWAY_{name.upper()}": value for name, value in settings.items()}
        self.environment = {
            **os.environ, "GATEWAY_CLIENTS_FILE": str(folder / "clients.toml"), "GATEWAY_DATA_DIR": str(folder / "d"),
            "GATEWAY_PORT": "0", "GATEWAY_METRICS_PORT": "0", "GATEWAY_WORKERS": "2", **way, **given,
        }  # fmt: skip
        self.key = self.run("clients", "add", "design").strip()
        argv = [sys.executable, "-m", "gateway", "serve", *([] if upstream else ["--sandbox"])]
        if notice is not None:
            argv = [sys.executable, "-c", SERVE, str(notice)]
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(argv, env=self.environment, stdout=output, stderr=output)
        try:
            ready = self.event("ready")
        except BaseException:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(20)
            raise
        self.url, self.metrics_url = ready["url"], ready["metrics"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it as Ctrl-C does, and see that it stops well."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        status = self.process.wait(20)
        assert kind or status == 0

    def run(self, *words: str) -> str:
        """What another command prints."""
        argv = [sys.executable, "-m", "gateway", *words]
        return subprocess.run(argv, env=self.environment, capture_output=True, text=True, check=True).stdout

    def events(self, name: str) -> list[dict[str, Any]]:
        """The lines of the log so far that have this name."""
        lines = self.log.read_text().splitlines()
        return [json.loads(line) for line in lines if f'"event":"{name}"' in line and line.endswith("}")]

    def event(self, name: str) -> dict[str, Any]:
        """Wait for the first such line of the log."""
        return self.wait_for(name, 1)[0]

    def wait_for(self, name: str, count: int) -> list[dict[str, Any]]:
        """Wait for so many such lines of the log; all of them."""

        def found() -> list[dict[str, Any]] | None:
            lines = self.events(name)
            return lines if len(lines) >= count else None

        return wait_until(found, 20, tell=self.log.read_text)

    def counted(self, outcome: str = "ok") -> int:
        """Calls that ended so, by the operators' port."""
        found = re.findall(rf'gateway_requests_total\{{[^}}]*outcome="{outcome}"\}} (\S+)', self.metrics())
        return sum(int(float(value)) for value in found)

    def metrics(self) -> str:
        """What the operators' port says."""
        return httpx.get(self.metrics_url, trust_env=False).text

    def workers(self) -> list[int]:
        """The pids of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [
            int(pid) for pid in children if b"gateway.processes.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]


def memory(pid: int, name: str) -> int:
    """Bytes of a process, as the kernel counts them: VmRSS now, VmHWM at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
