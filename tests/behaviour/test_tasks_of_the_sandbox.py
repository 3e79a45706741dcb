"""Video tasks in front of an upstream that behaves, and bills, as the vendor's relay: nothing is made up by the test."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gate import kept, records
from tests.support.gateway import Gateway, Upstream, running
from tests.support.valkey import Valkey
from tests.support.videos import GENERATIONS, SEEDANCE, VIDEOS

TERMS = {"design": "tokens_per_day = 10000000\nvideos_per_day = 50", "facts": ""}
both = pytest.mark.parametrize("path", [GENERATIONS, VIDEOS])


@pytest.fixture
async def gateway(tmp_path: Path, upstream: Upstream, state: Valkey) -> AsyncIterator[Gateway]:
    """A gateway with two clients in front of the sandbox."""
    async with running(tmp_path, upstream.url, redis_url=state.url, clients=TERMS) as one:
        yield one
        await one.at_rest()


async def created(gateway: Gateway, path: str, prompt: str = "", **body: Any) -> dict[str, Any]:
    """What is said of a new task that ends at once."""
    asked = {"model": SEEDANCE, "prompt": f"a fox sandbox-task: 0 {prompt}"} | body
    response = await gateway.http.post(path, json=asked)
    assert 200 == response.status_code, response.text
    return dict(response.json())


def used(state: Valkey) -> tuple[int, int]:
    """Tokens and videos of today's budgets."""
    rows = kept(state)
    return round(rows["tokens_per_day"][0]), round(rows["videos_per_day"][0])


@both
async def test_a_video_from_request_to_file(gateway: Gateway, upstream: Upstream, state: Valkey, path: str) -> None:
    """A4, A10, K10: created, polled on both paths, downloaded whole and by ranges; it costs what the upstream bills."""
    task = (await created(gateway, path, seconds="4", size="720x1280"))["id"]
    (seen,) = await upstream.log()
    billed = seen["tokens"]["total"]
    assert (billed, 1) == used(state)  # the estimate is made of the same figures
    for asked in (GENERATIONS, VIDEOS):
        polled = await gateway.http.get(f"{asked}/{task}")
        assert 200 == polled.status_code
        assert "openai-poll-after-ms" not in polled.headers
        assert (
            404
            == (
                await gateway.http.get(f"{asked}/{task}", headers={"x-goog-api-key": gateway.keys["facts"]})
            ).status_code
        )
    assert (billed, 1) == used(state)
    whole = await gateway.http.get(f"{VIDEOS}/{task}/content")
    assert (200, "video/mp4") == (whole.status_code, whole.headers["content-type"])
    half = len(whole.content) // 2
    parts = [
        await gateway.http.get(f"{VIDEOS}/{task}/content", headers={"range": wanted, "if-range": whole.headers["etag"]})
        for wanted in (f"bytes=0-{half - 1}", f"bytes={half}-")
    ]
    assert [206, 206] == [part.status_code for part in parts]
    joined = b"".join(part.content for part in parts)
    assert hashlib.sha256(whole.content).digest() == hashlib.sha256(joined).digest()
    remixed = await gateway.http.post(f"{VIDEOS}/{task}/remix", json={"prompt": "sandbox-task: 0 at night"})
    assert 200 == remixed.status_code
    assert 200 == (await gateway.http.get(f"{VIDEOS}/{remixed.json()['id']}")).status_code


@both
async def test_a_video_that_fails_is_given_back(gateway: Gateway, state: Valkey, path: str) -> None:
    """A4: a failure is seen on either path, and costs nothing."""
    task = (await created(gateway, path, "sandbox-fault: taskfails "))["id"]
    assert (0, 0) != used(state)
    assert 200 == (await gateway.http.get(f"{path}/{task}")).status_code
    assert (0, 0) == used(state)
    assert ["ok", "corrected"] == [record["outcome"] for record in records(state)]


@both
async def test_ids_that_are_odd(gateway: Gateway, upstream: Upstream, path: str) -> None:
    """K10: both of two ids are the client's; a task that no answer names is nobody's, and is counted where none was named."""
    answer = await created(gateway, path, "sandbox-fault: secondid ")
    assert answer["id"] != answer["task_id"]
    for one in (answer["id"], answer["task_id"]):
        assert 200 == (await gateway.http.get(f"{path}/{one}")).status_code
    named = (await created(gateway, path, "sandbox-fault: twotasks "))["id"]
    await created(gateway, path, "sandbox-fault: lostid ")
    assert 1 == gateway.metric("gateway_task_id_missing_total", model=SEEDANCE)
    made = [task for seen in await upstream.log() for task in seen.get("created", ())]
    unnamed = set(made) - {named, answer["id"], answer["task_id"]}
    assert 2 <= len(unnamed) <= 3
    for task in unnamed:
        assert 404 == (await gateway.http.get(f"{path}/{task}")).status_code
    assert 200 == (await gateway.http.get(f"{path}/{named}")).status_code


async def test_a_video_that_is_not_ready(gateway: Gateway) -> None:
    """U12: the upstream's own words for a file that is not there yet pass, and a poll says when to come again."""
    response = await gateway.http.post(VIDEOS, json={"model": SEEDANCE, "prompt": "a fox sandbox-task: 60 "})
    task = response.json()["id"]
    polled = await gateway.http.get(f"{VIDEOS}/{task}")
    assert (200, "5000") == (polled.status_code, polled.headers["openai-poll-after-ms"])
    early = await gateway.http.get(f"{VIDEOS}/{task}/content")
    assert 400 == early.status_code
    assert early.json()["error"]["message"]
