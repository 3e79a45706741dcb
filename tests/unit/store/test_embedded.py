"""Does the embedded store keep its promises, with real servers that are really killed?"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from gateway.background import Background
from gateway.store import Store
from gateway.store.embedded import Embedded, FolderInUse, StoreError, borrow
from tests.support.processes import is_running
from tests.support.waiting import wait_until

KILLED_PARENT = """
import asyncio, os, signal, sys
from pathlib import Path
from gateway.store.embedded import Embedded

async def main():
    async with Embedded(Path(sys.argv[1])):
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""

SHORT_NAMES = (
    b"feature%2Fx", b"a#b", b"what?", b"%", b"a%zz", b"two words ", b"a&b=c;d@e:f", b"[x]", b"back\\slash", b"q\"uo'te",
    "\u00fcn\u00ef \u2615".encode(), b"new\nline",
)  # fmt: skip
ODD_NAMES = (
    *(("data", name) for name in (*SHORT_NAMES, b"\xff\xfe", b"%41" * 40, b"d" * 200)),
    *(("temporary", name) for name in SHORT_NAMES),
)


@pytest.fixture
def short_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for temporary files, since pytest's own is too deep for sockets itself."""
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr("tempfile.tempdir", folder)
        yield Path(folder)


@contextlib.asynccontextmanager
async def asking(url: str) -> AsyncIterator[Any]:
    """Connect to a server."""
    client = redis.asyncio.Redis.from_url(url, decode_responses=True)
    try:
        yield client
    finally:
        await client.aclose()


async def process_of(url: str) -> int:
    """Ask the server for its process id."""
    async with asking(url) as client:
        return int((await client.info("server"))["process_id"])


def mode_of(path: Path) -> int:
    """Tell who may do what with a file."""
    return path.lstat().st_mode & 0o777


def leave_orphans(folder: Path) -> None:
    """Start both servers and kill their parent."""
    process = subprocess.run([sys.executable, "-c", KILLED_PARENT, folder], check=False)
    assert -signal.SIGKILL == process.returncode


async def test_state_survives_and_the_cache_need_not(tmp_path: Path) -> None:
    """What is in the state store is there after a stop; the cache keeps nothing on disk."""
    async with Embedded(tmp_path) as stores, asking(stores.state_url) as state, asking(stores.cache_url) as cache:
        await state.set("limit", "7")
        await cache.set("answer", "kept for now")
    async with Embedded(tmp_path) as stores, asking(stores.state_url) as state, asking(stores.cache_url) as cache:
        assert "7" == await state.get("limit")
        assert None is await cache.get("answer")


async def test_each_server_has_the_policy_of_its_role(tmp_path: Path) -> None:
    """R6: limits are never evicted for lack of room, answers are; both are bounded."""
    async with Embedded(tmp_path) as stores:
        for url, policy, log, limit in (
            (stores.state_url, "noeviction", "yes", 1 << 30),
            (stores.cache_url, "allkeys-lru", "no", 256 << 20),
        ):
            async with asking(url) as client:
                assert policy == (await client.config_get("maxmemory-policy"))["maxmemory-policy"]
                assert log == (await client.config_get("appendonly"))["appendonly"]
                assert limit == int((await client.config_get("maxmemory"))["maxmemory"])


async def test_nobody_else_on_the_machine_can_connect(tmp_path: Path) -> None:
    """R8: no port is open, and only the gateway's own user can reach the sockets."""
    async with Embedded(tmp_path) as stores, asking(stores.state_url) as state:
        socket = Path(stores.state_url.removeprefix("unix://"))
        assert 0o700 == mode_of(socket)
        assert 0o700 == mode_of(socket.parent)
        assert "0" == (await state.config_get("port"))["port"]


@pytest.mark.parametrize("name", ["state", "cache"])
async def test_a_killed_server_is_back_within_a_second(tmp_path: Path, name: str) -> None:
    """R3: a killed server is started again within a second, the state store with its data."""
    reports: asyncio.Queue[tuple[str, object]] = asyncio.Queue()
    async with Embedded(tmp_path) as stores, Background() as background:
        stores.watch(background, lambda event, **fields: reports.put_nowait((event, fields["store"])))
        async with asking(stores.state_url) as state:
            await state.set("limit", "7")
        url = {"state": stores.state_url, "cache": stores.cache_url}[name]
        os.kill(await process_of(url), signal.SIGKILL)
        async with asyncio.timeout(1):
            assert ("store_restarted", name) == await reports.get()
        async with asking(stores.state_url) as state:
            assert "7" == await state.get("limit")


async def test_a_log_cut_in_mid_write_is_loaded(tmp_path: Path) -> None:
    """R3: a crash that cut the last write of the log short costs that write and no start."""
    async with Embedded(tmp_path) as stores, asking(stores.state_url) as state:
        await state.set("first", "1")
        await state.set("last", "2")
    log = next((tmp_path / "state" / "appendonlydir").glob("*.incr.aof"))
    os.truncate(log, log.stat().st_size - 5)
    async with Embedded(tmp_path) as stores, asking(stores.state_url) as state:
        assert ["first"] == await state.keys()


async def test_the_error_of_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """X4: data that cannot be read is one clear error, and the servers that did start are stopped."""
    async with Embedded(tmp_path) as stores, asking(stores.state_url) as state:
        await state.set("limit", "7")
    next((tmp_path / "state" / "appendonlydir").glob("*.manifest")).write_text("nonsense\n")
    with pytest.raises(StoreError, match=r"state server did not start: .*AOF"):
        async with Embedded(tmp_path):
            pass
    next((tmp_path / "state" / "appendonlydir").glob("*.manifest")).unlink()
    async with Embedded(tmp_path):
        pass


async def test_a_folder_that_cannot_be_used_is_a_clear_error(tmp_path: Path) -> None:
    """X4: a data folder that cannot be made is a StoreError, not a traceback."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot use .*file/data"):
        async with Embedded(tmp_path / "file" / "data"):
            pass


async def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    """A second gateway on a data folder is refused with the process id of the first, which is not disturbed."""
    async with Embedded(tmp_path) as stores:
        with pytest.raises(FolderInUse, match=f"in use by process {os.getpid()}"):
            async with Embedded(tmp_path):
                pass
        assert await process_of(stores.state_url)


async def test_servers_of_a_killed_parent_are_taken_over(tmp_path: Path) -> None:
    """X2: after kill -9 of the parent the same server process goes on serving under the next one, which can end it."""
    leave_orphans(tmp_path)
    pid = await process_of(Embedded(tmp_path).state_url)
    async with Embedded(tmp_path) as stores:
        assert pid == await process_of(stores.state_url)
    assert not is_running(pid)


async def test_a_server_taken_over_is_watched_like_our_own(tmp_path: Path) -> None:
    """R3: a server that is not our child and dies is restarted too."""
    leave_orphans(tmp_path)
    restarted = asyncio.Event()
    async with Embedded(tmp_path) as stores, Background() as background:
        stores.watch(background, lambda *_, **__: restarted.set())
        os.kill(await process_of(stores.state_url), signal.SIGKILL)
        async with asyncio.timeout(1):
            await restarted.wait()
        assert await process_of(stores.state_url)


async def test_ctrl_c_does_not_reach_the_servers(tmp_path: Path) -> None:
    """X1: the servers are in a session of their own, so that the terminal's signals pass them by."""
    async with Embedded(tmp_path) as stores:
        assert os.getsid(0) != os.getsid(await process_of(stores.state_url))


async def test_a_server_that_hangs_is_killed_at_the_end(tmp_path: Path) -> None:
    """X1: a frozen server of ours does not keep the gateway from ending."""
    async with Embedded(tmp_path, stop_seconds=0.1) as stores:
        pid = await process_of(stores.state_url)
        os.kill(pid, signal.SIGSTOP)
    assert not is_running(pid)


async def test_a_long_path_gets_its_sockets_elsewhere(tmp_path: Path, short_path: Path) -> None:
    """A data folder too deep for a socket's name works, by a private folder made from its name."""
    deep = tmp_path / ("d" * 100)
    async with Embedded(deep) as stores:
        socket = Path(stores.state_url.removeprefix("unix://"))
        assert short_path == socket.parent.parent
        assert 0o700 == mode_of(socket.parent)
        assert stores.state_url == Embedded(deep).state_url


@pytest.mark.parametrize(("of", "name"), ODD_NAMES, ids=repr)
async def test_a_path_may_hold_any_character(
    tmp_path: Path, short_path: Path, monkeypatch: pytest.MonkeyPatch, of: str, name: bytes
) -> None:
    """X10: the folder's name is not read as a URL, neither the data folder's nor that of temporary files."""
    odd = (short_path if len(name) < 50 else tmp_path) / os.fsdecode(name)
    if of == "temporary":
        odd.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(odd))
        odd = tmp_path / ("d" * 200)
    for _ in range(2):  # the second time it is loaded from there
        async with Embedded(odd) as stores:
            for url in (stores.state_url, stores.cache_url):
                store = Store(url, timeout=5)
                await store.command("SET", "key", "value")
                await store.aclose()
                async with asking(url) as client:
                    assert ["key"] == await client.keys()
    assert (odd / "state" / "appendonlydir").is_dir()


@pytest.mark.parametrize("trap", ["open to all", "a link"])
async def test_a_folder_prepared_by_somebody_else_is_refused(tmp_path: Path, short_path: Path, trap: str) -> None:
    """R8: where others may write, a folder that was laid out for us is not used."""
    deep = tmp_path / ("d" * 100)
    sockets = Path(Embedded(deep).state_url.removeprefix("unix://")).parent
    assert short_path == sockets.parent
    if trap == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        sockets.symlink_to(tmp_path / "elsewhere")
    else:
        sockets.mkdir()
        sockets.chmod(0o777)
    with pytest.raises(StoreError, match="not a private folder"):
        async with Embedded(deep):
            pass


async def test_a_command_borrows_the_running_servers(tmp_path: Path) -> None:
    """Commands talk to the store of the gateway that runs, and leave it running."""
    async with Embedded(tmp_path) as stores:
        async with borrow(tmp_path) as borrowed:
            assert await process_of(stores.state_url) == await process_of(borrowed.state_url)
        assert await process_of(stores.state_url)


async def test_a_command_starts_the_servers_for_its_duration(tmp_path: Path) -> None:
    """Where no gateway runs, a command starts the store, holds the folder, and stops it again."""
    async with borrow(tmp_path) as borrowed:
        pid = await process_of(borrowed.state_url)
        with pytest.raises(FolderInUse):
            async with Embedded(tmp_path):
                pass
    wait_until(lambda: not is_running(pid), 1)


async def test_a_command_that_cannot_use_the_folder_says_so(tmp_path: Path) -> None:
    """X4: a lock that is no longer a file of ours is one clear error for a command, and the gateway goes on."""
    async with Embedded(tmp_path) as stores:
        (tmp_path / "users").unlink()
        (tmp_path / "users").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StoreError, match="cannot use"):
            async with borrow(tmp_path):
                pass
        assert await process_of(stores.state_url)


async def test_no_place_for_sockets_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """X4: where every path is too long for a socket it is said which setting helps."""
    monkeypatch.setattr("tempfile.tempdir", f"{tmp_path}/{'t' * 100}")
    with pytest.raises(StoreError, match=r"too long for a socket, or no text; set TMPDIR to a shorter path"):
        async with Embedded(tmp_path / ("d" * 100)):
            pass


async def test_a_server_that_does_not_come_back_is_tried_again(tmp_path: Path) -> None:
    """R3: a dead server whose data cannot be read is reported, and is back when they can."""
    reports: asyncio.Queue[tuple[str, object]] = asyncio.Queue()
    async with Embedded(tmp_path) as stores, Background() as background:
        manifest = next((tmp_path / "state" / "appendonlydir").glob("*.manifest"))
        whole = manifest.read_text()
        manifest.write_text("nonsense\n")
        os.kill(await process_of(stores.state_url), signal.SIGKILL)
        stores.watch(background, lambda event, **fields: reports.put_nowait((event, fields["store"])))
        async with asyncio.timeout(20):
            assert ("store_failed", "state") == await reports.get()
            manifest.write_text(whole)
            while (report := await reports.get()) == ("store_failed", "state"):
                pass
        assert ("store_restarted", "state") == report
