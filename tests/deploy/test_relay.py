"""Does the gateways' only way out lead to the upstream, and nowhere else?  The shipped relay, on real sockets."""

import asyncio
import contextlib
import importlib.util
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

RELAY = Path(__file__).parents[2] / "deploy/egress/relay.py"


@contextlib.asynccontextmanager
async def relaying(monkeypatch: pytest.MonkeyPatch, upstream_url: str) -> AsyncIterator[int]:
    """The relay towards this upstream; gives its port."""
    monkeypatch.setenv("UPSTREAM_URL", upstream_url)
    spec = importlib.util.spec_from_file_location("relay", RELAY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = await asyncio.start_server(module.relay, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def say(port: int, *parts: bytes) -> bytes:
    """Send these parts, say that nothing follows, and read all that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for part in parts:
        writer.write(part)
        await writer.drain()
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


async def test_z1_bytes_pass_to_the_upstream_and_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Z1: behind CONNECT to the upstream every byte passes, both ways, also when there are many."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        await writer.drain()
        writer.close()

    upstream = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = upstream.sockets[0].getsockname()[1]
    body = bytes(range(256)) * 20_000
    async with upstream, relaying(monkeypatch, f"https://127.0.0.1:{port}") as relay:
        head = b"CONNECT 127.0.0.1:%d HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n" % port
        assert await say(relay, head, body) == b"HTTP/1.1 200 Connection established\r\n\r\n" + body


@pytest.mark.parametrize(
    "line",
    [
        b"CONNECT example.org:443",
        b"CONNECT api.example:80",
        b"CONNECT api.example",
        b"GET http://api.example/",
        b"connect api.example:443",
        b"",
    ],
)
async def test_z1_every_other_way_is_refused(monkeypatch: pytest.MonkeyPatch, line: bytes) -> None:
    """Z1: another host, another port or another method gets 403 and no connection."""
    async with relaying(monkeypatch, "https://api.example") as relay:
        answer = await say(relay, line + b" HTTP/1.1\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")


async def test_an_upstream_that_is_unreachable_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """U16: nothing was sent, and the gateway learns so."""
    async with relaying(monkeypatch, "https://127.0.0.1:1") as relay:
        assert (await say(relay, b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 502 ")
