"""Is every call counted exactly once, with what it cost, however it ended?"""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.config.clients import new_key
from gateway.telemetry.ledger import Ledger
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import CollectorRegistry, Metrics, exposition
from tests.support.gateway import GENERATE, STREAM, TEXT, Gateway, Upstream, running, saying
from tests.support.valkey import Valkey
from tests.support.waiting import until

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HANGING = {"json": saying("sandbox-fault: hang "), "headers": {"x-server-timeout": "1"}}
EMBED = "/v1beta/models/gemini-embedding-001:embedContent"
HANGING_EMBEDDING = {"json": {"content": {"parts": [{"text": "sandbox-fault: hang "}]}}, "headers": HANGING["headers"]}
ENDS: list[tuple[str, dict[str, Any], int, str, str]] = [
    (GENERATE, {"json": TEXT}, 200, "ok", "reported"),
    (STREAM, {"json": TEXT}, 200, "ok", "reported"),
    (GENERATE, {"json": saying("sandbox-fault: nousage ")}, 200, "ok", "estimated"),
    (GENERATE.replace("generateContent", "countTokens"), {"json": TEXT}, 200, "ok", "none"),
    (GENERATE, {"json": saying("sandbox-fault: 400 ")}, 400, "upstream_error", "none"),
    (GENERATE, {"json": saying("sandbox-fault: key ")}, 502, "upstream_error", "none"),
    (GENERATE, {"json": saying("sandbox-fault: cut ")}, 502, "upstream_broke", "estimated"),
    (STREAM, {"json": saying("sandbox-fault: cut ")}, 200, "upstream_broke", "estimated"),
    (STREAM, {"json": saying("sandbox-fault: streamerror ")}, 200, "upstream_error", "reported"),
    (GENERATE, HANGING, 504, "upstream_timeout", "estimated"),
    (EMBED, HANGING_EMBEDDING, 504, "upstream_timeout", "estimated"),
    (GENERATE, {"json": TEXT, "headers": {"x-goog-api-key": new_key()}}, 401, "unauthenticated", "none"),
    (GENERATE, {"json": TEXT, "headers": {"content-type": "text/plain"}}, 415, "refused", "none"),
    ("/nowhere", {}, 404, "refused", "none"),
]


async def test_every_end_is_counted_once(gateway: Gateway) -> None:
    """A1: each call has one access line and one count, with its outcome, and says whether its usage is exact."""
    ended = []
    for path, sent, *_ in ENDS:
        try:
            await gateway.http.post(path, **sent)
        except httpx.RemoteProtocolError:
            assert path == STREAM, "only a stream that broke is cut"
        entry = await gateway.entry()
        ended.append((entry["status"], entry["outcome"], entry["usage"]))
    assert [tuple(end) for _, _, *end in ENDS] == ended

    assert len(ENDS) == gateway.metric("gateway_requests_total")
    assert len(ENDS) == gateway.metric("gateway_request_duration_seconds_count")
    for status, outcome, _ in ended:
        count = [(one[0], one[1]) for one in ended].count((status, outcome))
        assert count == gateway.metric("gateway_requests_total", code=str(status), outcome=outcome)
    assert 1 == gateway.metric("gateway_usage_missing_total", model="gemini-2.5-flash")


async def test_refusals_under_way(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """A1: what a limit refuses, what there is no room for and what comes too late have outcomes of their own."""
    terms = {"design": "requests_per_minute = 60\nburst = 1"}
    async with running(tmp_path, upstream.url, redis_url=state.url, clients=terms, max_buffered_bytes=1000) as gateway:
        await gateway.http.post(GENERATE, json=TEXT)
        await gateway.http.post(GENERATE, json=TEXT)
        await gateway.http.post(GENERATE, json=saying("x" * 2000))
        gateway.app.stop_accepting()
        await gateway.http.post(GENERATE, json=TEXT)
        entries = await gateway.entries(4)
        await gateway.at_rest()
    assert [("ok", 200), ("limited", 429), ("overloaded", 503), ("overloaded", 503)] == [
        (entry["outcome"], entry["status"]) for entry in entries
    ]
    assert 1 == len(await upstream.log())


async def test_tokens_and_pictures_are_the_upstreams_own(gateway: Gateway, upstream: Upstream) -> None:
    """A4 A13: by client, model, kind and modality the counters are what the upstream reported, to the token."""
    picture = {"inlineData": {"mimeType": "image/png", "data": PIXEL}}
    edit = {"contents": [{"parts": [{"text": "Make it blue"}, picture]}]}
    model = "gemini-2.5-flash-image"
    await gateway.http.post(GENERATE.replace("gemini-2.5-flash", model), json=edit)
    await gateway.http.post(STREAM, json=TEXT)
    pictured, told = await gateway.entries(2)

    for entry, seen in zip((pictured, told), await upstream.log(), strict=True):
        usage = seen["usage"]
        assert (usage["promptTokenCount"], usage["candidatesTokenCount"]) == (entry["tokens_in"], entry["tokens_out"])
        labels = {"client": "design", "model": entry["model"]}
        for kind, details in (("input", "promptTokensDetails"), ("output", "candidatesTokensDetails")):
            for detail in usage[details]:
                found = gateway.metric("gateway_tokens_total", kind=kind, modality=detail["modality"].lower(), **labels)
                assert detail["tokenCount"] == found
    everything = pictured["tokens_in"] + pictured["tokens_out"] + told["tokens_in"] + told["tokens_out"]
    assert everything == gateway.metric("gateway_tokens_total")
    for direction in ("in", "out"):
        assert 1 == gateway.metric("gateway_images_total", client="design", model=model, direction=direction)


async def test_retries_are_attempts_of_one_call(gateway: Gateway, upstream: Upstream) -> None:
    """A3: what the upstream saw is what the access line and the counter call attempts."""
    answer = await gateway.http.post(GENERATE, json=saying("sandbox-fault: 503*1 "))
    entry = await gateway.entry()
    assert (200, "ok", 2) == (answer.status_code, entry["outcome"], entry["attempts"])
    assert [entry["request_id"]] * 2 == [seen["request_id"] for seen in await upstream.log()]
    assert 2 == gateway.metric("gateway_upstream_attempts_total")


async def test_waiting_is_not_our_own_time(gateway: Gateway) -> None:
    """Interface: overhead leaves the upstream's time out, and `server-timing` tells the caller the same."""
    answer = await gateway.http.post(GENERATE, json=saying("sandbox-fault: slow=0.5 "))
    entry = await gateway.entry()
    timing = dict(one.split(";dur=") for one in answer.headers["server-timing"].split(", "))
    assert 500 <= entry["upstream_ms"] <= entry["duration_ms"]
    assert entry["overhead_ms"] <= entry["duration_ms"] - entry["upstream_ms"]
    assert abs(float(timing["upstream"]) - entry["upstream_ms"]) <= 1
    assert float(timing["gateway"]) <= entry["overhead_ms"] + 0.1
    assert gateway.metric("gateway_upstream_duration_seconds_sum") >= 0.5
    assert gateway.metric("gateway_overhead_seconds_sum") < 0.5


async def test_in_flight_is_by_client(gateway: Gateway) -> None:
    """A7: a call is in flight from the moment its caller is known until it has ended."""
    asking = asyncio.create_task(gateway.http.post(GENERATE, json=saying("sandbox-fault: slow=0.5 ")))
    await until(lambda: gateway.metric("gateway_in_flight_requests"))
    assert 1 == gateway.metric("gateway_in_flight_requests", client="design")
    await asking
    await gateway.at_rest()


def test_what_ended_elsewhere(tmp_path: Path) -> None:
    """A2 X2: calls lost with their worker are counted as calls; late and dropped records have counters of their own."""
    registry = CollectorRegistry()
    with (tmp_path / "log").open("wb") as file:
        log = Log(fd=file.fileno())
        ledger = Ledger(Metrics(registry, lambda model: model == "known"), log)
        ledger.lost("design", "known", "generateContent")
        ledger.lost("design", "made up", "generateContent")
        ledger.late()
        ledger.dropped()
        ledger.limited("design", "concurrent")
        log.close()
    lines = exposition(registry).decode().splitlines()
    lost = 'client="design",code="0",method="generateContent",model="{}",outcome="lost"'
    assert {
        f"gateway_requests_total{{{lost.format('known')}}} 1.0",
        f"gateway_requests_total{{{lost.format('other')}}} 1.0",
        "gateway_late_settlements_total 1.0",
        'gateway_dropped_total{what="usage records"} 1.0',
        'gateway_limited_total{client="design",limit="concurrent"} 1.0',
    } <= set(lines)


@pytest.mark.parametrize("path", [GENERATE, STREAM], ids=["unary", "stream"])
async def test_the_store_has_the_same(gateway: Gateway, state: Valkey, path: str) -> None:
    """A2: the usage record of a call and its access line agree."""
    await gateway.http.post(path, json=TEXT)
    entry = await gateway.entry()
    ((_, kept),) = state.ask("XRANGE", "gw:{design}:usage", "-", "+")
    for name in ("outcome", "model", "method", "usage"):
        assert entry[name] == kept[name]
    assert (entry["tokens_in"], entry["tokens_out"]) == (int(kept["in"]), int(kept["out"]))
