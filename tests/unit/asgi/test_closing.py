"""How does an answer end, and what does its head say of that?  Raw sockets, HTTP/1.0, and Node's own fetch."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from tests.support.gateway import GENERATE, STREAM, TEXT, Gateway, Upstream, running
from tests.support.valkey import Valkey
from tests.support.wire import answer, chunked, saying, wire

ARRAY = STREAM.partition("?")[0]
GOOD = b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}],"usageMetadata":{"totalTokenCount":3}}'
HALF = b'data: {"candidates":[{"content":{"parts":[{"text":"h"}]}}]}\n\n'
LAST = b"data: " + GOOD + b"\n\n"
FETCH = """
const [url, key, body] = process.argv.slice(1);
const headers = { "x-goog-api-key": key, "content-type": "application/json", connection: "close" };
const answer = await fetch(url, { method: "POST", headers, body });
try { console.log(JSON.stringify(["whole", await answer.text()])); } catch (error) { console.log(JSON.stringify(["cut", String(error)])); }
"""


async def said(gateway: Gateway, path: str, *lines: str, version: str = "1.1") -> tuple[str, bytes]:
    """Head and body of one answer, as they are on the wire until the gateway closes."""
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = json.dumps(TEXT)
    head = "\r\n".join(
        [
            f"POST {path} HTTP/{version}",
            "host: x",
            f"x-goog-api-key: {gateway.key}",
            f"content-length: {len(body)}",
            *lines,
        ]
    )
    try:
        async with asyncio.timeout(5):
            writer.write(f"{head}\r\n\r\n{body}".encode())
            received = await reader.read()
    finally:
        writer.close()
    answered, _, rest = received.partition(b"\r\n\r\n")
    return answered.decode().lower(), rest


@pytest.mark.parametrize("path", [STREAM, ARRAY], ids=["events", "array"])
@pytest.mark.parametrize("why", ["the caller", "the drain"])
async def test_a_chunked_answer_never_announces_the_close(gateway: Gateway, path: str, why: str) -> None:
    """X1: it closes behind its last chunk, whoever wants that, and its head does not say so."""
    gateway.app.parts.pipeline.drain.draining = why == "the drain"
    head, body = await said(gateway, path, *(["connection: close"] if why == "the caller" else []))
    assert "transfer-encoding: chunked" in head
    assert "connection:" not in head
    assert body.endswith(b"\r\n0\r\n\r\n")


@pytest.mark.parametrize("why", ["the caller", "the drain"])
async def test_an_answer_with_a_length_announces_the_close(gateway: Gateway, why: str) -> None:
    """RFC 9112, 9.6: there the length says what is whole, and the caller learns that its connection ends."""
    gateway.app.parts.pipeline.drain.draining = why == "the drain"
    head, body = await said(gateway, GENERATE, *(["connection: close"] if why == "the caller" else []))
    assert f"content-length: {len(body)}" in head
    assert 1 == head.count("connection: close")


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
@pytest.mark.parametrize("cut", [True, False], ids=["cut", "whole"])
async def test_node_notices_a_cut_stream(tmp_path: Path, state: Valkey, cut: bool) -> None:
    """U3: Node's fetch, which asked to close, does not take a stream that broke for a whole one."""
    pieces = chunked(HALF, *([] if cut else [LAST]), end=not cut)
    async with wire(saying(*pieces)) as upstream, running(tmp_path, upstream.url, redis_url=state.url) as gateway:
        node = await asyncio.create_subprocess_exec(
            "node", "--input-type=module", "-e", FETCH, "--", gateway.url + STREAM, gateway.key, json.dumps(TEXT),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        how, what = json.loads((await node.communicate())[0])
    assert ("cut" if cut else "whole") == how, what
    assert cut or what.endswith(LAST.decode())


@pytest.mark.parametrize("path", [STREAM, ARRAY], ids=["events", "array"])
async def test_http_1_0_gets_no_chunks(tmp_path: Path, state: Valkey, path: str) -> None:
    """RFC 9112, 6.1: a stream to an HTTP/1.0 caller ends with its connection and has no transfer coding."""
    async with (
        wire(saying(*chunked(HALF, LAST))) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url) as gateway,
    ):
        head, body = await said(gateway, path, "connection: keep-alive", version="1.0")
    assert "transfer-encoding" not in head
    assert "connection: close" in head
    if path == STREAM:
        assert HALF + LAST == body
    else:
        assert [json.loads(HALF[6:]), json.loads(GOOD)] == json.loads(body)


async def test_http_1_0_gets_lengths(gateway: Gateway) -> None:
    """RFC 9112, 6.2: what has a length keeps it: an answer, an error of ours, one of the upstream's."""
    for path in (GENERATE, "/nowhere", GENERATE.replace("gemini-2.5-flash", "none-such")):
        head, body = await said(gateway, path, version="1.0")
        assert f"content-length: {len(body)}" in head
        json.loads(body)


async def test_a_large_answer_to_http_1_0(tmp_path: Path, state: Valkey) -> None:
    """RFC 9112, 6.2: an answer that is sent in slices is whole for HTTP/1.0 too."""
    large = GOOD.replace(b"hi", b"x" * 3_000_000)
    async with wire(saying(answer(large))) as upstream, running(tmp_path, upstream.url, redis_url=state.url) as gateway:
        _, body = await said(gateway, GENERATE, version="1.0")
    assert large == body


async def test_a_cut_stream_to_http_1_0(tmp_path: Path, state: Valkey) -> None:
    """U3: where the end of the connection is the end of the answer, the last event says that it broke."""
    async with (
        wire(saying(*chunked(HALF, end=False))) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url) as gateway,
    ):
        _, body = await said(gateway, STREAM, version="1.0")
    assert body.startswith(HALF + b'data: {"error"')


async def test_requests_behind_a_stream_are_answered(gateway: Gateway, upstream: Upstream) -> None:
    """D12: a connection that nobody wants closed goes on behind a stream."""
    for _ in range(3):
        assert (await gateway.http.post(STREAM, json=TEXT)).text.startswith("data: ")
    assert 3 == len(await upstream.log())
    addresses = {entry["client_address"] for entry in await gateway.entries(3)}
    assert {"127.0.0.1"} == addresses
