"""What reaches the upstream, the log and the caller, whatever stands in a request's head?  Raw sockets, seeded chance."""

import asyncio
import os
import random
import re
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest

from gateway.config.clients import new_key
from tests.support.gateway import GENERATE, TEXT, Gateway, running
from tests.support.wire import Wire, answer, saying, wire

HEADS = int(os.environ.get("TEST_HEADS", "400"))  # the full count is 100000
GOOD = b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}],"models":[]}'
MODEL = rb"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
ACTION = rb"(?:generateContent|streamGenerateContent(?:\?alt=sse)?|countTokens|embedContent|batchEmbedContents)"
TARGET = re.compile(
    rb"POST /v1beta/models/%b:%b|GET /v1beta/models(?:/%b|\?[A-Za-z0-9=&._~%%-]*)?" % (MODEL, ACTION, MODEL)
)
CROSSING = {
    "host", "accept-encoding", "user-agent", "authorization", "accept", "x-request-id", "content-type", "content-length",
}  # fmt: skip
SEGMENTS = [
    b"gemini-2.5-flash", b"..", b"..%2f..%2fv1", b"%2e%2e", b"%252f", b"%252e%252e", b"x:generateContent/../../v1/y", b"x#y",
    b"x%23y", b"x?y", b"x%3fy", b"x;y", b"x%3by", b"x\\y", b"x%5cy", b"a@evil.test", b"a%40evil.test", b"//evil.test/",
    b"x%00y", b"x%0d%0aHost:%20evil.test", b"x%0a", b"%e2%80%ae", "модель".encode(), b"%c0%af", b"%", b"%g1", b"m" * 129,
    b"", b".", b"-x", b"%20", b"x%20y", b"x%2fy", b"*", b"{x}", b"x%7f", b"\xff", b"gemini-2.5-flash%3agenerateContent",
]  # fmt: skip
PREFIXES = [
    b"/v1beta",
    b"/v1",
    b"/v1alpha",
    b"",
    b"//v1beta",
    b"/v1beta/v1",
    b"http://evil.test/v1beta",
    b"/gemini",
    b"@evil.test",
]
ENDS = [
    b":generateContent", b"%3AgenerateContent", b":streamGenerateContent", b":countTokens", b":predict", b"", b"/", b":generateContent/",
    b":generateContent/../../v1/y", b":GENERATECONTENT", b":generateContent%0a",
]  # fmt: skip
QUERIES = [
    b"", b"?alt=sse", b"?alt=media", b"?$alt=json", b"?%24alt=json%3Benum-encoding%3Dint", b"?fields=x&callback=y", b"?upload_protocol=raw",
    b"?access_token=z", b"?pageSize=2&pageToken=a", b"?pageSize=%0d%0a", b"?pageToken=%0d%0ahost:evil", b"?%00", b"?alt=sse&alt=media",
]  # fmt: skip
METHODS = [b"POST", b"GET", b"GET", b"HEAD", b"PUT", b"DELETE", b"TRACE", b"OPTIONS", b"PATCH", b"LINK"]
LINES = [
    b"x-http-method-override: DELETE", b"x-goog-user-project: evil", b"x-goog-fieldmask: x", b"cookie: a=b", b"connection: x-goog-api-key",
    b"connection: close, authorization", b"te: trailers", b"keep-alive: 300", b"proxy-authorization: Basic x", b"proxy-connection: close",
    b"trailer: x-evil", b"forwarded: for=127.0.0.1", b"x-forwarded-for: 127.0.0.1", b"x-forwarded-host: evil.test", b"x_forwarded_for: 1",
    b"x-request-id: \x1b[31mred", b'x-request-id: {"level":"error"}', b"user-agent: \x1b]0;evil\x07", b"accept: text/html", b"accept: \xff",
    b"content-type: text/plain", b"content-type: application/json; charset=\xff", b"content-encoding: gzip", b"x-server-timeout: -1",
    b"x-server-timeout: 1e9", b"x-goog-api-client: genai", b"referer: http://127.0.0.1/", b"range: bytes=0-1", b"accept-encoding: zstd",
    b"cache-control: no-store", b"authorization: Basic eDp5", b"authorization: Digest x", b"x-evil: 1", b"if-none-match: *",
]  # fmt: skip
PLACES = [
    b"x-goog-api-key: %b",
    b"authorization: Bearer %b",
    b"Authorization: bearer %b",
    b"x-goog-api-key: x\r\nx-goog-api-key: %b",
]
KEYS = [
    b"' OR 1=1 --", b"*", b"thg_*", b"${jndi:ldap://127.0.0.1/a}", b"../../clients.toml", b"%s%n", b"null", b"", b"\xff\xfe",
    new_key().encode(), b"thg_" + b"0" * 38,
]  # fmt: skip


def head(chance: random.Random, key: str) -> bytes:
    """Some request: each part of it is the good one, which stands first, or any."""

    def some(parts: list[bytes]) -> bytes:
        return parts[0] if chance.random() < 0.6 else chance.choice(parts)

    segment = some(SEGMENTS)
    if chance.random() < 0.1:
        segment = quote_from_bytes(chance.randbytes(chance.randrange(1, 12)), safe="").encode()
    path = some(PREFIXES) + b"/models/" + segment + some(ENDS) + chance.choice(QUERIES)
    lines = chance.sample(LINES, chance.randrange(5))
    lines.append(some(PLACES) % some([key.encode(), *KEYS]))
    return b"\r\n".join([some(METHODS) + b" " + path + b" HTTP/1.1", b"host: x", *lines])


async def told(gateway: Gateway, request: bytes) -> bytes:
    """All that comes back."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request)
    writer.write(b"\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
    try:
        async with asyncio.timeout(10):
            return await reader.read()
    finally:
        writer.close()


def check_upstream(heard: Wire) -> None:
    """Only allowed targets and headers, each once, and only our own key."""
    for one in heard.heads:
        first, *lines = one.removesuffix(b"\r\n\r\n").split(b"\r\n")
        assert TARGET.fullmatch(first.removesuffix(b" HTTP/1.1")), first
        names = [line.partition(b":")[0].decode().lower() for line in lines]
        assert set(names) <= CROSSING, names
        assert len(set(names)) == len(names)
        assert b"thg_" not in one
        assert b"evil" not in one


async def test_any_head(tmp_path: Path) -> None:
    """P1 P3 P4 P7 P8 P10 P11 L7 K4: one answer each, none a 5xx, nothing crosses but the allowed, one line of log each."""
    chance = random.Random(4711)
    async with wire(saying(answer(GOOD), close=False)) as upstream, running(tmp_path, upstream.url) as gateway:
        for _ in range(HEADS):
            request = head(chance, gateway.key)
            received = await told(gateway, request)
            assert 1 == received.count(b"HTTP/1.1 "), request
            assert received[9:10] in b"24", (request, received)
            assert b"evil" not in received.partition(b"\r\n\r\n")[0], request
        check_upstream(upstream)
        asked = len(upstream.heads)
        lines = gateway.lines()
        text = gateway.log_file.read_bytes()
    assert HEADS // 20 < asked < HEADS
    assert sum(line["event"] == "call" for line in lines) <= HEADS
    assert {"call", "degraded"} == {line["event"] for line in lines}
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", text)
    assert gateway.key.encode() not in text


async def test_only_listed_headers_come_back(tmp_path: Path) -> None:
    """P9: of forty headers of the upstream's answer the caller gets the content type, on good answers and errors."""
    evil = [
        "set-cookie",
        "alt-svc",
        "location",
        "server",
        "x-powered-by",
        "via",
        "access-control-allow-origin",
        "strict-transport-security",
    ]
    more = "".join(f"{name}: evil\r\n" for name in evil + [f"x-{number}" for number in range(32)])
    ours = {"date", "content-type", "content-length", "x-request-id", "request-id", "server-timing", "cache-status"}
    for status in ("200 OK", "400 Bad Request"):
        async with (
            wire(saying(answer(GOOD, status=status, more=more))) as upstream,
            running(tmp_path, upstream.url) as gateway,
        ):
            response = await gateway.http.post(GENERATE, json=TEXT)
        assert ours >= set(response.headers), response.headers
        assert "evil" not in str(response.headers)


@pytest.mark.parametrize("uri", ["file:///etc/passwd", "gopher://127.0.0.1:1/", "URL"])
async def test_no_address_in_a_body_is_fetched(tmp_path: Path, uri: str) -> None:
    """P5 U20: an address in a question or in an answer is passed on, and nobody connects to it."""
    async with wire(saying(b"")) as thief:
        address = uri.replace("URL", thief.url)
        body = {"contents": [{"parts": [{"fileData": {"fileUri": address}}]}], "api_base": thief.url}
        said = GOOD.replace(b"hi", f"![picture]({address})".encode())
        async with wire(saying(answer(said))) as upstream, running(tmp_path, upstream.url) as gateway:
            headers = {"x-goog-api-base-url": thief.url, "x-portkey-custom-host": thief.url}
            response = await gateway.http.post(GENERATE, json=body, headers=headers)
        assert (200, said) == (response.status_code, response.content)
        assert 0 == thief.connections
