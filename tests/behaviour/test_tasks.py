"""Video tasks: created once, owned by the client that created them, and seen by nobody else."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.gateway import Gateway, running
from tests.support.valkey import Valkey
from tests.support.videos import ASKED, GENERATIONS, VIDEOS, Videos, done, queued, relays
from tests.support.wire import Wire, wire

TWO = {"design": "", "facts": ""}
Serve = Callable[..., AbstractAsyncContextManager[tuple[Gateway, Videos]]]


@pytest.fixture
def serve(tmp_path: Path, state: Valkey) -> Serve:
    """A gateway with two clients in front of an upstream that makes videos."""

    @asynccontextmanager
    async def started(**terms: str) -> AsyncIterator[tuple[Gateway, Videos]]:
        videos = Videos()
        async with (
            wire(videos) as upstream,
            running(tmp_path, upstream.url, clients=TWO | terms, redis_url=state.url) as gateway,
        ):
            yield gateway, videos
            await gateway.at_rest()

    return started


async def created(gateway: Gateway, path: str = VIDEOS, **more: Any) -> str:
    """The id of a new task of the client `design`."""
    response = await gateway.http.post(path, json=ASKED | more)
    assert 200 == response.status_code, response.text
    return str(response.json()["id"])


async def test_a_task_on_either_path(serve: Serve) -> None:
    """K10: a task is created and asked for on both paths, each in its own words, byte for byte."""
    async with serve() as (gateway, videos):
        for path in (GENERATIONS, VIDEOS):
            response = await gateway.http.post(path, json=ASKED)
            assert 200 == response.status_code, (response.text, gateway.lines())
            task = response.json()["id"]
            assert (200, queued(task)) == (response.status_code, response.json())
            videos.says[task] = relays(task, "IN_PROGRESS")
            polled = await gateway.http.get(f"{GENERATIONS}/{task}")
            assert (200, relays(task, "IN_PROGRESS"), "5000", "private, no-store") == (
                polled.status_code,
                polled.json(),
                polled.headers["openai-poll-after-ms"],
                polled.headers["cache-control"],
            )
            videos.says[task] = done(task, 108_000)
            polled = await gateway.http.get(f"{VIDEOS}/{task}")
            assert (200, done(task, 108_000)) == (polled.status_code, polled.json())
            assert "openai-poll-after-ms" not in polled.headers
        remixed = await gateway.http.post(f"{VIDEOS}/{task}/remix", json={"prompt": "at night"})
        assert 200 == remixed.status_code
        assert 1 == videos.asked[f"POST {VIDEOS}/{task}/remix"]
        assert 200 == (await gateway.http.get(f"{VIDEOS}/{remixed.json()['id']}")).status_code
