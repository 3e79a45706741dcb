"""What was used, and by whom?  A report of the usage records that every admitted call leaves in the state store.

A record counts on the day on which its call was admitted, UTC.  Records are kept for 90 days.
"""

import asyncio
import contextlib
import csv
import datetime as dt
import io
import json
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import astuple, dataclass, field, fields

from gateway.commands import CommandError, WrongUseError
from gateway.config import Clients, Settings
from gateway.limits import CLIENTS, key
from gateway.store import Store, StoreError, StoreUnavailable, borrow

UNITS = {"m": 60, "h": 3600, "d": 86400}
PAGE = 1000  # records read at once
TIMEOUT_SECONDS = 10

Record = Mapping[str, str]


@dataclass(slots=True)
class Sum:
    """The usage of some calls."""

    calls: int = 0
    cache_hits: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    tokens: int = 0  # as charged
    images: int = 0
    videos: int = 0
    estimated: int = 0  # calls whose usage is estimated
    lost: int = 0  # calls that ended with their worker
    served: Counter[str] = field(default_factory=Counter)  # calls by the model that answered; JSON's rows alone have it

    def add(self, record: Record) -> None:
        corrects = record["outcome"] == "corrected"  # what the creation of a task was charged: see correct.lua
        self.calls += not corrects
        self.cache_hits += record["outcome"] == "cache_hit"
        self.tokens_in += int(record["in"])
        self.tokens_out += int(record["out"])
        self.tokens += int(record["tokens"])
        self.images += int(record["images"])
        self.videos += int(record.get("videos", 0))
        if corrects:
            self.estimated -= record["usage"] == "reported"
        else:
            self.estimated += record["usage"] == "estimated"
        self.lost += record["outcome"] == "lost"
        if served := record.get("served"):
            self.served[served] += 1


def run(settings: Settings, since: str, by: str, form: str) -> int:
    """Print what was used `since` so long ago, by `client`, `model` or `day`.  Raises `CommandError`."""
    seconds = _seconds(since)
    try:
        names = Clients.parse(settings.clients_file.read_bytes()).by_name
    except (OSError, ValueError) as error:
        raise CommandError(f"the clients file {settings.clients_file} cannot be read: {error}") from None
    try:
        sums = asyncio.run(_sums(settings, names, max(0, time.time() - seconds), by))
    except (StoreUnavailable, StoreError) as error:
        raise CommandError(f"the state store cannot be read: {error}; is GATEWAY_REDIS_URL right?") from None
    sys.stdout.write(FORMS[form](by, dict(sorted(sums.items()))))
    return 0


def _seconds(since: str) -> int:
    if not (match := re.fullmatch(r"([0-9]{1,6})([mhd])", since)):
        raise WrongUseError(f"--since {since}: say how long ago, like 90m, 24h or 7d")
    return int(match[1]) * UNITS[match[2]]


async def _sums(settings: Settings, names: Iterable[str], since: float, by: str) -> Mapping[str, Sum]:
    sums: dict[str, Sum] = defaultdict(Sum)
    async with _state(settings) as store:
        former = {name.decode() for name in await store.command("ZRANGE", CLIENTS, 0, -1)}
        for name in former.union(names):
            async for record in records(store, name, since):
                sums[{"client": name, "model": record["model"] or "-", "day": _day(record)}[by]].add(record)
    return sums


@contextlib.asynccontextmanager
async def _state(settings: Settings) -> AsyncIterator[Store]:
    async with contextlib.AsyncExitStack() as stack:
        url = settings.redis_url or (await stack.enter_async_context(borrow(settings.data_dir))).state_url
        store = Store(url, timeout=TIMEOUT_SECONDS, on_change=lambda _up, _why: None, observe=lambda _name, _time: None)
        stack.push_async_callback(store.aclose)
        yield store


async def records(store: Store, name: str, since: float) -> AsyncIterator[Record]:
    """A client's records of calls admitted since then, oldest first; they are written when a call ends."""
    start = f"{int(since * 1000)}-0"
    while page := await store.command("XRANGE", key(name, "usage"), start, "+", "COUNT", PAGE):
        for _, pairs in page:
            words = [word.decode() for word in pairs]
            record = dict(zip(words[::2], words[1::2], strict=True))
            if int(record["at"]) >= since * 1000:
                yield record
        start = f"({page[-1][0].decode()}"


def _day(record: Record) -> str:
    return dt.datetime.fromtimestamp(int(record["at"]) / 1000, dt.UTC).date().isoformat()


COLUMNS = tuple(column.name for column in fields(Sum) if column.name != "served")


def _numbers(row: Sum) -> tuple[int, ...]:
    return astuple(row)[: len(COLUMNS)]


def _table(by: str, sums: Mapping[str, Sum]) -> str:
    rows = [(by, *COLUMNS), *((name, *(f"{count:,}" for count in _numbers(each))) for name, each in sums.items())]
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    cells = ([row[0].ljust(first), *map(str.rjust, row[1:], others)] for row in rows)
    return "".join("  ".join(row) + "\n" for row in cells)


def _csv(by: str, sums: Mapping[str, Sum]) -> str:
    text = io.StringIO()
    rows = ((name, *_numbers(each)) for name, each in sums.items())
    csv.writer(text, lineterminator="\n").writerows([(by, *COLUMNS), *rows])
    return text.getvalue()


def _json(by: str, sums: Mapping[str, Sum]) -> str:
    rows = [
        {by: name, **dict(zip(COLUMNS, _numbers(each), strict=True))}
        | ({"served": each.served} if by == "model" else {})
        for name, each in sums.items()
    ]
    return json.dumps(rows, indent=2) + "\n"


FORMS: Mapping[str, Callable[[str, Mapping[str, Sum]], str]] = {"table": _table, "csv": _csv, "json": _json}
