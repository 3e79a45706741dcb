"""How many bytes may one client hold, and who is shut out by whom?"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.config.settings import Settings
from gateway.errors.tree import Overloaded
from gateway.memory.budget import MemoryBudget, MemoryLease
from tests.support.gateway import GENERATE, TEXT, Gateway, Upstream, running
from tests.support.valkey import Valkey
from tests.support.waiting import until
from tests.support.wire import answer, saying, wire

LIMIT = 1_650_000
PICTURE = {"contents": [{"parts": [{"text": "x" * 50_000}]}]}


def owned(memory_budget: MemoryBudget, owner: str, count: int) -> MemoryLease:
    """What a client holds."""
    memory = memory_budget.lease()
    memory.owner = owner
    memory.reserve(count)
    return memory


def test_alone_a_client_leaves_an_eleventh() -> None:
    """D15: nearly all is for whoever is alone, and never all."""
    memory_budget = MemoryBudget(1100)
    owned(memory_budget, "a", 1000)
    with pytest.raises(Overloaded):
        owned(memory_budget, "a", 1)
    assert 1000 == memory_budget.held


def test_by_default_there_is_room_for_the_largest_body() -> None:
    """D15: beside a client that holds all it may, another's largest body is taken."""
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    memory_budget = MemoryBudget(defaults["max_buffered_bytes"])
    while memory_budget.has_room("a", 2**20):
        owned(memory_budget, "a", 2**20)
    owned(memory_budget, "b", defaults["max_body_bytes"])


def test_who_comes_later_has_room() -> None:
    """D15: beside one who holds all it may, another is served, and the first gets nothing more until it gives back."""
    memory_budget = MemoryBudget(1100)
    first = owned(memory_budget, "a", 1000)
    second = owned(memory_budget, "b", 90)
    with pytest.raises(Overloaded):
        owned(memory_budget, "a", 1)
    second.resize(0)
    first.release(500)
    owned(memory_budget, "a", 400)


def test_the_busy_end_up_with_equal_shares() -> None:
    """D15: whoever was first, clients that always want more hold the same in the end."""
    memory_budget = MemoryBudget(21_000)
    held: dict[str, list[MemoryLease]] = {"a": [], "b": []}

    def grow(owner: str) -> None:
        with contextlib.suppress(Overloaded):
            held[owner].append(owned(memory_budget, owner, 10))

    for _ in range(4000):
        grow("a")
    for _ in range(4000):  # calls end, and new ones come
        for owner, holds in held.items():
            if holds:
                holds.pop().resize(0)
            grow(owner)
            grow(owner)
    sizes = {owner: len(holds) * 10 for owner, holds in held.items()}
    assert abs(sizes["a"] - sizes["b"]) <= 100, sizes
    assert memory_budget.held >= 19_000


def test_answers_are_always_taken() -> None:
    """D8: what is paid for has room, and counts for whom it is; what nobody owns counts against the free room alone."""
    memory_budget = MemoryBudget(1600)
    memory = owned(memory_budget, "a", 100)
    memory.add(5000)
    with pytest.raises(Overloaded):
        owned(memory_budget, "b", 1)
    memory.resize(0)
    assert (0, 5100) == (memory_budget.held, memory_budget.released)
    assert {} == memory_budget._by_owner


@contextlib.asynccontextmanager
async def small(tmp_path: Path, upstream: Upstream, state: Valkey, evil: str = "") -> AsyncIterator[Gateway]:
    """A gateway with little memory, and two clients."""
    clients = {"evil": evil, "good": ""}
    async with running(
        tmp_path, upstream.url, redis_url=state.url, clients=clients, max_buffered_bytes=LIMIT, max_body_bytes=LIMIT
    ) as gateway:
        yield gateway
        await gateway.at_rest()


async def begun(gateway: Gateway, declared: bytes, sent: bytes) -> asyncio.StreamWriter:
    """A call whose body does not come to its end."""
    _, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
    writer.write(
        b"POST %b HTTP/1.1\r\nhost: x\r\nx-goog-api-key: %b\r\n%b\r\n\r\n%b"
        % (GENERATE.encode(), gateway.keys["evil"].encode(), declared, sent)
    )
    await writer.drain()
    return writer


@pytest.mark.parametrize(
    ("declared", "sent"),
    [
        (b"content-length: 1500000", b""),
        (b"content-length: 1500000", b"{"),
        (b"content-length: 1500000\r\nexpect: 100-continue", b""),
        (b"content-length: 1500000", b"x" * 90_000),
        (b"transfer-encoding: chunked", b"16378\r\n" + b"x" * 0x16378),
        (b"transfer-encoding: chunked", b""),
    ],
    ids=["heads", "a byte", "expecting", "pieces", "chunks", "no chunk"],
)
async def test_bodies_that_never_come_shut_nobody_out(
    tmp_path: Path, upstream: Upstream, state: Valkey, declared: bytes, sent: bytes
) -> None:
    """D8, D15: a client that announces or sends what it never ends leaves room for the others, small calls and large."""
    async with small(tmp_path, upstream, state) as gateway:
        writers = [await begun(gateway, declared, sent) for _ in range(40)]
        await until(lambda: gateway.metric("gateway_in_flight_requests") > 10)
        for body in (TEXT, PICTURE):
            answered = await gateway.http.post(GENERATE, json=body, headers={"x-goog-api-key": gateway.keys["good"]})
            assert 200 == answered.status_code, answered.text
        for writer in writers:
            writer.transport.abort()


async def test_a_body_that_comes_is_a_call_at_once(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """D2, D15: calls whose bodies are still coming count towards `concurrent`, and are free again when they are gone."""
    async with small(tmp_path, upstream, state, evil="concurrent = 2") as gateway:
        writers = [await begun(gateway, b"content-length: 100", b"{") for _ in range(2)]
        await until(lambda: gateway.metric("gateway_in_flight_requests") == 2)
        refused = await gateway.http.post(GENERATE, json=TEXT)
        assert (429, "concurrent") == (
            refused.status_code, refused.json()["error"]["details"][0]["metadata"]["limit"],
        )  # fmt: skip
        for writer in writers:
            writer.transport.abort()
        await gateway.at_rest()
        assert 200 == (await gateway.http.post(GENERATE, json=TEXT)).status_code


async def test_a_body_without_room_is_refused_by_its_head(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """D7, D8: what is declared and can have no room now is refused before it is sent, and holds nothing."""
    async with small(tmp_path, upstream, state) as gateway:
        first = await begun(gateway, b"content-length: 1500000", b"x" * 1_400_000)
        await until(lambda: gateway.app.parts.memory_budget.held == 1_400_000)
        reader, second = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        second.write(
            f"POST {GENERATE} HTTP/1.1\r\nhost: x\r\nx-goog-api-key: {gateway.keys['evil']}\r\n"
            "expect: 100-continue\r\ncontent-length: 200000\r\n\r\n".encode()
        )
        assert b"HTTP/1.1 503 Service Unavailable\r\n" == await reader.readline()
        assert 1_400_000 == gateway.app.parts.memory_budget.held
        for writer in (first, second):
            writer.transport.abort()


async def test_a_cached_answer_leaves_its_callers_request_counted(tmp_path: Path, state: Valkey) -> None:
    """D8: what a flight holds is counted once, so the slices that leave give back nothing of the request's own bytes."""
    body = json.dumps({"contents": [{"parts": [{"text": "x" * 600_000}]}]}).encode()
    picture = {"inlineData": {"mimeType": "image/png", "data": "A" * 15_000_000}}
    usage = {"totalTokenCount": 9}
    said = json.dumps(
        {"candidates": [{"content": {"parts": [picture]}, "finishReason": "STOP"}], "usageMetadata": usage}
    )
    async with wire(saying(answer(said.encode()), close=False)) as upstream:
        terms = {"design": 'cache = "private"'}
        async with running(tmp_path, upstream.url, redis_url=state.url, clients=terms) as gateway:
            budget, host = gateway.app.parts.memory_budget, f"x-goog-api-key: {gateway.key}\r\nhost: x"
            reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]), limit=1024)
            writer.write(f"POST {GENERATE} HTTP/1.1\r\n{host}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
            await reader.readuntil(b"\r\n\r\n")
            await until(lambda: budget.held == len(body) + len(said))  # the caller reads no further
            writer.transport.abort()
            await gateway.at_rest()
            assert 0 == budget.held
