"""Whatever fails between us and a store, no caller waits for ever, and it is reported once, in plain text."""

import asyncio
import contextlib
import re
import shutil
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError

from gateway.config.store_url import StoreUrl
from gateway.store import Store
from gateway.store.command import StoreUnavailable
from gateway.store.names import NamedConnection, Names
from gateway.store.nodes import PLAIN, SingleNode
from gateway.store.reasons import reason
from tests.support.valkey import Valkey, free_port, valkey
from tests.support.waiting import until
from tests.unit.store.test_doors import door
from tests.unit.store.test_store import ECHO, Watched, store
from tests.unit.upstream.test_tls import served_with, signed


class Broken(SingleNode):
    """A way to a server on which something unexpected happens."""

    def __init__(self, where: StoreUrl, at: str, error: Exception) -> None:
        super().__init__(where)
        self.at, self.error, self.calls = at, error, 0

    def _fail(self, at: str) -> None:
        if at == self.at:
            self.calls += 1
            raise self.error

    @property
    def known(self) -> bool:  # type: ignore[override]
        return self.at != "discover"

    async def discover(self) -> None:
        self._fail("discover")

    def home(self, key: str) -> str:
        self._fail("home")
        return super().home(key)

    def connect(self, home: str) -> AbstractConnection:
        self._fail("connect")
        return super().connect(home)


@pytest.mark.parametrize("at", ["discover", "home", "connect"])
@pytest.mark.parametrize(
    "error", [TypeError("an option"), UnicodeError("label"), RuntimeError("no loop"), KeyError("n")]
)
async def test_no_caller_waits_after_an_unexpected_error(state: Valkey, at: str, error: Exception) -> None:
    """R5: any exception on the way to a server ends the commands that wait, in time, and it is tried again and recovers."""
    async with store(state.url, timeout=0.25) as one:
        one._nodes = broken = Broken(StoreUrl.parse(state.url), at, error)
        asked = [one.script(ECHO, [f"k{n}"], [n]) for n in range(300)]
        ends = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 2)
        assert {StoreUnavailable} == {type(end) for end in ends}
        await until(lambda: broken.calls > 2)
        broken.at = ""
        await until(lambda: one.up)
        assert [b"k", b"1"] == await one.script(ECHO, ["k"], [1])
    assert [False, True] == [up for up, _ in one.changes]
    assert str(error) not in one.changes[0][1]


async def test_a_command_that_cannot_be_encoded_fails_alone(state: Valkey) -> None:
    """R5: a part that is no text fails its own pipeline, unsent; the store and the next commands are fine."""
    async with store(state.url, timeout=5) as one:
        await one.ping()
        for part in ("\ud800", "a\udfffb", "\udc80"):
            ends = await asyncio.wait_for(asyncio.gather(one.command("SET", "k", part), return_exceptions=True), 2)
            assert isinstance(ends[0], StoreUnavailable)
            assert not ends[0].sent
            assert b"OK" == await one.command("SET", "k", "v")
        await until(lambda: one.errors)
    assert [] == one.changes
    assert [("set", "cannot be encoded (UnicodeEncodeError)")] == one.errors


@contextlib.asynccontextmanager
async def saying(what: bytes, heard: asyncio.Event | None = None) -> AsyncIterator[str]:
    """A server that answers everything with this; `heard` is set when it has been sent something."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError), contextlib.closing(writer):
            while await reader.read(65536):
                writer.write(what)
                if heard is not None:
                    heard.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield f"redis://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def test_commands_that_wait_when_it_is_closed_fail() -> None:
    """R5: a connection that is still being made when the store closes leaves no command waiting."""
    async with saying(b"", heard := asyncio.Event()) as url:
        one = Store(url.replace("//", "//u:p@"), timeout=30)
        waiting = [one.command("GET", "k") for _ in range(3)]
        await heard.wait()
        await one.aclose()
        ends = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 2)
    assert [StoreUnavailable] * 3 == [type(end) for end in ends]


@contextlib.asynccontextmanager
async def behind_tls(folder: Path) -> AsyncIterator[int]:
    """A store behind TLS whose authority is ours alone."""
    authority = signed(None)
    authority.save(folder / "ca.pem")
    with valkey() as server:
        async with door(server, served_with(signed(x509.DNSName("localhost"), by=authority), folder)) as port:
            yield port


async def changes_of(url: str) -> list[tuple[bool, str]]:
    """What a store reports while it is probed, and commands are sent, again and again."""
    async with store(url, timeout=0.25, probe_seconds=0.02) as one:
        for probes in range(1, 4):
            with pytest.raises(StoreUnavailable):
                await one.ping()
            await until(lambda probes=probes: one.probes >= probes)
        assert [] == one.errors
        return one.changes


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://127.0.0.1:{free}", "nobody listens there"),
        ("redis+cluster://127.0.0.1:{free}", "nobody listens there"),
        ("redis://no-such-name.invalid", "its name does not resolve"),
        ("rediss://no-such-name.invalid", "its name does not resolve"),
        ("redis+cluster://no-such-name.invalid", "its name does not resolve"),
        ("unix:///nonexistent/s", "there is no such socket"),
    ],
)
async def test_an_unreachable_store_is_reported_once_in_plain_text(url: str, words: str) -> None:
    """R9: one line for the whole outage, in a text of ours that holds no address."""
    assert [(False, words)] == await changes_of(url.format(free=free_port()))


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "what answers there is no store"),
        (
            b"-DENIED Redis is running in protected mode\r\n",
            "it takes connections from its own host only: it has no password",
        ),
        (b"-NOAUTH Authentication required.\r\n", "it wants a user name or password (NOAUTH)"),
        (b"-ERR max number of clients reached\r\n", "it takes no more connections"),
        (b"-MISCONF Errors writing to the AOF file: No space\r\n", "it cannot write to its disk (MISCONF)"),
        (b"-NOPERM User gw has no permissions to run the 'evalsha' command\r\n", "its user may not run EVALSHA"),
        (b"-NOPERM No permissions to access a key\r\n", "its user may not use keys that begin with gw:"),
        (b"$-5\r\n$zz\r\n", "what answers there is no store"),
    ],
)
async def test_a_store_that_refuses_is_reported_once_in_plain_text(reply: bytes, words: str) -> None:
    """R6 R9: a server that refuses PING is unavailable, and one line says what to fix."""
    async with saying(reply) as url:
        (change,) = await changes_of(url)
    assert words in change[1]


async def test_a_wrong_password_or_certificate_is_reported_once_in_plain_text(tmp_path: Path, state: Valkey) -> None:
    """R9 U13: with a wrong password or certificate the store is unavailable, and no secret is in the text."""
    wrong = state.url.replace("unix://", "unix://default:hunter2@")
    state.ask("ACL", "SETUSER", "default", "resetpass", ">secret", "+@all")
    try:
        ((_, why),) = await changes_of(wrong)
    finally:
        state.ask("ACL", "SETUSER", "default", "nopass")
    assert "it refuses our user name or password" in why
    async with behind_tls(tmp_path) as port:
        ((_, why),) = await changes_of(f"rediss://127.0.0.1:{port}")
        assert why.startswith("its certificate is not accepted")
        ((_, why),) = await changes_of(f"redis://127.0.0.1:{port}")
        assert why in {"what answers there is no store", "it closes the connection", "no reply in time"}
        named = Store(f"rediss://localhost:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}", timeout=5)
        await named.ping()  # the certificate is of the name, whatever address it was found at
        await named.aclose()
        lax = Store(f"rediss://127.0.0.1:{port}?ssl_cert_reqs=none", timeout=5)
        await lax.ping()
        await lax.aclose()


def test_a_library_s_text_is_never_handed_on() -> None:
    """S1: an exception that nobody expects is named by its class alone."""
    assert "an error that nobody expects (RuntimeError)" == reason(RuntimeError("the key is hunter2"))
    assert "what answers there is no store" == reason(ValueError("hunter2"))
    assert "it speaks no TLS, or none that we accept" == reason(ssl.SSLError(1, "hunter2"))


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_name_is_looked_up_once_at_a_time(run: Callable[[Any], None]) -> None:
    """R9: a slow resolver is asked once, no caller waits for it longer than for a store, nothing is logged."""

    async def look() -> None:
        loop, asked, complaints = asyncio.get_running_loop(), [], []
        gate = threading.Event()

        async def slowly(host: str, *_: Any, **__: Any) -> list[Any]:
            asked.append(host)
            await loop.run_in_executor(None, gate.wait, 5)
            raise OSError(-3, "Temporary failure in name resolution")

        loop.set_exception_handler(lambda _, context: complaints.append(context))
        names = Names(slowly)
        for _ in range(5):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(names.find("slow.invalid"), 0.01)
        assert ["slow.invalid"] == asked
        gate.set()
        with pytest.raises(OSError, match="Temporary"):
            await names.find("slow.invalid")
        await names.aclose()
        assert ["127.0.0.1"] == await Names().find("127.0.0.1")
        assert "127.0.0.1" in await Names().find("localhost")
        assert [] == complaints

    run(look())


async def test_a_lookup_in_flight_ends_with_its_store() -> None:
    """R5: a store that is closed while its name is looked up leaves nothing behind."""
    asked = asyncio.Event()

    async def endlessly(*_: Any, **__: Any) -> list[Any]:
        asked.set()
        await asyncio.Event().wait()
        return []

    names = Names(endlessly)
    finding = asyncio.create_task(names.find("slow.invalid"))
    await asked.wait()
    await names.aclose()
    with pytest.raises(asyncio.CancelledError):
        await finding
    assert {asyncio.current_task()} == asyncio.all_tasks()


async def test_every_address_of_a_name_is_tried() -> None:
    """R5: a store whose name has several addresses is reached by the first that answers; by none is an error."""
    reached: list[str] = []

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(writer.get_extra_info("sockname")[0])
        writer.close()

    async def addresses(*_: Any, **__: Any) -> list[Any]:
        return [(0, 0, 0, "", (f"127.0.0.{last}", 0)) for last in (2, 3, 4)]

    async with await asyncio.start_server(serve, "127.0.0.3", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = NamedConnection(names=Names(addresses), host="store.invalid", port=port, **PLAIN)
        await connection.connect()  # type: ignore[no-untyped-call]
        await connection.disconnect()
    assert ["127.0.0.3"] == reached
    with pytest.raises(RedisError, match=r"store\.invalid"):
        await connection.connect()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_round_trips_are_measured_finely(state: Valkey, run: Callable[[Any], None]) -> None:
    """Metrics: a round trip of less than a millisecond is measured exactly, on the workers' loop too."""

    async def measure() -> None:
        seen: list[float] = []
        one = Store(state.url, timeout=5, observe=lambda _, seconds: seen.append(seconds))
        for _ in range(200):
            await one.command("GET", "k")
        await one.aclose()
        assert 0 < min(seen) < 0.001
        assert len({round(seconds, 7) for seconds in seen}) > 20
        assert not all(re.fullmatch(r"0\.00\d0*", f"{seconds:.9f}") for seconds in seen)

    run(measure())


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no Redis here")
@pytest.mark.parametrize("binary", ["", "redis-server"])
async def test_a_forbidden_command_is_named(binary: str) -> None:
    """R6: a command that an ACL forbids is named, on Valkey and on Redis 7."""
    with valkey(shutil.which(binary) or "" if binary else "") as server:
        server.ask("ACL", "SETUSER", "default", "-set")
        one = Watched(server.url, timeout=2)
        with pytest.raises(StoreUnavailable, match="its user may not run"):
            await one.verify()
        await one.aclose()
