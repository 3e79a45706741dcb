"""A real Prometheus with the configuration of deploy/prometheus, and what it answers."""

import contextlib
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.deploy.boards import DEPLOY
from tests.support.waiting import wait_until

SOURCE = DEPLOY / "prometheus"
RULES, ALERTS = SOURCE / "rules", SOURCE / "rules" / "alerts.yml"
STARTS_WITHIN_SECONDS = 20
needed = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")), reason="Prometheus is not installed"
)


class Prometheus:
    """Asks a running server."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, trust_env=False, timeout=20)

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the series of an expression, now, each with its `metric` and `value`."""
        return self._ask("query", query=expr)

    def query_range(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Return the series of an expression over time, each with its `metric` and `values`."""
        return self._ask("query_range", query=expr, start=start, end=end, step=step)

    def rules(self) -> list[dict[str, Any]]:
        """Return every rule with its health."""
        answer = self._http.get("/api/v1/rules").json()
        return [rule for group in answer["data"]["groups"] for rule in group["rules"]]

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire."""
        return {one["metric"]["alertname"] for one in self.query('ALERTS{alertstate="firing"}')}

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def _ask(self, path: str, **parameters: object) -> list[dict[str, Any]]:
        data = {name: str(value) for name, value in parameters.items()}
        answer = self._http.post(f"/api/v1/{path}", data=data)
        assert answer.status_code == 200, f"{answer.text} {parameters}"
        return list(answer.json()["data"]["result"])


def configured(folder: Path, target: str) -> Path:
    """Write the deployed configuration for one target, read each second, and with alerts that wait for nothing."""
    config = yaml.safe_load((SOURCE / "prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config.pop("alerting")
    folder.mkdir()
    (scrape,) = config["scrape_configs"]
    scrape.pop("dns_sd_configs")
    scrape |= {"static_configs": [{"targets": [target]}], "scrape_timeout": "1s"}
    shutil.copytree(RULES, folder / "rules")
    alerts = folder / "rules" / ALERTS.name
    alerts.write_text(re.sub(r"\bfor: \d+\w", "for: 0s", alerts.read_text()))
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    return folder / "prometheus.yml"


@contextlib.contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """Run a server on this target while the context is open."""
    config, log = configured(folder, target), folder / "log"
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    argv = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={address}",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output)
    try:
        wait_until(lambda: "Server is ready to receive web requests" in log.read_text(), STARTS_WITHIN_SECONDS)
        with contextlib.closing(Prometheus(f"http://{address}")) as server:
            yield server
    finally:
        process.terminate()
        process.wait(20)
