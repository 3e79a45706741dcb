"""Are there files enough to open, and is it said when there are none?"""

import contextlib
import json
import re
import resource
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.processes import Serve
from tests.support.served import Served
from tests.support.waiting import wait_until

ALLOW = """
import resource, sys
soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
from gateway.processes.worker import allow_open_files
print(allow_open_files(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard"), [(80, 4096), (1024, 4096), (4096, 4096), (256, 300)])
def test_the_soft_limit_becomes_the_hard_one(soft: int, hard: int) -> None:
    """X4: what the system allows is used, and nothing beyond."""
    argv = [sys.executable, "-c", ALLOW, str(soft), str(hard)]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    assert [str(hard)] * 3 == said


def test_every_process_has_the_raised_limit(tmp_path: Path) -> None:
    """X4: workers and stores inherit it, and the log's first line says it."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    hard = min(before[1], 5000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, before[1]))
    try:
        with Serve(tmp_path) as gateway:
            gateway.event("ready")
            assert gateway.event("starting")["open_files"] >= hard
            pids = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text().split()
            limits = {resource.prlimit(int(pid), resource.RLIMIT_NOFILE)[0] for pid in pids}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert {gateway.event("starting")["open_files"]} == limits


def test_running_out_is_said_once_and_ends(tmp_path: Path) -> None:
    """X4: at the limit one line says what to do, it is counted, no processor is burnt, and calls come back."""
    with Served(tmp_path, workers="1") as served, contextlib.ExitStack() as stack:
        (worker,) = served.workers()
        open_now = len(list(Path(f"/proc/{worker}/fd").iterdir()))
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (open_now + 20, open_now + 20))
        address = urlsplit(served.url)
        for _ in range(60):
            stack.enter_context(socket.create_connection((str(address.hostname), address.port or 0)))
        said = served.event("out_of_files")
        assert ("error", open_now + 20) == (said["level"], said["open_files"])
        assert "ulimit -n" in said["advice"]
        checks, before = out_of_files(served), cpu_ticks(worker)
        wait_until(lambda: out_of_files(served) >= checks + 4, 20)  # it is checked four times a second
        assert cpu_ticks(worker) - before < 20  # hundredths of a second
        stack.close()
        assert "open files" == served.event("recovered")["what"]
        assert 200 == httpx.get(f"{served.url}/readyz", trust_env=False).status_code
        assert 1 == len(served.events("out_of_files"))
        wait_until(lambda: "gateway_out_of_files_total 0.0" not in metrics(served), 20)
        assert not [line for line in served.log.read_text().splitlines() if not json.loads(line)]


def metrics(served: Served) -> str:
    """What the operators' port says."""
    return httpx.get(served.metrics_url, trust_env=False).text


def out_of_files(served: Served) -> float:
    """How many checks have found no descriptor left."""
    found = re.search(r"^gateway_out_of_files_total (\S+)", metrics(served), re.MULTILINE)
    assert found is not None
    return float(found[1])


def cpu_ticks(pid: int) -> int:
    """What a process has used so far."""
    return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
