"""Two workers, of which one is killed while it creates a task, at each point at which that could matter."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.support.served import Served, memory
from tests.support.valkey import Valkey
from tests.support.videos import ASKED, VIDEOS, Videos
from tests.support.waiting import until
from tests.support.wire import wire


def kill_whoever_called(writer: asyncio.StreamWriter, workers: list[int]) -> None:
    """Kill the worker at the other end of a connection."""
    port = writer.get_extra_info("peername")[1]
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if int(row[1].partition(":")[2], 16) == port}
    for pid in workers:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]") in inodes:
                    os.kill(pid, signal.SIGKILL)
                    return
    raise AssertionError("no worker holds that connection")


@contextlib.asynccontextmanager
async def served(folder: Path, state: Valkey, workers: int = 2) -> AsyncIterator[tuple[Served, Videos, dict[str, str]]]:
    """A gateway with two clients, whose keys are given, in front of an upstream that makes videos."""
    videos = Videos()
    async with wire(videos) as upstream:
        one = await asyncio.to_thread(Served, folder, upstream=upstream.url, redis_url=state.url, workers=f"{workers}")
        try:
            other = await asyncio.to_thread(one.run, "clients", "add", "facts")
            yield one, videos, {"design": one.key, "facts": other.strip()}
        finally:
            await asyncio.to_thread(one.__exit__, None, None, None)


async def status(one: Served, task: str, key: str) -> int:
    """What a client is told of a task, once any worker answers."""

    async def ask() -> int:
        with contextlib.suppress(httpx.TransportError):
            async with httpx.AsyncClient(base_url=one.url, trust_env=False, timeout=10) as http:
                answer = await http.get(f"{VIDEOS}/{task}", headers={"authorization": f"Bearer {key}"})
                return 0 if answer.status_code == 401 else answer.status_code  # a new client is known within a second
        return 0

    return int(await until(ask, 20))


async def create(one: Served, key: str) -> httpx.Response | None:
    """Create a task; nothing where the connection breaks."""
    with contextlib.suppress(httpx.TransportError):
        async with httpx.AsyncClient(base_url=one.url, trust_env=False, timeout=20) as http:
            return await http.post(VIDEOS, json=ASKED, headers={"authorization": f"Bearer {key}"})
    return None


@pytest.mark.parametrize("point", ["before the answer", "once it is recorded", "behind the answer"])
async def test_a_killed_worker_loses_no_task_and_gives_none_away(tmp_path: Path, state: Valkey, point: str) -> None:
    """K10, L9: the upstream sees the creation once; a task whose owner is recorded is theirs in the other worker; one
    that nobody had heard of is nobody's until an operator gives it to its client.
    """
    async with served(tmp_path, state) as (one, videos, keys):
        workers = one.workers()
        assert 2 == len(workers)
        callers: list[asyncio.StreamWriter] = []

        async def kill(_: bytes, writer: asyncio.StreamWriter) -> bool:
            callers.append(writer)
            if point == "before the answer":
                videos.created.append("task_0000")
                kill_whoever_called(writer, workers)
                return True
            return False

        videos.before = kill
        asking = asyncio.create_task(create(one, keys["design"]))
        recorded = "gw:task:task_0000"
        if point == "once it is recorded":
            await until(lambda: state.ask("EXISTS", recorded), 20, every_ms=0)
            kill_whoever_called(callers[0], workers)
        response = await asking
        if point == "behind the answer":
            assert response is not None
            assert 200 == response.status_code
            kill_whoever_called(callers[0], workers)
        videos.before = None
        assert ["task_0000"] == videos.created
        assert 1 == videos.asked[f"POST {VIDEOS}"]
        expected = 404 if point == "before the answer" else 200
        assert expected == await status(one, "task_0000", keys["design"])
        assert 404 == await status(one, "task_0000", keys["facts"])
        await asyncio.to_thread(one.run, "tasks", "adopt", "task_0000", "--client", "design")
        assert 200 == await status(one, "task_0000", keys["design"])
        assert 404 == await status(one, "task_0000", keys["facts"])
        assert 1 == videos.asked[f"POST {VIDEOS}"]


RUNS = int(os.environ.get("TEST_DOWNLOADS_MIB", "24"))  # of each of eight files


async def test_downloads_take_little_memory(tmp_path: Path, state: Valkey) -> None:
    """D3: eight downloads at once, read slowly, add less than 100 MB to a worker, however large the files are."""
    async with served(tmp_path, state, workers=1) as (one, videos, keys):
        videos.file = bytes(RUNS * 2**20)
        response = await create(one, keys["design"])
        assert response is not None
        path = f"{VIDEOS}/{response.json()['id']}/content"
        (worker,) = one.workers()
        before = memory(worker, "VmRSS")
        lengths = await asyncio.gather(*(slowly(one.url, path, keys["design"]) for _ in range(8)))
        assert [len(videos.file)] * 8 == lengths
        assert memory(worker, "VmHWM") - before < 100 * 10**6


async def slowly(url: str, path: str, key: str) -> int:
    """Read a file after all of what may be held of it is held; how long it is."""
    received, waited = 0, False
    async with (
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as http,
        http.stream("GET", path, headers={"authorization": f"Bearer {key}"}) as response,
    ):
        async for chunk in response.aiter_raw():
            received += len(chunk)
            if not waited:
                waited = True
                await asyncio.sleep(1)  # slow on purpose: the gateway reads ahead meanwhile
    return received
