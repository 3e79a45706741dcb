"""What becomes of a request that offers to speak another protocol?  It is served in this one, as it came."""

import asyncio
import hashlib

import pytest

from tests.support.gateway import GENERATE, STREAM, Gateway, Upstream

BODY = b'{"contents":[{"parts":[{"text":"hi"}]}]}'
NEXT = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
OFFERS = {
    "java": b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAAB\r\n",
    "keep-alive": b"connection: keep-alive, upgrade\r\nupgrade: h2c\r\n",
    "TLS": b"connection: upgrade\r\nupgrade: TLS/1.2\r\n",
    "several": b"connection: upgrade\r\nupgrade: HTTP/3.0, h2c\r\n",
    "two lines": b"connection: upgrade\r\nconnection: http2-settings\r\nupgrade: h2c\r\nupgrade: IRC/6.9\r\n",
    "unknown": b"connection: Upgrade\r\nupgrade: anything\r\n",
    "not hop by hop": b"upgrade: h2c\r\n",
}
FRAMINGS = {
    "length": b"content-length: %d\r\n\r\n" % len(BODY) + BODY,
    "chunks": b"transfer-encoding: chunked\r\n\r\n5\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n"
    % (BODY[:5], len(BODY) - 5, BODY[5:]),
}


def post(gateway: Gateway, offer: bytes, path: str = GENERATE) -> bytes:
    """The head of a call that makes this offer, but for what frames its body."""
    key = f"x-goog-api-key: {gateway.key}\r\n".encode()
    return b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n" % path.encode() + key + offer


async def said(gateway: Gateway, *pieces: bytes) -> bytes:
    """Everything that comes back until the gateway closes."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(5):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("offer", OFFERS)
async def test_an_offer_is_declined_by_an_answer(
    gateway: Gateway, upstream: Upstream, offer: str, framing: str
) -> None:
    """RFC 9110, 7.8: the call is answered over HTTP/1.1, its body passes as it came, and the next request is served."""
    received = await said(gateway, post(gateway, OFFERS[offer]) + FRAMINGS[framing] + NEXT)
    assert 2 == received.count(b"HTTP/1.1 200 OK"), received
    assert b"HTTP/1.1 101" not in received
    (seen,) = await upstream.log()
    assert hashlib.sha256(BODY).hexdigest() == seen["body_sha256"]
    assert "upgrade" not in str(seen["headers"]).lower()


async def test_an_offer_may_come_in_pieces(gateway: Gateway, upstream: Upstream) -> None:
    """P2: wherever the bytes are cut, one request is one call."""
    whole = post(gateway, OFFERS["java"] + b"connection: close\r\n") + FRAMINGS["length"]
    cuts = range(1, len(whole), 17)
    for received in await asyncio.gather(*(said(gateway, whole[:cut], whole[cut:]) for cut in cuts)):
        assert 1 == received.count(b"HTTP/1.1 200 OK") == received.count(b"HTTP/1.1 ")
        assert b"connection: close" in received.lower()
    assert {hashlib.sha256(BODY).hexdigest()} == {one["body_sha256"] for one in await upstream.log()}
    assert len(cuts) == len(await upstream.log())


async def test_an_offer_without_a_body(gateway: Gateway) -> None:
    """RFC 9110, 7.8: also where nothing follows the head, and where several offers follow one another."""
    get = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    assert 3 == (await said(gateway, get + get + NEXT)).count(b"HTTP/1.1 200 OK")


async def test_an_offer_of_a_stream(gateway: Gateway) -> None:
    """RFC 9110, 7.8: a stream that is offered another protocol comes as events all the same."""
    received = await said(gateway, post(gateway, OFFERS["java"], STREAM) + FRAMINGS["length"] + NEXT)
    assert b"data: {" in received
    assert b"\r\n0\r\n\r\nHTTP/1.1 200 OK" in received


@pytest.mark.parametrize(
    "offer",
    [
        b"connection: upgrade\r\nupgrade: websocket\r\n",
        b"connection: keep-alive, Upgrade\r\nupgrade: WebSocket\r\n",
        b"connection: upgrade\r\nupgrade: h2c, websocket\r\n",
        b"connection: upgrade\r\nupgrade: h2c\r\nupgrade: websocket\r\n",
    ],
)
async def test_a_websocket_is_refused(gateway: Gateway, upstream: Upstream, offer: bytes) -> None:
    """P4: who asks for a websocket cannot go on without one, so they are told; nothing behind it is answered."""
    received = await said(gateway, post(gateway, offer) + FRAMINGS["length"] + NEXT)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert 1 == received.count(b"HTTP/1.1 ")
    assert [] == await upstream.log()


@pytest.mark.parametrize("path", ["/v1/responses", "/responses/?x=/y", "/v1beta/openai/responses?a"])
async def test_a_websocket_for_responses(gateway: Gateway, path: str) -> None:
    """RFC 9110, 15.5.22: clients that try a websocket for responses are told at once to go on without one."""
    offer = b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"
    received = await said(gateway, b"GET %b HTTP/1.1\r\nhost: x\r\n" % path.encode() + offer + NEXT)
    assert received.startswith(b"HTTP/1.1 426 Upgrade Required\r\n")
    assert b"\r\nupgrade: HTTP/1.1\r\nconnection: upgrade\r\n" in received
    assert b'"code": "upgrade"' in received
    assert 1 == received.count(b"HTTP/1.1 ")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses/x", "/?/responses"])
async def test_a_websocket_for_anything_else(gateway: Gateway, path: str) -> None:
    """P4: elsewhere nobody falls back from one, so that it is a plain mistake."""
    offer = b"connection: upgrade\r\nupgrade: websocket\r\n\r\n"
    received = await said(gateway, b"GET %b HTTP/1.1\r\nhost: x\r\n" % path.encode() + offer + NEXT)
    assert received.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "framing",
    [
        b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"transfer-encoding: identity\r\n\r\n{}",
        b"content-length: +5\r\n\r\nhello",
    ],
)
async def test_an_offer_hides_nothing(gateway: Gateway, upstream: Upstream, framing: bytes) -> None:
    """P2: behind an offer, what can be read in two ways is refused as everywhere."""
    received = await said(gateway, post(gateway, OFFERS["java"]) + framing + NEXT)
    assert received.startswith(b"HTTP/1.1 400 ")
    assert 1 == received.count(b"HTTP/1.1 ")
    assert [] == await upstream.log()
