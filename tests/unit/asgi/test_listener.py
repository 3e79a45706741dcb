"""What the callers' socket refuses before there is a request, on raw sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.asgi import response
from gateway.asgi.protocol import GatewayProtocol
from tests.support.gateway import GENERATE, Gateway, Upstream, running
from tests.support.valkey import Valkey

KEYED = b"POST %b HTTP/1.1\r\nhost: x\r\n" % GENERATE.encode()


class Impatient(GatewayProtocol):
    """Waits for a fraction of a second."""

    head_seconds = 0.2
    stall_seconds = 0.3


@pytest.fixture
async def impatient(tmp_path: Path, upstream: Upstream, state: Valkey) -> AsyncIterator[Gateway]:
    """A gateway whose callers must be quick."""
    async with running(tmp_path, upstream.url, redis_url=state.url, http=Impatient) as gateway:
        yield gateway


async def exchanged(gateway: Gateway, *pieces: bytes, pause: float = 0, seconds: float = 5) -> bytes:
    """Send the pieces and read what comes back, until the gateway closes."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    received = b""
    try:
        async with asyncio.timeout(seconds):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause)  # slow on purpose: the pieces come one by one
            received = await reader.read()
    except (TimeoutError, OSError):
        pass
    finally:
        writer.close()
    return received


def parsed(received: bytes) -> tuple[int, str, str]:
    """Status, reason and connection of the one answer."""
    head, _, body = received.partition(b"\r\n\r\n")
    assert 1 == received.count(b"HTTP/1.1 "), "exactly one answer"
    return int(head.split()[1]), json.loads(body)["error"]["details"][0]["reason"], head.lower().decode()


BAD = [
    (b"GET /healthz HTTP/1.1\r\n\r\n", 400, "BAD_REQUEST"),
    (b"GET /healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400, "BAD_REQUEST"),
    (b"GET /healthz HTTP/1.1\r\nhost: a/b?\r\n\r\n", 400, "BAD_REQUEST"),
    (b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 400, "BAD_REQUEST"),
    (b"garbage\r\n\r\n", 400, "BAD_REQUEST"),
    (KEYED + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n", 400, "BAD_REQUEST"),
    (KEYED + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello", 400, "BAD_REQUEST"),
    (KEYED + b"content-length: +5\r\n\r\nhello", 400, "BAD_REQUEST"),
    (KEYED + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n", 400, "BAD_REQUEST"),
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", 414, "URI_TOO_LONG"),
    (b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 20_000 + b"\r\n\r\n", 431, "HEADERS_TOO_LARGE"),
    (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 200 + b"\r\n", 431, "HEADERS_TOO_LARGE"),
    (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"".join(b"x-%d: %b\r\n" % (n, b"y" * 4000) for n in range(10)) + b"\r\n", 431, "HEADERS_TOO_LARGE"),
    (KEYED + b"authorization: Bearer " + b"y" * 10_000_000 + b"\r\n\r\n", 431, "HEADERS_TOO_LARGE"),
]  # fmt: skip


@pytest.mark.parametrize(("request_bytes", "status", "reason"), BAD)
async def test_bad_heads_are_refused(gateway: Gateway, request_bytes: bytes, status: int, reason: str) -> None:
    """P2 P6 D11: one answer in our shape, never two, and the connection is closed."""
    answered, why, head = parsed(await exchanged(gateway, request_bytes))
    assert (status, reason) == (answered, why)
    assert "connection: close" in head
    assert "\r\nx-request-id: " in head


async def test_an_endless_head_is_refused(gateway: Gateway) -> None:
    """D11: a header line that never ends is refused once it is too long, whatever the parser waits for."""
    received = await exchanged(gateway, b"GET / HTTP/1.1\r\nhost: x\r\nx: ", *[b"y" * 8000] * 5, pause=0.05)
    assert (431, "HEADERS_TOO_LARGE") == parsed(received)[:2]


async def test_trailers_are_no_headers(gateway: Gateway) -> None:
    """P2 P4: what stands behind a chunked body opens nothing and is bounded like the head."""
    chunked = KEYED + b"connection: close\r\ntransfer-encoding: chunked\r\n"
    trailing = b"\r\n2\r\n{}\r\n0\r\nx-goog-api-key: " + gateway.key.encode()
    assert (401, "KEY_MISSING") == parsed(await exchanged(gateway, chunked + trailing + b"\r\n\r\n"))[:2]
    keyed = chunked + f"x-goog-api-key: {gateway.key}\r\n".encode()
    assert b"" == await exchanged(gateway, keyed + trailing, *[b"y" * 8000] * 5, pause=0.05)
    outcomes = [(entry["outcome"], entry["attempts"]) for entry in await gateway.entries(2)]
    assert [("unauthenticated", 0), ("client_gone", 0)] == outcomes


async def test_a_head_behind_a_large_body(gateway: Gateway) -> None:
    """D11: what a read holds of the request before is not counted as head of the next one."""
    body = b'{"contents":[{"parts":[{"text":"%b"}]}]}' % (b"x" * 60_000)
    call = KEYED + f"x-goog-api-key: {gateway.key}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
    probe = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    received = await exchanged(gateway, call + probe[:30], probe[30:], pause=0.05)
    assert 2 == received.count(b"HTTP/1.1 200 OK")
    assert received.endswith(b'"}')


@pytest.mark.parametrize(
    "pieces",
    [[b""], [b"\r\n"], [b"\r\n\r\n", b"\n"], [b"GET / HTT", b"P/1.1\r\nhost:"]],
    ids=["silent", "line break", "line breaks", "slow"],
)
async def test_a_slow_head_has_a_deadline(impatient: Gateway, pieces: list[bytes]) -> None:
    """D1: whoever does not finish a head is answered and closed, and cannot hold the socket."""
    assert (408, "BODY_TIMEOUT") == parsed(await exchanged(impatient, *pieces, pause=0.05, seconds=20))[:2]


async def test_a_caller_who_stops_reading_is_cut_off(impatient: Gateway) -> None:
    """D3: an answer that nobody takes ends the connection after a while, and its bytes are given back."""
    gateway = impatient
    host, port = gateway.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port), limit=1024)
    body = b'{"contents":[{"parts":[{"text":"sandbox-size: 20000000 "}]}]}'
    head = KEYED + f"x-goog-api-key: {gateway.key}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    writer.write(head + body)
    entry = await gateway.entry()
    writer.close()
    assert ("client_gone", 499) == (entry["outcome"], entry["status"])
    await gateway.at_rest()


async def test_expect_is_answered_only_for_a_body_that_is_wanted(gateway: Gateway) -> None:
    """D7: `Expect: 100-continue` is answered before a body is read, and a stranger gets the 401 instead."""
    body = b'{"contents":[{"parts":[{"text":"hi"}]}]}'
    expecting = b"expect: 100-continue\r\nconnection: close\r\ncontent-length: %d\r\n" % len(body)
    wanted = await exchanged(
        gateway, KEYED + f"x-goog-api-key: {gateway.key}\r\n".encode() + expecting + b"\r\n", body, pause=0.2
    )
    unwanted = await exchanged(gateway, KEYED + expecting + b"\r\n", seconds=1)
    assert wanted.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    assert not unwanted.startswith(b"HTTP/1.1 100")


async def test_what_never_became_a_request_is_counted(gateway: Gateway) -> None:
    """A1: a head that is refused has an access line and a count; a connection that says nothing has neither."""
    host, port = gateway.url.removeprefix("http://").split(":")
    _, silent = await asyncio.open_connection(host, port)
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n")
    head = (await reader.read()).decode()
    entry = await gateway.entry()
    for each in (silent, writer):
        each.close()
    assert ("refused", 400, "unknown", "other") == tuple(
        entry[word] for word in ("outcome", "status", "client", "method")
    )
    assert f"x-request-id: {entry['request_id']}\r\n" in head
    assert 1 == gateway.metric("gateway_requests_total") == gateway.metric("gateway_requests_total", code="400")


@pytest.mark.parametrize(
    ("length", "status"),
    [
        (b"0" * 4400 + b"2", 200), (b"0000002", 200), (b"0" * 4400, 400), (b"9" * 4400, 400), (b"1" + b"0" * 19, 413),
        (b"18446744073709551615", 413), (b"18446744073709551616", 400), (b"2" * 19, 413),
    ],
)  # fmt: skip
async def test_a_length_of_many_digits(gateway: Gateway, length: bytes, status: int) -> None:
    """D7: a length may have any number of zeros in front; what cannot be a length or is too much is refused as such."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    keyed = f"x-goog-api-key: {gateway.key}\r\ncontent-length: ".encode()
    writer.write(KEYED + keyed + length + b"\r\n\r\n" + (b"{}" if status == 200 else b""))
    async with asyncio.timeout(5):
        answered = await reader.readline()
    writer.close()
    assert answered.startswith(b"HTTP/1.1 %d " % status)


async def test_a_body_that_came_with_its_head_has_the_same_limit(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D7: a chunked body that is too large is refused also where all of it is there at once."""
    monkeypatch.setattr(response, "DISCARD_SECONDS", 0.2)
    async with running(tmp_path, upstream.url, max_body_bytes=10) as gateway:
        keyed = f"x-goog-api-key: {gateway.key}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n".encode()
        received = await exchanged(gateway, KEYED + keyed + b"b\r\n" + b" " * 11 + b"\r\n0\r\n\r\n")
    assert (413, "BODY_TOO_LARGE") == parsed(received)[:2]


async def test_a_body_that_is_not_wanted_is_not_waited_for(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """D7: who is refused and never sends the rest of a body is answered, and closed after a while."""
    monkeypatch.setattr(response, "DISCARD_SECONDS", 0.2)
    received = await exchanged(gateway, KEYED + b"x-goog-api-key: wrong\r\ncontent-length: 100\r\n\r\n{", seconds=10)
    assert 401 == parsed(received)[0]
