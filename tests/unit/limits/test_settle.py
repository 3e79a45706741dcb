"""A call has ended: what was reserved becomes what was used, once."""

import asyncio
import shutil
import time

import pytest

from gateway.call import Usage
from gateway.errors.tree import RateLimited
from gateway.limits.client_limits import key
from tests.support.gate import NOTHING, Gate, change, client, gate, kept, leases, pass_time, records, state, used
from tests.support.valkey import Valkey, valkey
from tests.support.waiting import turns, until


async def test_the_rest_of_a_reservation_is_given_back(one: Gate, server: Valkey) -> None:
    """L3: what was reserved and not used is free again at once, in the bucket and in the day's budget."""
    design = client(tokens_per_minute=6000, tokens_per_day=6000)
    permit = await one.admit(design)

    await permit.settle(used(100), "ok")

    assert 0 <= state(server)["tokens"] <= 100
    assert 100 == state(server)["tokens_day"]
    assert 0 == leases(server)


async def test_what_was_too_small_is_charged_past_the_limit(one: Gate, server: Valkey) -> None:
    """L3: an answer larger than its reservation is charged whole, even above the limit."""
    design = client(tokens_per_minute=6000, tokens_per_day=6000)
    permit = await one.admit(design)

    await permit.settle(used(50_000), "ok")

    assert 49_900 < state(server)["tokens"] <= 50_000
    assert 50_000 == state(server)["tokens_day"]


async def test_nothing_is_given_back_that_has_drained(one: Gate, server: Valkey) -> None:
    """A6: after the time at which a reservation would have drained, the bucket holds other calls' tokens only."""
    design = client(tokens_per_minute=60_000, tokens_per_day=10**6)
    first = await one.admit(design)  # 1024 tokens: drained after 1.024 s
    pass_time(server, 2000)
    await one.admit(design)
    before = state(server)["tokens"]

    await first.settle(used(24), "ok")

    assert before - 100 < state(server)["tokens"] <= before
    assert 1024 + 24 == state(server)["tokens_day"]


async def test_what_is_given_back_early_drains_nothing_later(one: Gate, server: Valkey) -> None:
    """A6, L2: a reservation drains sooner when an earlier one is given back, and then it is gone: no token counts twice."""
    design = client(tokens_per_minute=60_000)
    quick = await one.admit(design, chars=4 * (30_000 - 1024))
    slow = await one.admit(design, chars=4 * (4000 - 1024))  # behind the first, it would drain after 34 s
    await quick.settle(used(0), "ok")
    pass_time(server, 3000)  # now 1000 of it are left
    most = await one.admit(design, chars=4 * (50_000 - 1024))
    before = state(server)["tokens"]

    await slow.settle(used(500), "ok")

    assert before - 1100 < state(server)["tokens"] <= before - 900 + 10
    await most.settle(used(50_000), "ok")
    assert 49_000 < state(server)["tokens"]


async def test_a_changed_limit_keeps_what_was_taken(one: Gate, server: Valkey) -> None:
    """L2, A6: calls that began before the clients file changed end under the new limits, and give nobody a fresh start."""
    old, new = client(), client(requests_per_minute=10, tokens_per_minute=100_000)
    slow = [await one.admit(old) for _ in range(3)]
    for _ in range(10):
        await (await one.admit(new)).settle(used(1000), "ok")
    before = state(server)

    await slow[0].settle(used(1), "ok")
    await slow[1].settle(used(1), "")

    assert isinstance(await one.refusal(new), RateLimited)
    assert state(server)["requests"] > 9
    assert abs(before["tokens"] - state(server)["tokens"]) < 500
    await slow[2].settle(used(2024), "ok")  # what it had not reserved is charged
    assert before["tokens"] + 500 < state(server)["tokens"] <= before["tokens"] + 1000


async def test_without_a_limit_nothing_is_taken(one: Gate, server: Valkey) -> None:
    """A6: a worker that has not read the new limits yet neither clears the buckets nor fills them."""
    limited, unlimited = client(requests_per_minute=10, tokens_per_minute=60_000), client()
    first = await one.admit(limited)
    before = state(server)
    await (await one.admit(unlimited)).settle(used(5000), "ok")
    assert before["requests"] - 0.1 < state(server)["requests"] <= 1
    assert 0 < state(server)["tokens"] <= before["tokens"]

    await first.settle(used(24), "ok")  # while the limit is gone

    assert state(server)["tokens"] <= 24


async def test_settling_twice_changes_nothing(one: Gate, server: Valkey) -> None:
    """A6: the first settlement counts, whoever comes again, in the same worker or from the queue."""
    permit = await one.admit(client(tokens_per_day=6000))
    await permit.settle(used(10), "ok")
    await permit.settle(used(999), "upstream_broke")
    permit.settled = False

    await permit.settle(used(999), "upstream_broke")

    assert 10 == state(server)["tokens_day"]
    assert ["ok"] == [record["outcome"] for record in records(server)]
    assert 1 == one.late_settlements


async def test_the_record_says_what_happened(one: Gate, server: Valkey) -> None:
    """A4: the ledger's tokens are those that the answer reported."""
    permit = await one.admit(client(), chars=40)
    usage = Usage(
        tokens={("input", "text"): 7, ("output", "image"): 1290, ("thoughts", "text"): 3},
        total=1300,
        images_out=1,
        source="reported",
    )

    await permit.settle(usage, "ok")

    (record,) = records(server)
    assert abs(permit.at - int(record.pop("at"))) < 5000
    assert {
        "call": permit.id,
        "request": "asked-by-a-test",
        "model": "gemini-2.5-flash",
        "method": "generateContent",
        "outcome": "ok",
        "usage": "reported",
        "tokens": "1300",
        "in": "7",
        "out": "1293",
        "images": "1",
    } == record


@pytest.mark.parametrize(
    ("usage", "outcome", "source", "tokens"),
    [
        (used(5), "cache_hit", "none", 0),  # L11: a hit costs a request, no tokens, no image
        (NOTHING, "cache_hit", "none", 0),
        (NOTHING, "collapsed", "none", 0),
        (NOTHING, "upstream_error", "none", 0),
        (NOTHING, "upstream_broke", "none", 0),
        (NOTHING, "ok", "estimated", 1034),  # an answer without usage is never silently free
        (Usage(source="estimated"), "client_gone", "estimated", 1034),
        (Usage(source="estimated", total=77), "client_gone", "estimated", 77),
        (used(5), "upstream_error", "reported", 5),
        (used(0), "ok", "reported", 0),
    ],
)
async def test_what_each_end_is_charged(
    one: Gate, server: Valkey, usage: Usage, outcome: str, source: str, tokens: int
) -> None:
    """A4, L11: reported where it was, flagged where it is a guess, nothing where nothing was billed."""
    design = client(requests_per_minute=60, tokens_per_day=10**6, images_per_day=10)
    permit = await one.admit(design, chars=40, image_output=True)

    await permit.settle(usage, outcome)

    (record,) = records(server)
    assert (source, str(tokens)) == (record["usage"], record["tokens"])
    assert tokens == state(server)["tokens_day"]
    assert (1 if tokens == 1034 else 0) == state(server)["images_day"]
    assert 0.9 < state(server)["requests"] <= 1


async def test_videos_are_charged_and_recorded(one: Gate, server: Valkey) -> None:
    """L3, A4: of videos that were reserved those count that were made, or all where nobody says; the record names them."""
    design = client(videos_per_day=10)
    for usage, outcome in ((Usage(videos=1, source="reported"), "ok"), (NOTHING, "ok"), (NOTHING, "upstream_error")):
        await (await one.admit(design, videos=3)).settle(usage, outcome)
    assert 4 == kept(server)["videos_per_day"][0]
    assert ["1", "3", None] == [record.get("videos") for record in records(server)]
    assert {("design", "videos_per_day"): 4} == await one.limits.sweep([design])


async def test_the_edge_of_the_budget_is_overshot_by_errors_at_most(one: Gate, server: Valkey) -> None:
    """L3: parallel calls at the edge overshoot by no more than the error of each, and no reservation is left over."""
    design = client(tokens_per_minute=10_000)  # nine reservations of 1034
    errors, began = [], time.monotonic()
    for actual in (20, 3000, 900):
        tried = await asyncio.gather(*(one.admit(design, chars=40) for _ in range(20)), return_exceptions=True)
        permits = [permit for permit in tried if not isinstance(permit, BaseException)]
        assert all(isinstance(refused, RateLimited) for refused in tried if isinstance(refused, BaseException))
        await asyncio.gather(*(permit.settle(used(actual), "ok") for permit in permits))
        errors.append((len(permits), actual))

    drained = (time.monotonic() - began) * 10_000 / 60 + 1
    spent, under_way = sum(count * actual for count, actual in errors), max(count for count, _ in errors)
    assert spent > 10_000
    assert spent <= 10_000 + drained + under_way * (3000 - 1034)
    assert 0 == leases(server)
    assert spent - drained <= state(server)["tokens"] <= spent


async def test_budgets_are_corrected_on_the_day_of_admission(one: Gate, server: Valkey) -> None:
    """A call that ends after midnight touches yesterday's budget, which is over, not today's."""
    design = client(tokens_per_day=6000)
    permit = await one.admit(design)
    _yesterday(server, permit.id)
    change(server, tokens_day=500)

    await permit.settle(used(3), "ok")

    assert 500 == state(server)["tokens_day"]


async def test_a_cancelled_admission_takes_nothing(one: Gate, server: Valkey) -> None:
    """L5, D6: callers that hang up while they are being admitted leave no lease, no charge and no record."""
    design = client(requests_per_minute=600, tokens_per_day=10**6, concurrent=100)
    tasks = [asyncio.ensure_future(one.admit(design)) for _ in range(100)]
    for turn, task in enumerate(tasks):
        if turn % 7 == 0:
            await turns()
        task.cancel()

    ends = await asyncio.gather(*tasks, return_exceptions=True)
    begun = [end for end in ends if not isinstance(end, BaseException)]
    for permit in begun:
        await permit.settle(used(1), "ok")

    await until(lambda: leases(server) == 0)
    assert len(begun) == len(records(server)) < 100
    assert len(begun) == state(server).get("tokens_day", 0)  # every one may have been cut off in time
    assert state(server).get("requests", 0) <= len(begun) + 1e-6


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no Redis here")
async def test_redis_itself_will_do() -> None:
    """The scripts run on Redis 7 as they do on Valkey."""
    design = client(requests_per_minute=1, tokens_per_day=5000)
    with valkey(shutil.which("redis-server") or "") as server:
        async with gate(server.url, timeout=5) as worker:
            permit = await worker.admit(design)
            assert isinstance(await worker.refusal(design), RateLimited)
            await permit.settle(used(7), "ok")
            assert {("design", "tokens_per_day"): 7} == await worker.limits.sweep([design])
        assert ["ok"] == [record["outcome"] for record in records(server)]


def _yesterday(server: Valkey, call: str) -> None:
    """As if the call had begun a day earlier."""
    script = """local lease = {cmsgpack.unpack(redis.call('HGET', KEYS[1], ARGV[1]))}
        lease[2].tokens_per_day = lease[2].tokens_per_day - 1
        redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(unpack(lease)))"""
    server.ask("EVAL", script, 1, key("design", "limits"), call)
