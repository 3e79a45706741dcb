"""Whose is a task, while the store answers, while it does not, and when it is back?"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.errors import StateLost, TaskUnknown
from gateway.store import Store
from gateway.tasks import KEPT_SECONDS, Task, Tasks, key_of, packed, unpacked
from tests.support.valkey import Valkey
from tests.support.waiting import until

MINE = Task(client="design", id="t-1", model="sora-2", method="videoCreate", at=5, request="r", tokens=7, videos=1)


class Worker:
    """One worker's tasks, and what it told."""

    def __init__(self, url: str, timeout: float) -> None:
        self.taken = self.dropped = 0
        self.store = Store(url, timeout=timeout)
        self.tasks = Tasks(self.store, taken=self._take, dropped=self._drop)

    def _take(self) -> None:
        self.taken += 1

    def _drop(self) -> None:
        self.dropped += 1


@contextlib.asynccontextmanager
async def worker(server: Valkey, *, store_seconds: float = 5) -> AsyncIterator[Worker]:
    """A worker that flushes as the real one does."""
    one = Worker(server.url, store_seconds)
    flushing = asyncio.create_task(one.tasks.run())
    try:
        yield one
    finally:
        flushing.cancel()
        await asyncio.wait({flushing})
        await one.tasks.aclose()
        await one.store.aclose()


async def test_the_first_owner_stays(state: Valkey) -> None:
    """K10: a task is its first owner's under each of its ids, in every worker, for thirty days."""
    async with worker(state) as one, worker(state) as other:
        await one.tasks.own(MINE, ["t-1", "t-2"])
        await other.tasks.own(Task(client="facts", id="t-1"), ["t-1"])
        assert (0, 1) == (one.taken, other.taken)
        for tasks in (one.tasks, other.tasks):
            for task_id in ("t-1", "t-2"):
                assert MINE == await tasks.find("design", task_id)
                with pytest.raises(TaskUnknown):
                    await tasks.find("facts", task_id)
            for name in ("T-1", "t-3", ""):
                with pytest.raises(TaskUnknown):
                    await tasks.find("design", name)
    assert KEPT_SECONDS - 60 < state.ask("TTL", key_of("t-2")) <= KEPT_SECONDS


async def test_how_a_task_ended_is_kept_no_longer_than_the_task(state: Valkey) -> None:
    """K10: the record says how it ended; one that has expired does not come back."""
    async with worker(state) as one:
        await one.tasks.own(MINE, ["t-1"])
        state.ask("EXPIRE", key_of("t-1"), 100)
        await one.tasks.ended(MINE, "failed")
        assert "failed" == (await one.tasks.find("design", "t-1")).state
        assert state.ask("TTL", key_of("t-1")) <= 100
        await one.tasks.ended(Task(client="design", id="gone"), "succeeded")
        assert not state.ask("EXISTS", key_of("gone"))


async def test_a_record_that_the_store_missed(server: Valkey) -> None:
    """L4: without a store nothing is created; what was created is known here, and is written when the store is back."""
    async with worker(server, store_seconds=0.25) as one:
        await one.tasks.own(MINE, ["t-1"])
        one.tasks.check()
        server.freeze()
        await one.tasks.own(Task(client="design", id="t-2"), ["t-2"])
        with pytest.raises(StateLost):
            one.tasks.check()
        assert "t-2" == (await one.tasks.find("design", "t-2")).id
        assert MINE == await one.tasks.find("design", "t-1")  # seen before
        for client, task_id in (("facts", "t-2"), ("facts", "t-1"), ("facts", "t-3"), ("design", "t-3")):
            with pytest.raises(StateLost):
                await one.tasks.find(client, task_id)
        server.thaw()
        await until(lambda: server.ask("EXISTS", key_of("t-2")))
        async with worker(server) as other:
            assert "t-2" == (await other.tasks.find("design", "t-2")).id


async def test_what_cannot_be_written_is_counted(server: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """L4: a worker that ends while the store is unavailable counts the records that are lost, and takes no end of them."""
    monkeypatch.setattr("gateway.tasks.tasks.MAX_REMEMBERED", 3)
    async with worker(server, store_seconds=0.25) as one:
        server.kill()
        for number in range(5):
            await one.tasks.own(Task(client="design", id=f"{number}"), [f"{number}"])
        assert 2 == one.dropped
    assert 5 == one.dropped


@pytest.mark.parametrize("stored", [b"", b"\xc1", b"\x80", packed(MINE)[:-1], b"text"])
async def test_a_record_that_nobody_can_read_is_nobodys(state: Valkey, stored: bytes) -> None:
    """K10: an unreadable record opens a task to nobody."""
    state.raw("SET", key_of("t-1"), stored)
    async with worker(state) as one:
        for client in ("design", ""):
            with pytest.raises(TaskUnknown):
                await one.tasks.find(client, "t-1")


def test_records_of_other_versions() -> None:
    """K10: members that are not known are passed over, and those that are missing have defaults."""
    import msgspec

    newer: dict[str, Any] = {"client": "design", "id": "t", "more": [1]}
    assert Task(client="design", id="t") == unpacked(msgspec.msgpack.encode(newer))
