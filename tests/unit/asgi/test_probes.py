"""Are the probes honest?"""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from gateway import __version__
from tests.support.gateway import GENERATE, TEXT, Gateway, Upstream, running
from tests.support.valkey import valkey
from tests.support.waiting import until

PROBES = ["/healthz", "/readyz", "/docs", "/openapi.json"]


@pytest.fixture
async def stranger(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without a key."""
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http:
        yield http


async def test_anybody_may_ask(stranger: httpx.AsyncClient) -> None:
    """M6 K7: no key is needed, and HEAD answers as GET does, without the body."""
    for path in PROBES:
        got, head = await stranger.get(path), await stranger.head(path)
        assert (200, 200, b"") == (got.status_code, head.status_code, head.content)
        for name in ("content-length", "content-type"):
            assert got.headers[name] == head.headers[name]


async def test_every_answer_has_a_request_id(stranger: httpx.AsyncClient) -> None:
    """Interface: also probes, docs and their refusals; a well-formed one is the caller's."""
    for path in PROBES:
        for method in ("GET", "HEAD", "POST"):
            answered = await stranger.request(method, path, headers={"x-request-id": "mine.7"})
            assert "mine.7" == answered.headers["x-request-id"]
            assert (await stranger.request(method, path)).headers["x-request-id"]


async def test_alive_and_ready(gateway: Gateway, stranger: httpx.AsyncClient) -> None:
    """M6 X1: alive as long as the loop turns; ready until it is about to stop."""
    assert {"status": "alive", "version": __version__} == (await stranger.get("/healthz")).json()
    assert {"status": "ready", "degraded": []} == (await stranger.get("/readyz")).json()

    gateway.app.begin_drain()
    leaving = await stranger.get("/readyz")
    assert (503, "not ready") == (leaving.status_code, leaving.json()["status"])
    assert 200 == (await stranger.get("/healthz")).status_code


@pytest.mark.parametrize(("state_lost", "status", "said"), [("local", 200, "ready"), ("closed", 503, "not ready")])
async def test_a_lost_store_is_named(
    tmp_path: Path, upstream: Upstream, state_lost: str, status: int, said: str
) -> None:
    """M6 R1: without its state store it is degraded, and unready only where the operator chose to refuse calls."""
    nobody = f"unix://{tmp_path}/nobody"
    async with running(tmp_path, upstream.url, redis_url=nobody, state_lost=state_lost) as gateway:
        answer = await gateway.http.post(GENERATE, json=TEXT)
        ready, alive = await gateway.http.get("/readyz"), await gateway.http.get("/healthz")
    assert status == answer.status_code
    told = {"status": said, "degraded": ["state"], "why": {"state": "there is no such socket"}}
    assert (status, told) == (ready.status_code, ready.json())
    assert 200 == alive.status_code


async def test_a_store_that_is_lost_without_a_call_is_named(tmp_path: Path, upstream: Upstream) -> None:
    """M6 R1: nobody has to call before `/readyz` and the gauge tell that a store has gone, and that it is back."""
    cache = f"unix://{tmp_path}/nobody"
    with valkey() as server:
        async with running(tmp_path, upstream.url, redis_url=server.url, cache_redis_url=cache) as gateway:

            async def until_degraded(*names: str) -> None:
                await until(lambda: degraded(*names), every_ms=50)

            async def degraded(*names: str) -> bool:
                return bool((await gateway.http.get("/readyz")).json()["degraded"] == list(names))

            await until_degraded("cache")
            server.freeze()
            await until_degraded("state", "cache")
            assert 0 == gateway.metric("gateway_store_up", store="state")
            server.thaw()
            await until_degraded("cache")
            assert 1 == gateway.metric("gateway_store_up", store="state")
