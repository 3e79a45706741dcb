"""Which tasks are there, whose are they, and how does a client get one that has no owner?

A task has an owner when it was created through this gateway.  One that was not, or whose creation was cut before
anybody knew its id, is nobody's until an operator gives it to a client; what belongs to a client stays theirs.
"""

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import AsyncIterator, Iterable, Mapping

from gateway.call import TASK_ID
from gateway.commands import CommandError, WrongUseError
from gateway.commands.scan import each, opened, scan
from gateway.config import NAME, Settings, watched_clients
from gateway.limits import key
from gateway.store import Store, StoreError, StoreUnavailable, borrow
from gateway.tasks import KEPT_SECONDS, OWN, PATTERN, Task, key_of, packed, unpacked

UNITS = (("d", 86_400), ("h", 3_600), ("m", 60))
COLUMNS = ("task", "client", "model", "age", "state", "held")


def run(settings: Settings, action: str, client: str | None, task: str, model: str) -> int:
    """`list` the tasks of all clients or of one, `adopt` one for a client.  Raises `CommandError`."""
    if client is not None and not NAME.fullmatch(client):
        raise WrongUseError(f"{client!r} is no client's name; see `tokenhot-gateway clients list`")
    if task and not re.fullmatch(TASK_ID, task):
        raise WrongUseError(f"{task!r} is no task's id: those are up to 191 letters, digits, - and _")
    if action == "adopt" and client not in watched_clients(settings).value.by_name:
        raise CommandError(f"there is no client {client}; see `tokenhot-gateway clients list`")
    try:
        adopted = Task(client=client or "", id=task, model=model, at=_now())
        work = _adopted(settings, adopted) if action == "adopt" else _listed(settings, client)
        sys.stdout.write(asyncio.run(work))
    except (StoreUnavailable, StoreError) as error:
        raise CommandError(f"the state store cannot be used: {error}; is GATEWAY_REDIS_URL right?") from None
    return 0


async def _adopted(settings: Settings, task: Task) -> str:
    async with _url(settings) as url, opened(url) as store:
        known = unpacked(await store.script(OWN, [key_of(task.id)], [packed(task), KEPT_SECONDS]))
    if known.client != task.client:
        raise CommandError(f"{task.id} belongs to {known.client}, and stays theirs")
    return f"{task.id} belongs to {task.client} from now on\n"


async def _listed(settings: Settings, client: str | None) -> str:
    async with _url(settings) as url:
        tasks = {task.id: task async for task in _tasks(url) if client in {None, task.client}}
        async with opened(url) as store:
            held = await _open(store, {task.client for task in tasks.values()})
    oldest_first = sorted(tasks.values(), key=lambda task: task.at)
    rows = [COLUMNS, *(_row(task, held) for task in oldest_first)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join("  ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)


async def _tasks(url: str) -> AsyncIterator[Task]:
    """Every task, once for each of its ids."""
    async for store, keys in scan(url, PATTERN):
        for stored in await each(store, "GET", keys):
            if (task := unpacked(stored)).client:
                yield task


async def _open(store: Store, clients: Iterable[str]) -> Mapping[str, set[str]]:
    """The ids of the tasks that still hold what their creation was charged, by client."""
    names = list(clients)
    found = await asyncio.gather(*(store.command("ZRANGE", key(name, "tasks"), 0, -1) for name in names))
    return {name: {one.decode() for one in ids} for name, ids in zip(names, found, strict=True)}


@contextlib.asynccontextmanager
async def _url(settings: Settings) -> AsyncIterator[str]:
    """The URL of the state store: as given, else that of the embedded one."""
    if settings.redis_url:
        yield settings.redis_url
    else:
        async with borrow(settings.data_dir) as stores:
            yield stores.state_url


def _row(task: Task, held: Mapping[str, set[str]]) -> tuple[str, ...]:
    return task.id, task.client, task.model or "-", _age(task.at), task.state, _held(task, held)


def _now() -> int:
    return int(time.time() * 1000)


def _age(at: int) -> str:
    seconds = max(0, (_now() - at) // 1000)
    return next((f"{seconds // size}{unit}" for unit, size in UNITS if seconds >= size), f"{seconds}s")


def _held(task: Task, open_tasks: Mapping[str, set[str]]) -> str:
    """What its creation was charged, while that may still be corrected."""
    if task.id not in open_tasks.get(task.client, ()):
        return "-"
    return f"{task.tokens:,} tokens, {task.videos} video{'s' * (task.videos != 1)}"
