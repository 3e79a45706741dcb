"""Does `serve` start, restart and stop its processes without losing a call?  Every process here is a real one."""

import asyncio
import json
import os
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.support.processes import Serve, is_running
from tests.support.waiting import wait_until


def refuses(url: str) -> bool:
    """Whether nobody listens there any more."""
    try:
        httpx.get(f"{url}/readyz", trust_env=False, timeout=0.2)
    except httpx.ConnectError:
        return True
    except httpx.HTTPError:
        return False
    return False


def store_process(url: str) -> int:
    """Ask an embedded server for its process id."""
    with redis.Redis.from_url(url) as client:
        return int(client.info("server")["process_id"])


def metric(gateway: Serve, name: str) -> float:
    """Read a metric's sum from `/metrics`."""
    text = httpx.get(gateway.event("ready")["metrics"], trust_env=False).text
    samples = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
    return sum(float(line.rpartition(" ")[2]) for line in samples)


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    """X2, M4: kill -9 of a worker costs neither the service nor a count."""
    with Serve(tmp_path) as gateway:
        before = gateway.workers()
        for _ in range(20):
            gateway.get("/count")
        os.kill(min(before), signal.SIGKILL)
        assert min(before) == gateway.event("worker_died")["pid"]
        wait_until(lambda: len(gateway.workers() - before) == 1, 20)
        assert 20 == metric(gateway, "gateway_requests_total")


def test_all_workers_killed_at_once_are_replaced(tmp_path: Path) -> None:
    """X2: only calls in flight are lost; others wait in the parent's socket and are served within two seconds."""
    with Serve(tmp_path) as gateway, ThreadPoolExecutor(1) as pool:
        before = gateway.workers()
        call = pool.submit(gateway.get, "/sleep/60")
        wait_until(lambda: metric(gateway, "gateway_in_flight_requests") == 1, 20)
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(is_running(pid) for pid in before), 1)
        began = time.monotonic()
        assert int(gateway.get("/pid").text) not in before
        assert time.monotonic() - began < 5  # two, and more where other tests want the cores too
        assert isinstance(call.exception(), httpx.HTTPError)
        assert 0 == metric(gateway, "gateway_in_flight_requests")


def test_sigterm_loses_no_call(tmp_path: Path) -> None:
    """X1, M6: on SIGTERM `/readyz` turns while calls are still taken; all of them are finished; it exits 0."""
    with Serve(tmp_path, notice=1) as gateway, ThreadPoolExecutor(8) as pool:
        url = gateway.url
        calls = [pool.submit(gateway.get, "/sleep/2.5") for _ in range(6)]
        wait_until(lambda: metric(gateway, "gateway_in_flight_requests") == 6, 20)
        gateway.tell(signal.SIGTERM)
        wait_until(lambda: gateway.get("/readyz").status_code == 503, 1)
        calls += [pool.submit(gateway.get, "/sleep/2.5") for _ in range(2)]
        wait_until(lambda: refuses(url), 20)
        assert not calls[-1].done()
        assert [200] * 8 == [call.result().status_code for call in calls]
        assert 0 == gateway.process.wait(5)
        assert ["starting", "ready", "stopping", "stopped"] == [line["event"] for line in gateway.events]


def test_calls_that_outlast_the_drain_are_cancelled(tmp_path: Path) -> None:
    """X1: GATEWAY_DRAIN_SECONDS bounds the wait."""
    with Serve(tmp_path, notice=0, GATEWAY_DRAIN_SECONDS="0.3") as gateway, ThreadPoolExecutor(1) as pool:
        call = pool.submit(gateway.get, "/sleep/60")
        wait_until(lambda: metric(gateway, "gateway_in_flight_requests") == 1, 20)
        gateway.tell(signal.SIGTERM)
        assert 0 == gateway.process.wait(5)
        assert call.exception() or call.result().status_code == 500


def test_ctrl_c_waits_and_the_second_does_not(tmp_path: Path) -> None:
    """X1: SIGINT lets calls finish without notice; the second one ends them."""
    with Serve(tmp_path, notice=60) as gateway, ThreadPoolExecutor(2) as pool:
        call, endless = pool.submit(gateway.get, "/sleep/1.5"), pool.submit(gateway.get, "/sleep/60")
        wait_until(lambda: metric(gateway, "gateway_in_flight_requests") == 2, 20)
        os.killpg(gateway.process.pid, signal.SIGINT)
        assert 200 == call.result().status_code
        assert not endless.done()
        os.killpg(gateway.process.pid, signal.SIGINT)
        assert 0 == gateway.process.wait(5)
        assert endless.exception() or endless.result().status_code == 500


def test_sighup_replaces_the_workers_without_losing_a_call(tmp_path: Path) -> None:
    """X1: after SIGHUP every worker is a new one; of the calls made meanwhile none fails."""
    with Serve(tmp_path) as gateway, ThreadPoolExecutor(4) as pool:
        before = gateway.workers()
        url = gateway.url
        slow = [pool.submit(gateway.get, "/sleep/2") for _ in range(2)]
        gateway.tell(signal.SIGHUP)
        with httpx.Client(base_url=url, trust_env=False) as kept_alive:
            wait_until(lambda: int(kept_alive.get("/pid").text) not in before and not (gateway.workers() & before), 20)
        assert [200, 200] == [call.result().status_code for call in slow]
        wait_until(lambda: not any(is_running(pid) for pid in before), 20)
        assert not [line for line in gateway.events if line["level"] == "error"]


def test_a_killed_parent_is_survived(tmp_path: Path) -> None:
    """X2: after kill -9 of the parent its workers finish their calls and exit; the next one takes its stores over."""
    with Serve(tmp_path) as first, ThreadPoolExecutor(1) as pool:
        workers = first.workers()
        state_url = first.settings()["redis_url"]
        store = store_process(state_url)
        with redis.Redis.from_url(state_url) as state:
            state.set("limit", "7")
        port = first.url.rpartition(":")[2]
        call = pool.submit(first.get, "/sleep/1")
        wait_until(lambda: metric(first, "gateway_in_flight_requests") == 1, 20)
        first.tell(signal.SIGKILL)
        first.process.wait()
        with Serve(tmp_path, GATEWAY_PORT=port) as second:
            second.event("ready")
            assert 200 == call.result().status_code
            wait_until(lambda: not any(is_running(pid) for pid in workers), 20)
            assert store == store_process(second.settings()["redis_url"])
            with redis.Redis.from_url(state_url) as state:
                assert b"7" == state.get("limit")
            second.tell(signal.SIGINT)
            assert 0 == second.process.wait(5)
    assert not is_running(store)


def test_a_killed_store_is_started_again(tmp_path: Path) -> None:
    """R3: the parent has a killed state store back within a second."""
    with Serve(tmp_path) as gateway:
        url = gateway.settings()["redis_url"]
        os.kill(store_process(url), signal.SIGKILL)
        assert "state" == gateway.event("store_restarted", seconds=1)["store"]
        assert store_process(url)


def test_the_second_on_a_folder_is_refused(tmp_path: Path) -> None:
    """X3: a data folder serves one gateway; the second reports it, exits 1 and harms nothing."""
    with Serve(tmp_path) as first:
        first.event("ready")
        with Serve(tmp_path) as second:
            assert 1 == second.process.wait(5)
            assert "is in use by process" in second.event("failed")["problem"]
            assert [] == second.noise
        assert 200 == first.get("/pid").status_code


@pytest.mark.parametrize("variable", ["GATEWAY_PORT", "GATEWAY_METRICS_PORT"])
def test_a_port_that_is_taken_is_refused(tmp_path: Path, variable: str) -> None:
    """X3: one clear line and exit 1 when somebody else listens there."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        variables: dict[str, Any] = {variable: str(port)}
        with Serve(tmp_path, **variables) as gateway:
            assert 1 == gateway.process.wait(5)
            assert (
                f"cannot listen on 127.0.0.1 port {port}: Address already in use" == gateway.event("failed")["problem"]
            )
            assert ["starting", "failed"] == [line["event"] for line in gateway.events]


def test_workers_that_cannot_start_are_not_tried_for_ever(tmp_path: Path) -> None:
    """X4: no crash loop at the start: exit 1, and the stores are stopped."""
    with Serve(tmp_path, STAND_IN_FAILS="1") as gateway:
        assert 1 == gateway.process.wait(10)
        assert "worker did not become ready" in gateway.event("failed")["problem"]
    assert not (tmp_path / "data" / "run" / "state.sock").exists()


def test_a_stop_during_the_start_is_a_stop(tmp_path: Path) -> None:
    """X1: stopped by a signal before it is ready, the gateway exits with 0."""
    with Serve(tmp_path) as gateway:
        gateway.event("starting")
        gateway.tell(signal.SIGTERM)
        assert 0 == gateway.process.wait(10)
        assert "failed" not in [line["event"] for line in gateway.events]
        assert [] == gateway.noise


def test_workers_get_the_settings_as_they_were_resolved(tmp_path: Path) -> None:
    """S5: workers see the embedded store's addresses, a key file by its name only, and leave no core."""
    key_file = tmp_path / "key"
    key_file.write_text("sk-canary")
    with Serve(tmp_path, GATEWAY_UPSTREAM_KEY_FILE=str(key_file), GATEWAY_UPSTREAM_KEEPALIVE="false") as gateway:
        settings = gateway.settings()
        assert str(key_file) == settings["upstream_key_file"]
        assert settings["upstream_keepalive"] is False
        assert f"unix://{tmp_path}/data/run/cache.sock" == settings["cache_redis_url"]
        assert [0, 0] == json.loads(gateway.get("/hardened").text)
        environments = [Path(f"/proc/{pid}/environ").read_bytes() for pid in gateway.workers()]
        assert not any(b"sk-canary" in environment for environment in environments)


def test_a_store_that_is_given_is_not_embedded(tmp_path: Path) -> None:
    """With GATEWAY_REDIS_URL set nothing is started and nothing is written."""
    with Serve(tmp_path, GATEWAY_REDIS_URL="unix:///nowhere.sock") as gateway:
        assert "given" == gateway.event("ready")["store"]
        assert "unix:///nowhere.sock" == gateway.settings()["redis_url"]
        assert not (tmp_path / "data").exists()


def test_the_sandbox_is_the_upstream_and_ends_with_us(tmp_path: Path) -> None:
    """`--sandbox` gives the workers an upstream with a key of its own; it ends with the gateway."""
    with Serve(tmp_path, sandbox=True) as gateway:
        url = gateway.settings()["upstream_url"]
        assert 401 == httpx.get(f"{url}/v1beta/models", trust_env=False).status_code
        gateway.tell(signal.SIGINT)
        assert 0 == gateway.process.wait(10)
        assert refuses(url)


def test_the_operators_port_serves_metrics_alone(tmp_path: Path) -> None:
    """Anything but GET and HEAD of `/metrics` is a 404 in our error shape."""
    with Serve(tmp_path) as gateway:
        url = gateway.event("ready")["metrics"]
        assert httpx.get(url, trust_env=False).headers["content-type"].startswith("text/plain; version=")
        assert b"" == httpx.head(url, trust_env=False).content
        for answer in (httpx.get(url[:-1], trust_env=False), httpx.post(url, trust_env=False)):
            assert 404 == answer.status_code
            assert "ROUTE_UNKNOWN" == answer.json()["error"]["details"][0]["reason"]


async def test_scrapes_at_once_all_get_the_same(tmp_path: Path) -> None:
    """M3: fifty scrapes at once are all answered."""
    with Serve(tmp_path) as gateway:
        async with httpx.AsyncClient(trust_env=False) as client:
            url = gateway.event("ready")["metrics"]
            answers = await asyncio.gather(*[client.get(url) for _ in range(50)])
        assert {200} == {answer.status_code for answer in answers}


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path) -> None:
    """The metrics folder is made anew for each start and goes with it."""
    with Serve(tmp_path) as gateway:
        gateway.event("ready")
        assert 1 == len(list(tmp_path.glob("tokenhot-gateway-metrics-*")))
    assert [] == list(tmp_path.glob("tokenhot-gateway-metrics-*"))
