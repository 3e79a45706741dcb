"""What a task has cost in the end: corrected once, in the period of its creation, whatever the store does."""

import asyncio
import time
from typing import Any

import pytest
from msgspec import structs

from gateway.call import Operation, Usage
from gateway.config.clients import Client
from gateway.errors import RateLimited
from gateway.limits import Correction
from gateway.limits.allowance import PollAllowance
from gateway.limits.client_limits import key
from tests.support.gate import Gate, call, change, client, gate, kept, records
from tests.support.valkey import Valkey
from tests.support.waiting import until

CREATES = Operation(name="videoCreate", http=("POST",), bills="task", repeatable=False, task="creates")
DESIGN = client(tokens_per_day=1_000_000, tokens_per_minute=1_000_000, videos_per_day=9)
BEFORE = {"tokens": 108_000, "videos": 1}
DAY = 86_400_000


async def create(one: Gate, of: Client = DESIGN, task: str = "t-1") -> None:
    """Create a task, which is charged an estimate."""
    made = call(of, model="doubao-seedance-2.0", videos=1)
    permit = await one.limits.admit(structs.replace(made, route=structs.replace(made.route, operation=CREATES)))
    await permit.settle(permit.charged(Usage(source="estimated"), "ok"), "ok", {"task": task})


def ended(task: str = "t-1", after: dict[str, int] | None = None, **facts: Any) -> Correction:
    """A task that has ended, at no cost unless that is said."""
    known = {"model": "doubao-seedance-2.0", "method": "videoCreate", "request": "r-1", "before": BEFORE}
    return Correction(task=task, after=after or {}, reported=True, **(known | facts))


def spent(server: Valkey) -> tuple[int, int]:
    """Tokens and videos of the day."""
    rows = kept(server)
    return rows["tokens_per_day"][0], rows["videos_per_day"][0]


async def test_a_task_is_corrected_once(one: Gate, server: Valkey) -> None:
    """A4: the difference goes to the budgets, once, whoever says so and however often; the record has it."""
    await create(one)
    assert (108_000, 1) == spent(server)
    level = kept(server)["tokens_per_minute"][0]
    async with gate(server.url, timeout=5) as other:
        done = await asyncio.gather(
            *(
                worker.limits.correct(DESIGN, ended(after={"tokens": 90_000, "videos": 1}))
                for worker in (one, other) * 5
            )
        )
    assert 1 == sum(done)
    assert (90_000, 1) == spent(server)
    assert level >= kept(server)["tokens_per_minute"][0] > 0.9 * level  # a rate drains, and is given nothing back
    creation, correction = records(server)
    assert ("t-1", creation["at"], "-18000", "-18000", "corrected", "reported") == tuple(
        correction[name] for name in ("task", "at", "tokens", "out", "outcome", "usage")
    )
    assert [("design", "doubao-seedance-2.0", 90_000)] == one.corrections + other.corrections


async def test_a_failure_gives_all_back_and_nothing_below_zero(one: Gate, server: Valkey) -> None:
    """A4: what failed costs nothing; a budget never falls below nothing, whatever is given back."""
    await create(one)
    change(server, tokens_day=100_000)
    assert await one.limits.correct(DESIGN, ended())
    assert (0, 0) == spent(server)
    assert not await one.limits.correct(DESIGN, ended())
    assert not await one.limits.correct(DESIGN, ended("never"))
    assert 2 == len(records(server))


async def test_another_day_is_left_alone(one: Gate, server: Valkey) -> None:
    """A4: a task that was created yesterday is corrected in yesterday's records, not in today's budget."""
    await create(one)
    yesterday = int(time.time() * 1000) - DAY
    server.ask("ZADD", key("design", "tasks"), yesterday, "t-1")
    assert await one.limits.correct(DESIGN, ended())
    assert (108_000, 1) == spent(server)
    assert str(yesterday) == records(server)[-1]["at"]


async def test_a_correction_waits_for_the_store(server: Valkey) -> None:
    """L4: a correction that the store misses is sent again when it is back, and counts once."""
    async with gate(server.url) as one:
        await create(one)
        server.freeze()
        assert not await one.limits.correct(DESIGN, ended(after={"tokens": 5, "videos": 1}))
        server.thaw()
        await until(lambda: one.store.up)
        await until(lambda: _flushed(one, server))
        assert (5, 1) == spent(server)
        assert not await one.limits.correct(DESIGN, ended())
        assert 2 == len(records(server))


async def _flushed(one: Gate, server: Valkey) -> bool:
    await one.limits._settlements.flush()
    return spent(server) == (5, 1)


async def test_a_store_that_refuses_half_of_it_changes_nothing(server: Valkey) -> None:
    """L4: where the record cannot be written the task stays open, and its budgets are as they were."""
    async with gate(server.url, timeout=5) as one:
        await create(one)
        usage = key("design", "usage")
        server.ask("RENAME", usage, "aside")
        server.ask("SET", usage, "no stream")
        assert not await one.limits.correct(DESIGN, ended())
        assert (108_000, 1) == spent(server)
        assert server.ask("ZSCORE", key("design", "tasks"), "t-1")
        server.ask("RENAME", "aside", usage)
        assert await one.limits.correct(DESIGN, ended())
        assert (0, 0) == spent(server)


@pytest.mark.parametrize("parts", [1, 4])
async def test_polls_have_an_allowance(server: Valkey, parts: int) -> None:
    """L1: ten polls at once and ten a second, for each client; a worker without a store gives its share."""
    now = 100.0
    async with gate(server.url, timeout=5) as one:
        polls = PollAllowance(one.store, parts, clock=lambda: now)

        async def let_through() -> int:
            found = await asyncio.gather(*(polls.take(DESIGN) for _ in range(30)), return_exceptions=True)
            refused = [error for error in found if isinstance(error, RateLimited)]
            assert {(1, "polls_per_second")} == {(error.retry_after, error.metadata["limit"]) for error in refused}
            return len(found) - len(refused)

        assert 10 <= await let_through() < 30
        await polls.take(client("other"))
        server.kill()
        one.store.up = False
        assert 10 // parts == await let_through()
        now += 1.001
        assert 10 // parts == await let_through()
