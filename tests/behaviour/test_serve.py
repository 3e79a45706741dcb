"""The real thing from the outside: `serve` with two workers, its operators' port, and a worker that is killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import GENERATE, TEXT
from tests.support.served import Served


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A gateway, stopped after the test."""
    with Served(tmp_path) as gateway:
        yield gateway


def test_counts_survive_a_killed_worker(served: Served) -> None:
    """M4 X2 A13: the sum over workers is the number of calls, also after one is killed, and calls go on."""
    for _ in range(20):  # a connection each, so that both workers get some
        assert (
            200
            == httpx.post(
                served.url + GENERATE, json=TEXT, headers={"x-goog-api-key": served.key}, trust_env=False
            ).status_code
        )
    assert 20 == served.counted()

    killed = served.workers()[0]
    os.kill(killed, signal.SIGKILL)
    served.event("worker_died")
    for _ in range(10):
        assert (
            200
            == httpx.post(
                served.url + GENERATE, json=TEXT, headers={"x-goog-api-key": served.key}, trust_env=False
            ).status_code
        )
    assert 30 == served.counted()
    assert 404 == httpx.get(served.metrics_url.replace("/metrics", "/"), trust_env=False).status_code

    report = json.loads(served.run("usage", "--format", "json"))
    assert "30" in str(report)
    assert served.key not in served.log.read_text()


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("GATEWAY_FOO", "1", "GATEWAY_FOO"),
        ("GATEWAY_PORT", "99999", "GATEWAY_PORT"),
        ("GATEWAY_REDIS_URL", "redis://h:notaport", "GATEWAY_REDIS_URL"),
        ("GATEWAY_CLIENTS_FILE", "/nonexistent/clients.toml", "clients add"),
        ("GATEWAY_UPSTREAM_KEY_FILE", "/nonexistent/key", "/nonexistent/key"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path: Path, variable: str, value: str, says: str) -> None:
    """X3: refused at start with one clear line and exit status 2."""
    clients = tmp_path / "clients.toml"
    clients.write_text("[defaults]\n")
    environment = {
        **os.environ,
        "GATEWAY_CLIENTS_FILE": str(clients),
        "GATEWAY_DATA_DIR": str(tmp_path),
        variable: value,
    }
    argv = [sys.executable, "-m", "gateway", "serve"]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert 2 == done.returncode
    assert 1 == len(done.stderr.splitlines())
    assert says in done.stderr
