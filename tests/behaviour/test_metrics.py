"""Are the numbers those that are promised, bounded in their labels, and the same for any number of workers?"""

import asyncio
import json
import os
import random
import signal
import socket
import string
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.metrics import CollectorRegistry, Metrics, exposition
from tests.support.gateway import GENERATE, STREAM, TEXT, Gateway, Upstream, running, saying
from tests.support.instruments import instruments
from tests.support.served import Served
from tests.support.valkey import Valkey
from tests.support.waiting import until, wait_until

PUBLISHED = {
    "gateway_requests_total": ("counter", "client model method code outcome"),
    "gateway_request_duration_seconds": ("histogram", "model method cache"),
    "gateway_time_to_first_byte_seconds": ("histogram", "model method"),
    "gateway_overhead_seconds": ("histogram", "method"),
    "gateway_upstream_duration_seconds": ("histogram", "model code"),
    "gateway_upstream_attempts_total": ("counter", "outcome"),
    "gateway_tokens_total": ("counter", "client model kind modality"),
    "gateway_images_total": ("counter", "client model direction"),
    "gateway_usage_missing_total": ("counter", "model"),
    "gateway_cache_requests_total": ("counter", "client result"),
    "gateway_cache_saved_tokens_total": ("counter", "client model"),
    "gateway_limited_total": ("counter", "client limit"),
    "gateway_in_flight_requests": ("gauge", "client"),
    "gateway_buffered_bytes": ("gauge", ""),
    "gateway_buffered_bytes_limit": ("gauge", ""),
    "gateway_buffered_ratio": ("gauge", ""),
    "gateway_config_file_ignored": ("gauge", ""),
    "gateway_store_duration_seconds": ("histogram", "operation"),
    "gateway_store_up": ("gauge", "store"),
    "gateway_breaker_open": ("gauge", "model"),
    "gateway_config_reload_failures_total": ("counter", ""),
    "gateway_build_info": ("gauge", "version"),
}
HOSTILE = ('x"y', "x\ny", 'x"} 1\ngateway_requests_total{client="root', "x\\", "x}", "\u202e", "x" * 128)


def published(text: str) -> dict[str, tuple[str, set[str]]]:
    """The type of each metric of an exposition, and the labels of its samples; the parser must read all of it."""
    found: dict[str, tuple[str, set[str]]] = {}
    for family in text_string_to_metric_families(text):
        name = family.name + "_total" * (family.type == "counter")
        found[name] = family.type, {label for sample in family.samples for label in sample.labels} - {"le"}
    return found


def series(text: str) -> set[str]:
    """Every series of an exposition, without its value."""
    return {line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")}


async def test_names_types_and_labels(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """Interface: every metric is there under its name and with its labels, and the parser reads what is served."""
    terms = {"design": 'requests_per_minute = 60\nburst = 5\ncache = "private"'}
    async with running(tmp_path, upstream.url, redis_url=state.url, clients=terms) as gateway:
        image = GENERATE.replace("gemini-2.5-flash", "gemini-2.5-flash-image")
        for path, body in (
            (image, TEXT),
            (STREAM, TEXT),
            (GENERATE, saying("sandbox-fault: nousage ")),
            (GENERATE, TEXT),
            (GENERATE, TEXT),
        ):
            await gateway.http.post(path, json=body)
        assert 429 == (await gateway.http.post(GENERATE, json=TEXT)).status_code
        found = published(gateway.metrics())
    for name, (kind, labels) in PUBLISHED.items():
        unused = name == "gateway_breaker_open"
        assert (kind, set() if unused else set(labels.split())) == found[name], name


def test_all_are_declared() -> None:
    """Interface: also those that nothing has touched yet have their type and their labels."""
    declared = instruments()
    assert PUBLISHED == {name: (declared[name].type, " ".join(declared[name].labels)) for name in PUBLISHED}
    overhead, duration = (declared[f"gateway_{name}_seconds"].bounds for name in ("overhead", "request_duration"))
    assert (0.0001, 1) == (overhead[0], overhead[-1])
    assert (0.005, 3600) == (duration[0], duration[-1])


def labelled(gateway: Gateway) -> set[str]:
    """Every series but those of the store, whose operations also come by themselves."""
    return {one for one in series(gateway.metrics()) if not one.startswith("gateway_store_duration_seconds")}


async def test_labels_come_from_closed_sets(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """M1: models, paths and HTTP methods that are unknown make no new series; own models keep their names."""
    terms = {"design": 'models = ["*", "our-own-model"]'}
    chance = random.Random(4711)
    async with running(tmp_path, upstream.url, redis_url=state.url, clients=terms) as gateway:

        async def once(_: int) -> None:
            name = "".join(chance.choices(string.ascii_letters + string.digits, k=20))
            await gateway.http.post(GENERATE.replace("gemini-2.5-flash", name), json=TEXT)
            await gateway.http.get(f"/{name}/{name}")
            await gateway.http.request(chance.choice(("DELETE", "PATCH", "PROPFIND", "TRACE", "M-SEARCH")), GENERATE)

        await gateway.http.post(GENERATE.replace("gemini-2.5-flash", "our-own-model"), json=TEXT)
        await once(0)
        await gateway.at_rest()
        before = labelled(gateway)
        for _ in range(10):
            await asyncio.gather(*map(once, range(10)))
        await gateway.at_rest()
        assert before == labelled(gateway)
        assert 304 == gateway.metric("gateway_requests_total")
        assert 101 == gateway.metric("gateway_requests_total", model="other", method="generateContent", code="404")
        assert 1 == gateway.metric("gateway_requests_total", model="our-own-model")


def test_hostile_labels_stay_values() -> None:
    """M2: whatever a label holds, the parser reads one series with that very value."""
    registry = CollectorRegistry()
    metrics = Metrics(registry, lambda _: True)
    for text in HOSTILE:
        metrics.child(metrics.usage_missing, metrics.model(text)).inc()
    (family,) = [
        family
        for family in text_string_to_metric_families(exposition(registry).decode())
        if family.name == "gateway_usage_missing"
    ]
    values = {sample.labels["model"]: sample.value for sample in family.samples if sample.name.endswith("_total")}
    assert dict.fromkeys(HOSTILE, 1.0) == values


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A real `serve` with two workers, stopped after the test."""
    gateway = Served(tmp_path)
    yield gateway
    gateway.process.send_signal(signal.SIGINT)
    assert 0 == gateway.process.wait(20)


def test_scrapes_under_way(served: Served) -> None:
    """M3 M4: beside fifty scrapers that never read, calls go on and scrapes are quick and true, a worker killed or not."""
    address = served.metrics_url.removeprefix("http://").partition("/")[0].split(":")
    stuck = [socket.create_connection((address[0], int(address[1]))) for _ in range(50)]
    try:
        for one in stuck:
            one.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
        headers = {"x-goog-api-key": served.key}

        def call(_: int) -> int:
            return httpx.post(served.url + GENERATE, json=TEXT, headers=headers, trust_env=False).status_code

        def scrape(_: int = 0) -> str:
            return httpx.get(served.metrics_url, trust_env=False).text

        with ThreadPoolExecutor(8) as pool:
            assert [200] * 16 == list(pool.map(call, range(16)))
            wait_until(lambda: served.counted() >= 16)  # a call is counted after its last byte
            os.kill(served.workers()[0], signal.SIGKILL)
            served.event("worker_died")
            before = time.monotonic()
            texts = list(pool.map(scrape, range(16)))
        assert time.monotonic() - before < 5
        for text in texts:
            assert {"gateway_requests_total", "gateway_in_flight_requests"} <= set(published(text))
            assert 'gateway_requests_total{client="design",code="200"' in text
        assert 16 == served.counted()
        assert all("pid=" not in text for text in texts)
    finally:
        for one in stuck:
            one.close()


def sample(served: Served, name: str) -> float | None:
    """A gauge without labels, as all workers together publish it."""
    text = httpx.get(served.metrics_url, trust_env=False).text
    values = [family.samples[0].value for family in text_string_to_metric_families(text) if family.name == name]
    return values[0] if values else None


async def test_the_worst_worker_speaks_for_all(tmp_path: Path, upstream: Upstream) -> None:
    """M9: of two workers one near its cap, and all that ignore a file, are seen, and that it is over too."""
    with Served(tmp_path, upstream=upstream.url, max_buffered_bytes="40000") as served:
        sent = json.dumps(saying("sandbox-fault: hang " + "x" * 36_000)).encode()
        headers = {"x-goog-api-key": served.key, "content-type": "application/json"}
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            hanging = asyncio.create_task(http.post(served.url + STREAM, content=sent, headers=headers))
            await until(lambda: 0.9 <= (sample(served, "gateway_buffered_ratio") or 0) <= 1, 10)
            hanging.cancel()
            await asyncio.gather(hanging, return_exceptions=True)
        await until(lambda: sample(served, "gateway_buffered_ratio") == 0, 10)

        good = (tmp_path / "clients.toml").read_text()
        for content, ignored in (("nonsense", 1), (good, 0)):
            (tmp_path / "clients.toml").write_text(content)
            await asyncio.to_thread(served.wait_for, "reload_failed" if ignored else "reloaded", 2)  # in both workers
            await until(lambda ignored=ignored: sample(served, "gateway_config_file_ignored") == ignored, 10)


async def test_a_scrape_is_quick(gateway: Gateway) -> None:
    """M1: a hundred clients on twenty models are read for no more CPU than writing 500 000 short texts.

    That is 100 ms where the figure was taken; machines differ, and a timing alone must not decide.
    """
    metrics = gateway.app.parts.metrics
    for client in range(100):
        for model in range(20):
            metrics.child(metrics.requests, f"client-{client}", f"model-{model}", "generateContent", "200", "ok").inc()
    texts = min(_cpu(lambda: [f"{number}: {number}" for number in range(100_000)]) for _ in range(5))
    quickest = min(_cpu(gateway.metrics) for _ in range(5))
    assert quickest < 5 * texts, (quickest, texts)


def _cpu(work: Callable[[], object]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before
