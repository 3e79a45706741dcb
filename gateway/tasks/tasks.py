"""Which tasks are there, and whose are they?

Records are in the state store, for all workers.  A task is created only while the store can take its record; where the
store is lost between that and the answer, the record waits in this worker's memory, is known here, and is written when
the store is back.  While the store is unavailable nobody can say of a task that it does not exist: whoever asks for one
that is not in memory is told to ask again.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import suppress

from msgspec import structs

from gateway.call import TaskState
from gateway.errors import StateLost, TaskUnknown
from gateway.store import Script, Store, StoreUnavailable
from gateway.tasks.task import KEPT_SECONDS, NOBODYS, Task, key_of, packed, unpacked

OWN = Script.read("gateway.tasks", "own")
MAX_REMEMBERED = 10_000  # of the tasks last seen here, and of records that wait for the store
FLUSH_SECONDS = 0.1
UNKNOWN = "The gateway cannot say right now whose tasks are whose."


class Tasks:
    """The tasks of all clients, as one worker knows them.

    `taken` is called where an upstream gives a client the id of another's task, which stays the other's; `dropped`
    for each record for which there is no room in memory.
    """

    def __init__(self, store: Store, *, taken: Callable[[], None], dropped: Callable[[], None]) -> None:
        self._store, self._taken, self._dropped = store, taken, dropped
        self._unwritten: dict[str, Task] = {}  # by id
        self._remembered = OrderedDict[str, Task]()  # by id, for the time in which the store is unavailable

    def check(self) -> None:
        """Raises `StateLost` while no task may be created, since nobody could write down whose it is."""
        if not self._store.up:
            raise StateLost(UNKNOWN)

    async def own(self, task: Task, ids: Iterable[str]) -> None:
        """Write down whose a task is, under each of its ids.  When this returns it is, or waits for the store."""
        await asyncio.gather(*(self._write(one, task) for one in ids))

    async def find(self, client: str, task_id: str) -> Task:
        """A client's own task.  Raises `TaskUnknown`, for the same work whether it is another's or nobody's.

        Raises `StateLost` where that cannot be said.
        """
        waiting = self._owned(self._unwritten, client, task_id)
        try:
            task = unpacked(await self._store.command("GET", key_of(task_id)))
        except StoreUnavailable:
            task = waiting if waiting.client else self._owned(self._remembered, client, task_id)
            if not task.client:
                raise StateLost(UNKNOWN) from None
            return task
        if task.client != client:
            task = waiting
        if not task.client:
            raise TaskUnknown
        self._remember(task_id, task)
        return task

    async def ended(self, task: Task, state: TaskState) -> None:
        """Write down how it ended, for operators; the time for which it is kept stays as it is."""
        ended = packed(structs.replace(task, state=state))
        with suppress(StoreUnavailable):  # the next poll will show it again
            await self._store.command("SET", key_of(task.id), ended, "XX", "KEEPTTL")

    async def run(self) -> None:
        """Write the records that the store missed, until cancelled."""
        while True:
            await self._flush()
            await asyncio.sleep(FLUSH_SECONDS)

    async def aclose(self) -> None:
        """Write what waits, if the store is available; count what cannot be written."""
        await self._flush()
        for _ in self._unwritten:
            self._dropped()

    async def _flush(self) -> None:
        if self._unwritten and self._store.up:
            await asyncio.gather(*(self._write(task_id, task) for task_id, task in list(self._unwritten.items())))

    async def _write(self, task_id: str, task: Task) -> None:
        if task_id not in self._unwritten and len(self._unwritten) >= MAX_REMEMBERED:
            self._dropped()
            return
        self._unwritten[task_id] = task  # until the store says that it has it, also for whoever is cancelled here
        try:
            known = unpacked(await self._store.script(OWN, [key_of(task_id)], [packed(task), KEPT_SECONDS]))
        except StoreUnavailable:
            return
        self._unwritten.pop(task_id, None)
        if known.client != task.client:
            self._taken()
        self._remember(task_id, known)

    def _owned(self, tasks: "dict[str, Task] | OrderedDict[str, Task]", client: str, task_id: str) -> Task:
        task = tasks.get(task_id, NOBODYS)
        return task if task.client == client else NOBODYS

    def _remember(self, task_id: str, task: Task) -> None:
        self._remembered[task_id] = task
        self._remembered.move_to_end(task_id)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
