"""The transport: every exception has a name, a cancelled call is closed, stray bytes reach nobody else."""

import asyncio
import inspect
import random
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pyqwest
import pytest

from gateway.upstream import Outgoing, PyqwestTransport
from gateway.upstream.answer import FAILURES
from gateway.upstream.transport import EXCEPTIONS
from tests.support.gateway import GENERATE, Upstream, running
from tests.support.gateway import saying as asking
from tests.support.waiting import until
from tests.support.wire import answer, saying, wire


@pytest.fixture
async def transport() -> AsyncIterator[PyqwestTransport]:
    """A transport to anywhere on this machine."""
    way = PyqwestTransport("http://127.0.0.1", connect_seconds=2)
    yield way
    await way.aclose()


def post(url: str) -> Outgoing:
    """A request with a small body."""
    return Outgoing("POST", url, [("host", "x"), ("content-length", "2")], b"{}")


def test_every_exception_of_pyqwest_is_mapped() -> None:
    """U16: the map is total; this fails when pyqwest grows an exception of its own."""
    theirs = {kind for kind in vars(pyqwest).values() if inspect.isclass(kind) and issubclass(kind, Exception)}
    known = tuple(ours for ours, _ in EXCEPTIONS)
    assert theirs
    assert set() == {kind for kind in theirs if not issubclass(kind, known)}


def test_every_failure_of_httpx_is_mapped() -> None:
    """U16: the same for what httpx calls them."""
    kinds = {kind for kind in vars(httpx).values() if inspect.isclass(kind) and issubclass(kind, httpx.TransportError)}
    assert set() == {kind for kind in kinds if not any(issubclass(kind, theirs) for theirs, _ in FAILURES)}


async def test_a_cancelled_call_closes_its_connection(transport: PyqwestTransport) -> None:
    """D6: 50 calls cancelled at random moments; the upstream sees every connection end, and the next calls work."""
    closed = 0

    async def play(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal closed
        if b"/quick" in head:
            writer.write(answer(b"{}"))
            return
        await reader.read()  # until they hang up
        closed += 1
        writer.close()

    async with wire(play) as upstream:
        chance = random.Random(7)
        calls = [asyncio.ensure_future(transport.send(post(f"{upstream.url}/slow"))) for _ in range(50)]
        await until(lambda: len(upstream.heads) == 50)
        for call in calls:
            asyncio.get_running_loop().call_later(chance.uniform(0, 0.1), call.cancel)
        await asyncio.gather(*calls, return_exceptions=True)
        await until(lambda: closed == 50)
        assert 200 == (await transport.send(post(f"{upstream.url}/quick"))).status


@pytest.mark.parametrize("late", [0, 0.05], ids=["same segment", "50 ms late"])
async def test_stray_bytes_reach_nobody(transport: PyqwestTransport, late: float) -> None:
    """U5 A9: a second answer behind the first is never given to the next caller on that connection."""
    asked, strayed = 0, asyncio.Event()

    async def play(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(answer(b'{"mine": %d}' % asked) + (b"" if late else answer(b'{"poison": 1}')))
        if late:
            await asyncio.sleep(late)  # slow on purpose: what comes when the connection is idle
            writer.write(answer(b'{"poison": 1}'))
            strayed.set()

    async with wire(play) as upstream:
        for _ in range(40):
            strayed.clear()
            try:
                incoming = await transport.send(post(f"{upstream.url}/"))
            except httpx.TransportError:
                continue  # an error is clean; another's answer is not
            assert b"poison" not in b"".join([chunk async for chunk in incoming.body])
            if late:  # what comes behind the next request is its answer, for anybody
                await strayed.wait()
                await asyncio.sleep(late / 2)  # for the stray bytes to cross: nobody can tell that they have


async def test_the_environments_proxy_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY of the environment has no say, and GATEWAY_UPSTREAM_PROXY has."""
    async with (
        wire(saying(answer(b'{"from": "proxy"}'))) as proxy,
        wire(saying(answer(b'{"from": "upstream"}'))) as upstream,
    ):
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        for way, expected in (
            (PyqwestTransport(upstream.url, connect_seconds=2), b"upstream"),
            (PyqwestTransport(upstream.url, connect_seconds=2, proxy=proxy.url), b"proxy"),
        ):
            response = await way.send(post(f"{upstream.url}/"))
            assert expected in b"".join([chunk async for chunk in response.body])
            await way.aclose()


async def test_any_other_transport_can_take_its_place(tmp_path: Path, upstream: Upstream) -> None:
    """The seam is small: httpx's own transport works in its place by one argument."""
    transport = httpx.AsyncHTTPTransport()
    async with running(tmp_path, upstream.url, transport=transport) as gateway:
        response = await gateway.http.post(GENERATE, json=asking("Hello"))
    assert 200 == response.status_code
