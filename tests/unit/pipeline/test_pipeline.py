"""One test for each arrow of the path."""

from pathlib import Path

import pytest

from tests.support.gateway import GENERATE, STREAM, TEXT, Gateway, Upstream, running, saying
from tests.support.valkey import Valkey


async def test_a_call_passes(gateway: Gateway, upstream: Upstream) -> None:
    """A plain call is answered with the upstream's own bytes and stands in the ledger once."""
    response = await gateway.http.post(GENERATE, json=TEXT)

    entry = await gateway.entry()
    (seen,) = await upstream.log()
    assert 200 == response.status_code
    assert ("ok", 200, "reported") == (entry["outcome"], entry["status"], entry["usage"])
    assert seen["request_id"] == entry["request_id"] == response.headers["x-request-id"]
    assert 1 == gateway.metric("gateway_requests_total", client="design", outcome="ok")


async def test_a_stream_passes(gateway: Gateway) -> None:
    """A stream is answered event by event and its last usage is counted."""
    response = await gateway.http.post(STREAM, json=TEXT)

    entry = await gateway.entry()
    assert "text/event-stream" == response.headers["content-type"]
    assert response.text.endswith("\n\n")
    assert ("ok", "reported") == (entry["outcome"], entry["usage"])
    assert entry["tokens_out"] > 0


async def test_a_limit_refuses_and_tells(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """A refused call never reaches the upstream; the headers and the error say when to come back."""
    terms = {"design": "requests_per_minute = 60\nburst = 2"}
    async with running(tmp_path, upstream.url, redis_url=state.url, clients=terms) as gateway:
        responses = [await gateway.http.post(GENERATE, json=TEXT) for _ in range(3)]
        entries = await gateway.entries(3)

    assert [200, 200, 429] == [response.status_code for response in responses]
    assert '"requests";r=1;t=1' == responses[0].headers["ratelimit"]
    assert "1" == responses[2].headers["retry-after"]
    assert ["ok", "ok", "limited"] == [entry["outcome"] for entry in entries]
    assert 1 == gateway.metric("gateway_limited_total", client="design", limit="requests_per_minute")
    assert 2 == len(await upstream.log())


@pytest.mark.parametrize("path", [GENERATE, STREAM], ids=["unary", "stream"])
async def test_the_place_is_free_before_the_last_byte(
    tmp_path: Path, upstream: Upstream, state: Valkey, path: str
) -> None:
    """A7: a caller with one place who asks again as soon as it has its answer is never refused."""
    async with running(tmp_path, upstream.url, redis_url=state.url, clients={"design": "concurrent = 1"}) as gateway:
        statuses = [(await gateway.http.post(path, json=saying("sandbox-gap: 0 "))).status_code for _ in range(20)]
        await gateway.at_rest()
    assert [200] * 20 == statuses
    assert 20 == len(state.ask("XRANGE", "gw:{design}:usage", "-", "+"))
