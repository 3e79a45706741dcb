"""Does anybody ever get what is not theirs, or not whole, through whole gateways, whatever callers and the store do?

Every answer of the sandbox carries a nonce, and the sandbox's log says of each nonce which call it answered, and with
which bytes.  Callers write who they are into the request id, which crosses to the upstream.
"""

import asyncio
import hashlib
import os
import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pyqwest
import pytest
from redis import Redis

from tests.support.gateway import GENERATE, STREAM, Gateway, Upstream, running
from tests.support.valkey import Valkey, valkey

ANSWERS = int(os.environ.get("TEST_CACHE_ANSWERS", "1200"))  # the full count is 100000
CLIENTS = {f"client-{number}": "shared" if number >= 12 else "private" for number in range(20)}
SHARING = {name for name, cache in CLIENTS.items() if cache == "shared"}
CALLERS = 48
POLLED = 4000  # answers between two looks into the sandbox's log, which keeps 20000 calls
SAYINGS = ("one", "two", "slow sandbox-fault: slow=0.05 ", "gap sandbox-gap: 0.004 ", "large sandbox-size: 150000 ")
BODIES = [b'{"contents":[{"parts":[{"text":"%b"}]}]}' % text.encode() for text in SAYINGS]
PATHS = (GENERATE, STREAM, STREAM.removesuffix("?alt=sse"))
WISHES = (*[""] * 12, "no-cache", "no-store", "max-age=0", "max-age=1", "only-if-cached")
NONCE = re.compile(rb'"responseId": ?"([0-9a-f]{24})"')


class Got(NamedTuple):
    """An answer, and to whom it was given."""

    client: str
    path: str
    asked: str  # SHA-256 of the body
    answer: str  # SHA-256
    nonces: frozenset[bytes]

    def fault(self, said: dict[str, Any]) -> str:
        """What is wrong with it, given what the upstream said under its nonce; "" for nothing."""
        if (said["end"], said["answer_sha256"]) != ("complete", self.answer):
            return "altered"
        if (said["path"] + f"?{said['query']}" * bool(said["query"]), said["body_sha256"]) != (self.path, self.asked):
            return "another question's"
        asker = said["request_id"].partition(".")[0]
        return "" if asker == self.client or {asker, self.client} <= SHARING else "another client's"


class Chaos:
    """Callers who hang up, and a store that freezes and whose values change places."""

    def __init__(self, gateways: list[Gateway], upstream: Upstream, store: Valkey) -> None:
        self.counted, self.wrong = Counter[str](), Counter[str]()
        self.answers = 0
        self._gateways, self._upstream, self._store, self._random = gateways, upstream, store, Random(ANSWERS)
        self._unjudged: list[Got] = []

    async def run(self) -> None:
        storm = asyncio.create_task(self._storm())
        try:
            async with pyqwest.HTTPTransport(pool_max_idle_per_host=CALLERS) as transport:
                client = pyqwest.Client(transport)
                await asyncio.gather(*(self._caller(client, number) for number in range(CALLERS)))
        finally:
            storm.cancel()
            await asyncio.gather(storm, return_exceptions=True)
            self._store.thaw()
        await self._judge()

    async def _caller(self, client: pyqwest.Client, number: int) -> None:
        turn = 0
        while self.answers < ANSWERS:
            turn += 1
            await self._ask(client, f"{number}.{turn}")
            if len(self._unjudged) >= POLLED:
                await self._judge()

    async def _ask(self, client: pyqwest.Client, call: str) -> None:
        """One call, which may be hung up."""
        random, name = self._random, self._random.choice(list(CLIENTS))
        gateway, path, body = random.choice(self._gateways), random.choice(PATHS), random.choice(BODIES)
        headers = {"x-goog-api-key": gateway.keys[name], "x-request-id": f"{name}.{call}"}
        headers["cache-control"] = random.choice(WISHES)
        patience = random.choice([None, None, None, random.uniform(0, 0.06)])
        try:
            async with asyncio.timeout(patience):
                response = await client.post(gateway.url + path, headers, body)
        except TimeoutError:
            self.counted["hung up"] += 1
            return
        result = response.headers.get("cache-status", "none").removeprefix("tokenhot-gateway; ").partition("; ttl")[0]
        self.counted[f"{response.status} {result}"] += 1
        if response.status == 200:
            self.answers += 1
            nonces = frozenset(NONCE.findall(response.content))
            self._unjudged.append(Got(name, path, sha256(body), sha256(response.content), nonces))

    async def _judge(self) -> None:
        """MemoryLease what was given against what the upstream said."""
        unjudged, self._unjudged = self._unjudged, []
        said = {record["nonce"].encode(): record for record in await self._upstream.log()}
        for got in unjudged:
            (nonce,) = got.nonces if len(got.nonces) == 1 else [b""]
            if fault := got.fault(said[nonce]) if nonce in said else "nobody's":
                self.wrong[fault] += 1

    async def _storm(self) -> None:
        """Freeze the store for moments short and long, and spoil what it holds."""
        with Redis.from_url(self._store.url) as raw:
            while True:
                await asyncio.sleep(0.02)  # the pace of the storm, beside which calls are to go on
                match self._random.randrange(40):
                    case 0:
                        self.counted["freezes"] += 1
                        await self._store.freeze_for(self._random.choice([0.02, 0.1, 0.4, 1.2]))
                    case 1:
                        raw.delete(*(raw.keys("gw:*") or ["none"]))
                    case _:
                        self._spoil(raw, raw.keys("gw:cache:*"))

    def _spoil(self, raw: Any, names: list[bytes]) -> None:
        """Two values change places, and one of them may be cut, or have a bit flipped."""
        if len(names) < 2:
            return
        first, second = self._random.sample(names, 2)
        ours, theirs = raw.mget(first, second)
        at = self._random.randrange(len(ours))
        flipped = ours[:at] + bytes([ours[at] ^ 1]) + ours[at + 1 :]
        raw.mset({first: theirs, second: self._random.choice([ours, ours, ours[:at], flipped])})
        self.counted["swaps"] += 1


def sha256(data: bytes) -> str:
    """In hex."""
    return hashlib.sha256(data).hexdigest()


@pytest.mark.timeout(1800)
async def test_every_answer_is_the_askers_and_whole(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """C1 A9 A10 R7: 20 clients over two gateways, the same prompts, hang-ups, freezes, swapped and flipped values."""
    terms = {name: f'cache = "{cache}"\ncache_ttl_seconds = 5' for name, cache in CLIENTS.items()}
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    with valkey() as store:
        settings: dict[str, Any] = {"clients": terms, "redis_url": state.url, "cache_redis_url": store.url}
        async with (
            running(folders[0], upstream.url, **settings) as one,
            running(folders[1], upstream.url, **settings) as other,
        ):
            chaos = Chaos([one, other], upstream, store)
            await chaos.run()
            await one.at_rest()
            await other.at_rest()
    print(f"{chaos.answers} answers, {chaos.wrong.total()} wrong: {dict(sorted(chaos.counted.items()))}")  # noqa: T201
    assert Counter() == chaos.wrong
    told = {
        "200 hit",
        "200 fwd=miss; collapsed",
        "200 fwd=miss",
        "200 fwd=request",
        "200 fwd=bypass",
        "hung up",
        "swaps",
    }
    assert told <= set(chaos.counted)
    assert {"504 fwd=miss"} >= {way for way in chaos.counted if way[0] in "45"}
