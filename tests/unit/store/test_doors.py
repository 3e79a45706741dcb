"""How is a store reached?  Over TCP and TLS, with a password, on the loop of the tests and on the workers'."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from gateway.store import Store
from gateway.store.command import Script, StoreUnavailable
from tests.support.valkey import Valkey, valkey
from tests.unit.upstream.test_tls import HERE, served_with, signed

ECHO = Script.of("echo", "return {KEYS[1], ARGV[1]}")
PICTURE = bytes(range(256)) * 20_000


@contextlib.asynccontextmanager
async def door(server: Valkey, tls: ssl.SSLContext | None) -> AsyncIterator[int]:
    """A TCP port that leads to the server, behind TLS if asked."""
    busy: set[asyncio.Task[None]] = set()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_unix_connection(server.socket)
        for one_way in (pass_on(reader, there[1]), pass_on(there[0], writer)):
            busy.add(task := asyncio.create_task(one_way))
            task.add_done_callback(busy.discard)

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls) as listening:
        yield listening.sockets[0].getsockname()[1]
        while busy:
            await asyncio.wait(busy)


async def used(server: Valkey, folder: Path, *, tls: bool) -> None:
    """Everything that a store does, through that door."""
    authority = signed(None)
    ca = authority.save(folder / "ca.pem")
    async with door(server, served_with(signed(HERE, by=authority), folder) if tls else None) as port:
        address = f"127.0.0.1:{port}/0" + (f"?ssl_ca_certs={ca}" if tls else "")
        scheme = "rediss" if tls else "redis"
        store = Store(f"{scheme}://gateway:secret@{address}", timeout=5)
        assert [[b"k", b"%d" % n] for n in range(300)] == [
            *await asyncio.gather(*(store.script(ECHO, ["k"], [n]) for n in range(300)))
        ]
        await store.command("SET", "picture", PICTURE)
        assert PICTURE == await store.command("GET", "picture")
        await store.aclose()

        stranger = Store(f"{scheme}://gateway:wrong@{address}", timeout=5)
        with pytest.raises(StoreUnavailable, match="refuses our user name or password"):
            await stranger.ping()
        await stranger.aclose()


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_store_behind_a_door(tmp_path: Path, run: Callable[[Any], None], tls: bool) -> None:
    """R8: scripts in one pipeline, large values and a password work over each; a wrong password makes the store unavailable."""
    with valkey() as server:
        server.ask("ACL", "SETUSER", "gateway", "on", ">secret", "~*", "+@all")
        run(used(server, tmp_path, tls=tls))
