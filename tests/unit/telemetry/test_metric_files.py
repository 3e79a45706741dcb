"""Are numbers right, and do calls go on, whatever happens to the folder that they are written to?"""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.config.clients import new_key
from gateway.processes import metrics_folder
from gateway.telemetry.metric_files import MetricFile, merge_dead, write_again
from gateway.telemetry.metrics import Gathered
from tests.support.gateway import GENERATE, TEXT, clients_toml
from tests.support.processes import Serve, is_running
from tests.support.served import Served
from tests.support.waiting import wait_until

WORKER = """
import os, sys
from prometheus_client import CollectorRegistry
from gateway.telemetry.metrics import Metrics
metrics = Metrics(CollectorRegistry(), bool)
for model in range(int(sys.argv[1])):
    metrics.child(metrics.usage_missing, f"model-{model:05}").inc(2)
    metrics.child(metrics.overhead, f"method-{model % 7}").observe(0.01)
metrics.in_flight.labels("c").inc()
print(os.getpid())
"""


def worked(folder: Path, models: int) -> int:
    """A process that counted something and ended without a word, and its pid."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
    argv = [sys.executable, "-c", WORKER, str(models)]
    return int(subprocess.run(argv, env=environment, capture_output=True, text=True, check=True).stdout)


def total(text: bytes, name: str) -> float:
    """The sum of a metric's samples."""
    lines = text.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


@pytest.fixture(autouse=True)
def none_held() -> Iterator[None]:
    """No file of a test before or behind is looked after."""
    MetricFile.held.clear()
    yield
    MetricFile.held.clear()


@contextmanager
def no_room(size: int = 0) -> Iterator[None]:
    """Let no file of this process grow beyond the size."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def test_every_page_has_its_room(tmp_path: Path) -> None:
    """X4: a mapped file is as long on disk as it says, from the first byte on and after it has grown."""
    file = MetricFile(str(tmp_path / "counter_7.db"))
    for number in range(3000):
        write(file, f"key-{number:0200}", number)
        status = (tmp_path / "counter_7.db").stat()
        if number % 500 == 0:
            assert status.st_blocks * 512 >= status.st_size
    assert [tmp_path / "counter_7.db"] == list(tmp_path.iterdir())
    assert 2999 == {key: value for key, value, *_ in read(tmp_path / "counter_7.db")}[f"key-{2999:0200}"]


def write(file: MetricFile, key: str, value: float) -> None:
    """Set a number."""
    file.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]


def read(path: Path) -> list[tuple[str, float, float, int]]:
    """What the library reads from a file."""
    return list(MetricFile.read_all_values_from_file(path))  # type: ignore[no-untyped-call]


@pytest.mark.parametrize(
    "why", ["full at the start", "full when it grows", "no folder", "no folder any more", "a file"]
)
def test_without_room_it_is_held_and_written_later(tmp_path: Path, why: str) -> None:
    """X4: nothing is lost or fails; what was on disk stays; all of it is there once there is room."""
    folder = tmp_path / "numbers"
    path = folder / "counter_7.db"
    if why == "a file":
        folder.touch()
    elif why != "no folder":
        folder.mkdir()
    with no_room(0 if why == "full at the start" else 1 << 14):
        file = MetricFile(str(path))
        write(file, "early", 1.0)
        if why == "no folder any more":
            path.unlink()
            folder.rmdir()
        for number in range(500):
            write(file, f"key-{number:0200}", number)
        write(file, "early", 2.0)
        assert not write_again()
        kept = {key: value for key, value, *_ in read(path)} if path.exists() else {}
        assert (1.0 if why == "full when it grows" else None) == kept.get("early")
        assert [file] == MetricFile.held
        assert (2.0, 0.0) == file.read_value("early")  # type: ignore[no-untyped-call]
    if folder.is_file():
        folder.unlink()
    folder.mkdir(exist_ok=True)
    assert write_again()
    assert [] == MetricFile.held
    write(file, "late", 3.0)
    written = {key: value for key, value, *_ in read(path)}
    assert {"early": 2.0, "late": 3.0} | {f"key-{number:0200}": number for number in range(500)} == written


@pytest.mark.parametrize("deaths", [1, 2, 12])
def test_the_dead_count_and_take_no_room(tmp_path: Path, deaths: int) -> None:
    """M4: counters and histograms of all who ended are exact, in files of one; their live gauges are gone."""
    gathered = Gathered(tmp_path)
    for pid in [worked(tmp_path, 50) for _ in range(deaths)]:
        before = gathered.exposition()
        gathered.forget(pid)
        after = gathered.exposition()
        for name in ("gateway_usage_missing_total", "gateway_overhead_seconds_bucket", "gateway_overhead_seconds_sum"):
            assert total(before, name) == pytest.approx(total(after, name))
    assert 100 * deaths == total(after, "gateway_usage_missing_total")
    assert 50 * deaths == total(after, "gateway_overhead_seconds_count")
    assert b"gateway_in_flight_requests{" not in after
    assert ["counter_0.db", "histogram_0.db"] == sorted(path.name for path in tmp_path.iterdir())


def test_scrapes_while_workers_die_never_go_back(tmp_path: Path) -> None:
    """M4: beside the burial of forty files each of many scrapes finds every number once."""
    pids = [worked(tmp_path, 3)]
    for number in range(39):
        for kind in ("counter", "histogram"):
            source = tmp_path / f"{kind}_{pids[0]}.db"
            (tmp_path / f"{kind}_{10**7 + number}.db").write_bytes(source.read_bytes())
        pids.append(10**7 + number)
    gathered = Gathered(tmp_path)
    with ThreadPoolExecutor(3) as pool:
        scrapes = [pool.submit(gathered.exposition) for _ in range(60)]
        for pid in pids:
            gathered.forget(pid)
        found = {total(scrape.result(), "gateway_usage_missing_total") for scrape in scrapes}
    assert {240.0} == found


def test_the_dead_wait_for_room(tmp_path: Path) -> None:
    """M4, X4: where the sums cannot be written the files of the dead stay and count, until they can."""
    gathered, pids = Gathered(tmp_path), [worked(tmp_path, 50) for _ in range(2)]
    with no_room():
        gathered.forget(pids[0])
        assert 200 == total(gathered.exposition(), "gateway_usage_missing_total")
    for pid in pids:
        merge_dead(tmp_path, pid)
    assert 200 == total(gathered.exposition(), "gateway_usage_missing_total")
    assert 2 == len(list(tmp_path.glob("*.db")))


def test_folders_of_killed_parents_go(tmp_path: Path) -> None:
    """M4: the next start removes what nobody holds, and nothing else, whatever stands in it and its pid says."""
    (tmp_path / "other").mkdir()
    one: dict[str, Any] = {"GATEWAY_WORKERS": "1"}
    with Serve(tmp_path, **one) as living, Serve(tmp_path / "other", **one) as killed:
        living.event("ready")
        killed.event("ready")
        workers = killed.workers(1)
        killed.tell(signal.SIGKILL)
        killed.process.wait()
        (folder,) = (tmp_path / "other").glob("tokenhot-gateway-metrics-*")
        (ours,) = tmp_path.glob("tokenhot-gateway-metrics-*")
        folder.rename(tmp_path / folder.name)
        precious = tmp_path / "precious"
        precious.mkdir()
        (precious / "file").touch()
        (tmp_path / "tokenhot-gateway-metrics-locked-link").symlink_to(precious)
        (tmp_path / "tokenhot-gateway-metrics-locked-file").touch()
        with Serve(tmp_path, GATEWAY_DATA_DIR=str(tmp_path / "third"), **one) as third:
            third.event("ready")
            assert not (tmp_path / folder.name).exists()
            assert ours.exists()
            assert (precious / "file").exists()
            assert (tmp_path / "tokenhot-gateway-metrics-locked-file").exists()
        assert 200 == living.get("/pid").status_code
        wait_until(lambda: not any(is_running(pid) for pid in workers), 20)


def test_two_that_start_at_once_have_a_folder_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is being made is not taken for a dead one's, however many begin at the same moment."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def once(_: int) -> bool:
        with metrics_folder._locked(tmp_path) as path:
            assert path is not None
            (path / "counter_1.db").write_bytes(b"1234")
            time.sleep(0.002)  # slow on purpose: others begin meanwhile
            return (path / "counter_1.db").exists()

    with ThreadPoolExecutor(8) as pool:
        assert [True] * 200 == list(pool.map(once, range(200)))
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["missing", "file", "read-only"])
def test_without_a_temporary_folder_it_serves(tmp_path: Path, place: str) -> None:
    """X4: TMPDIR may lead nowhere: the numbers go elsewhere."""
    where = tmp_path / "tmp"
    if place == "file":
        where.touch()
    elif place == "read-only":
        where.mkdir(mode=0o500)
    with Serve(tmp_path, TMPDIR=str(where)) as gateway:
        assert 200 == gateway.get("/count").status_code
        text = httpx.get(gateway.event("ready")["metrics"], trust_env=False).content
        assert 1 == total(text, "gateway_requests_total")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 400 kB."""
    path = tmp_path / "small"
    path.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "x", path], capture_output=True, check=False
    ).returncode:
        pytest.skip("may not mount")
    yield path
    subprocess.run(["umount", "-l", path], check=True)


def test_calls_go_on_when_the_temporary_folder_is_full(
    tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M4, X4: no worker dies, no call fails, one line says it, and every call is there again once there is room."""
    monkeypatch.setenv("TMPDIR", str(small))
    keys = {f"client-{number:02}": new_key() for number in range(30)}
    tokens = list(keys.values())
    with Served(tmp_path, workers="1") as served:
        (tmp_path / "clients.toml").write_text(clients_toml(keys, {}))
        wait_until(lambda: call(served, tokens[0]) == 200, 20)
        with (small / "fill").open("wb", 0) as file:
            while free := os.statvfs(small).f_bavail:
                file.write(bytes(4096 * free))
        assert [200] * 60 == [call(served, token) for token in tokens * 2]
        assert "error" == served.event("metrics_unwritten")["level"]
        assert "metrics" in httpx.get(f"{served.url}/readyz", trust_env=False).json()["degraded"]
        (small / "fill").unlink()
        assert "metrics" == served.event("recovered")["what"]
        wait_until(lambda: served.counted() == 61, 20)  # of those before the clients were known none is
        assert 1 == len(served.events("metrics_unwritten"))
        assert [] == served.events("worker_died")


def call(served: Served, key: str) -> int:
    """One call's status."""
    headers = {"x-goog-api-key": key}
    return httpx.post(served.url + GENERATE, json=TEXT, headers=headers, trust_env=False, timeout=20).status_code
