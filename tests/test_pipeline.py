"""One test for each arrow of the path."""

from tests.support.gateway import GENERATE, STREAM, TEXT, Gateway, Upstream


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
