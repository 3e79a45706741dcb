"""Do models that the vendor has and the packaged catalogue has not heard of keep their names in metrics?"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway.telemetry.vendor_models import KEY, MAX_NAMES
from tests.support.gateway import GENERATE, TEXT, Gateway, running
from tests.support.valkey import Valkey
from tests.support.waiting import until
from tests.support.wire import Play, answer, wire

LIST = "/v1beta/models"
NEW = "gemini-9-ultra"  # in no catalogue
ANSWER = b'{"candidates":[{"content":{"parts":[{"text":"Hi"}]},"finishReason":"STOP"}]}'


def vendor(names: Sequence[str]) -> Play:
    """An upstream that answers every call, and has this list."""
    page = json.dumps({"models": [{"name": f"models/{name}"} for name in names]}).encode()

    async def play(head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(page if head.startswith(b"GET") else ANSWER))

    return play


async def label_of(gateway: Gateway, model: str) -> str:
    """The label under which a call for this model is counted."""
    labels = (model, "other")
    before = [gateway.metric("gateway_requests_total", model=label, code="200") for label in labels]
    assert 200 == (await gateway.http.post(GENERATE.replace("gemini-2.5-flash", model), json=TEXT)).status_code
    await gateway.at_rest()
    (label,) = [
        label
        for label, count in zip(labels, before, strict=True)
        if gateway.metric("gateway_requests_total", model=label, code="200") > count
    ]
    return label


async def test_a_list_gives_labels_that_outlive_a_restart(tmp_path: Path, state: Valkey) -> None:
    """M1: a name is `other` until a caller's list has shown it; a new worker has its label from its first call on."""
    async with wire(vendor([NEW, "gemini-2.5-flash"])) as upstream:
        async with running(tmp_path, upstream.url, redis_url=state.url) as gateway:
            assert "other" == await label_of(gateway, NEW)
            assert 200 == (await gateway.http.get(LIST)).status_code
            assert NEW == await label_of(gateway, NEW)
            await until(lambda: state.ask("EXISTS", KEY))
        lists = sum(head.startswith(b"GET") for head in upstream.heads)
        async with running(tmp_path, upstream.url, redis_url=state.url) as gateway:
            assert NEW == await label_of(gateway, NEW)
            assert "other" == await label_of(gateway, "gemini-9-mini")
        assert 1 == lists == sum(head.startswith(b"GET") for head in upstream.heads)
    assert [NEW, "gemini-2.5-flash"] == json.loads(state.ask("GET", KEY))


async def test_labels_are_bounded_whatever_the_list_says(tmp_path: Path, state: Valkey) -> None:
    """M1: of a list without end a thousand names become labels, and none that is no usual name."""
    names = [f"invented-{number}" for number in range(3 * MAX_NAMES)]
    async with (
        wire(vendor(['gemini"}\n', "x" * 129, *names])) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url) as gateway,
    ):
        assert 200 == (await gateway.http.get(LIST)).status_code
        model = gateway.app.parts.metrics.model
        assert MAX_NAMES - 2 == sum(model(name) == name for name in names)
        assert {"other"} == {model(name) for name in ('gemini"}\n', "x" * 129)}
        await until(lambda: state.ask("EXISTS", KEY))
    assert names[: MAX_NAMES - 2] == json.loads(state.ask("GET", KEY))


@pytest.mark.parametrize("down", ["at start", "later"])
async def test_without_a_store_labels_are_those_of_this_worker(tmp_path: Path, server: Valkey, down: str) -> None:
    """M1: a store that is unavailable costs a worker the lists of others alone; nothing fails, and nobody says more."""
    if down == "at start":
        server.kill()
    async with (
        wire(vendor([NEW])) as upstream,
        running(tmp_path, upstream.url, redis_url=server.url, state_lost="local") as gateway,
    ):
        if down == "later":
            server.kill()
        assert 200 == (await gateway.http.get(LIST)).status_code
        assert NEW == await label_of(gateway, NEW)
        await until(lambda: not gateway.app.parts.state_store.up)
        said = [(line["event"], line.get("store")) for line in gateway.lines() if line["level"] != "info"]
        assert {("degraded", "state"), ("degraded", "cache")} >= set(said)
        assert 0 == gateway.metric("gateway_background_failures_total")
