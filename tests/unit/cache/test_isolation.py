"""Does anybody ever get what is not theirs, or not whole, whatever happens to callers, store and values?"""

import asyncio
import hashlib
import os
from collections import Counter
from random import Random
from typing import Any

from redis import Redis

from gateway.cache.answer import decode
from gateway.call import Call
from tests.support.asking import SSE, Seen, Worker, call, client, leaving, stream
from tests.support.valkey import Valkey

ANSWERS = int(os.environ.get("TEST_CACHE_ANSWERS", "4000"))  # the full count is 100000
CLIENTS = [client(f"client-{number}", cache="shared" if number >= 16 else "private") for number in range(20)]
PROMPTS = [f'{{"contents": "{number}"}}'.encode() for number in range(4)]


def answer(one: Call, nonce: int) -> list[bytes]:
    """In three pieces: who asked, what, how, a nonce, and a checksum of all that; some over 64 KiB, some small."""
    text = f"{one.client.name}|{one.upstream.body.decode()}|{one.operation.name}|{nonce}|" + "x" * (nonce % 7 * 20_000)
    whole = f"{text}|{hashlib.sha256(text.encode()).hexdigest()}".encode()
    return [whole[:5], whole[5:40], whole[40:]]


def check(one: Call, whole: bytes) -> None:
    """Fails unless it is a whole answer to this call, of this client or of one it shares with."""
    text, _, checksum = whole.rpartition(b"|")
    assert hashlib.sha256(text).hexdigest().encode() == checksum
    name, body, method, *_ = text.split(b"|")
    mine = (
        [each.name for each in CLIENTS if each.cache == "shared"] if one.client.cache == "shared" else [one.client.name]
    )
    assert (True, one.upstream.body.decode(), one.operation.name) == (
        name.decode() in mine,
        body.decode(),
        method.decode(),
    )


class Chaos:
    """Workers, callers who hang up, and a store that freezes and whose values change places."""

    def __init__(self, state: Valkey, workers: list[Worker], seed: int) -> None:
        self.counted = Counter[str]()
        self._state, self._workers, self._random = state, workers, Random(seed)
        self._nonce = 0

    async def ask(self, one: Call, _: Any, flight: Any) -> Any:
        """An upstream that takes its time."""
        self._nonce += 1
        pieces = answer(one, self._nonce)
        await flight.begin(200, SSE if one.stream else "application/json")
        for piece in pieces if one.stream else [b"".join(pieces)]:
            await asyncio.sleep(self._random.choice([0, 0, 0.001, 0.01]))  # slow on purpose: callers leave meanwhile
            await flight.write(piece)
        return Seen(storable=self._random.random() < 0.9)

    async def caller(self) -> None:
        while self.counted.total() < ANSWERS:
            one = self._random.choice([call, stream])(self._random.choice(CLIENTS), body=self._random.choice(PROMPTS))
            patience = self._random.choice([None, None, None, 0, 0.001, 0.005])
            try:
                async with asyncio.timeout(patience):
                    with leaving(await self._random.choice(self._workers).open(one, self.ask)) as found:
                        assert found.flight is not None
                        whole = b"".join([bytes(chunk) async for chunk in found.flight.play()])
            except TimeoutError:
                self.counted["left"] += 1
            else:
                check(one, whole)
                self.counted[found.result] += 1

    async def storm(self) -> None:
        """Freeze the store for moments short and long, and spoil what it holds."""
        with Redis.from_url(self._state.url) as raw:
            while True:
                await asyncio.sleep(0.02)  # the pace of the storm, beside which calls are to go on
                match self._random.randrange(12):
                    case 0:
                        await self._state.freeze_for(self._random.choice([0.01, 0.05, 0.3]))
                    case 1:
                        raw.delete(*(raw.keys("gw:*") or ["none"]))
                    case _:
                        self._spoil(raw)

    def _spoil(self, raw: Any) -> None:
        names = raw.keys("gw:cache:*")
        if len(names) > 1:
            first, second = self._random.sample(names, 2)
            values = raw.mget(first, second)
            spoilt = self._random.choice([values[0], values[0][:-1], values[0] + b"x"])
            raw.mset({first: values[1], second: spoilt})


async def test_nobody_gets_anothers_answer_nor_part_of_one(one: Worker, other: Worker, state: Valkey) -> None:
    """C1, A9, A10, R7: 20 clients, the same prompts, hang-ups, freezes, value swaps: every answer is whole and theirs."""
    chaos = Chaos(state, [one, other], seed=ANSWERS)
    storm = asyncio.create_task(chaos.storm())
    try:
        await asyncio.gather(*(chaos.caller() for _ in range(64)))
    finally:
        storm.cancel()
        await asyncio.gather(storm, return_exceptions=True)
        state.thaw()
    assert {"hit", "miss", "collapsed", "left"} == set(chaos.counted), chaos.counted
    for each in (one, other):
        await each.at_rest()


async def test_all_that_is_stored_is_whole(one: Worker, other: Worker, state: Valkey) -> None:
    """A11, C5: after hang-ups and freezes, every value in the store is a complete answer under its full key."""
    chaos = Chaos(state, [one, other], seed=1)
    chaos.counted["left"] = ANSWERS * 3 // 4
    await asyncio.gather(*(chaos.caller() for _ in range(64)))
    for each in (one, other):
        await each.at_rest()
    with Redis.from_url(state.url) as store:
        raw: Any = store
        names = raw.keys("gw:cache:*")
        assert len(names) > 20
        for name in names:
            kept = decode(name.decode(), raw.get(name))
            assert kept is not None
            text, _, checksum = b"".join(map(bytes, kept.chunks)).rpartition(b"|")
            assert hashlib.sha256(text).hexdigest().encode() == checksum
