"""May a call begin?  All limits in one decision, all or nothing, and the headers of the caller."""

import asyncio
import time
from typing import Any

import pytest

from gateway.config.clients import Client
from gateway.errors.tree import BudgetSpent, RateLimited
from gateway.limits.client_limits import key
from tests.support.gate import NOTHING, Gate, Headers, change, client, kept, leases, pass_time, records, state, used
from tests.support.valkey import Valkey


async def test_exactly_the_burst_is_admitted_of_many_at_once(one: Gate) -> None:
    """L1: of 200 calls at once, as many as are allowed begin, no fewer and no more."""
    design = client(requests_per_minute=10)

    ends = await asyncio.gather(*(one.admit(design) for _ in range(200)), return_exceptions=True)

    assert sum(not isinstance(end, BaseException) for end in ends) == 10
    assert sum(isinstance(end, RateLimited) for end in ends) == 190
    assert one.limited_by == [("design", "requests_per_minute")] * 190


@pytest.mark.parametrize(
    ("limits", "error", "limit"),
    [
        ({"requests_per_minute": 1}, RateLimited, "requests_per_minute"),
        ({"tokens_per_minute": 2000}, RateLimited, "tokens_per_minute"),
        ({"tokens_per_day": 2000}, BudgetSpent, "tokens_per_day"),
        ({"images_per_day": 1}, BudgetSpent, "images_per_day"),
        ({"videos_per_day": 3}, BudgetSpent, "videos_per_day"),
        ({"concurrent": 1}, RateLimited, "concurrent"),
    ],
)
async def test_a_refusal_takes_nothing(
    one: Gate, server: Valkey, limits: dict[str, Any], error: type[RateLimited], limit: str
) -> None:
    """L1: whichever limit refuses, no other one is touched."""
    generous = {"requests_per_minute": 1000, "tokens_per_minute": 10**6, "tokens_per_day": 10**7, "images_per_day": 50}
    design = client(**(generous | {"concurrent": 9} | limits))
    await one.admit(design, image_output=True, videos=2)
    before = state(server)

    refused = await one.refusal(design, image_output=True, videos=2)

    after = state(server)
    assert error is type(refused)
    assert {"limit": limit, "client": "design"} == refused.metadata
    assert leases(server) == 1
    assert before["tokens_day"] == after["tokens_day"]
    assert before["images_day"] == after["images_day"]
    assert 2 == kept(server)["videos_per_day"][0]
    assert after["requests"] <= before["requests"]
    assert after["tokens"] <= before["tokens"]


async def test_a_refusal_says_what_and_for_how_long(one: Gate) -> None:
    """L10: the text, the header's seconds and the metadata agree."""
    design = client(tokens_per_minute=100_000)
    for _ in range(97):
        await one.admit(design)

    refused = await one.refusal(design, chars=20_000)

    wait = refused.retry_after
    assert wait in {3, 4}
    assert f"tokens_per_minute: 100000 are allowed. Please retry after {wait} seconds." == refused.message


@pytest.mark.parametrize("limits", [{"requests_per_minute": 7}, {"tokens_per_minute": 5000}, {"tokens_per_day": 5000}])
async def test_a_caller_who_waits_for_retry_after_gets_in(one: Gate, server: Valkey, limits: dict[str, Any]) -> None:
    """L10: one caller that waits for `retry_after` is admitted at its first try, again and again."""
    design = client(**limits)
    for _ in range(20):
        if (wait := await _wait_told(one, design)) > 0:
            pass_time(server, wait * 1000)
            if "tokens_per_day" in limits:  # until midnight: the store's day is over
                change(server, day=state(server)["day"] - 1)
            assert 0 == await _wait_told(one, design)


async def _wait_told(one: Gate, design: Client) -> int:
    """Make a call; 0 when it was admitted."""
    try:
        await (await one.admit(design)).settle(used(1024), "ok")
    except RateLimited as refused:
        return refused.retry_after or -1
    return 0


async def test_headers_tell_what_is_left(one: Gate) -> None:
    """L10: policy and standing of every limit, as callers read them."""
    headers: Headers = []
    budgets: dict[str, Any] = {"tokens_per_day": 20_000, "images_per_day": 9, "videos_per_day": 4}
    design = client(requests_per_minute=60, tokens_per_minute=100_000, **budgets)

    await one.admit(design, headers, chars=4 * 976, videos=1)

    ratelimits = dict(headers)
    assert (
        ratelimits[b"ratelimit-policy"]
        == b'"requests";q=60;w=60, "tokens";q=100000;w=60, "tokens-day";q=20000;w=86400, '
        b'"images-day";q=9;w=86400, "videos-day";q=4;w=86400'
    )
    assert ratelimits[b"ratelimit"].startswith(b'"requests";r=59;t=1, "tokens";r=98000;t=2, "tokens-day";r=18000;t='), (
        ratelimits
    )
    assert b', "videos-day";r=3;t=' in ratelimits[b"ratelimit"]
    midnight = int(ratelimits[b"ratelimit"].rpartition(b"t=")[2])
    assert abs(86400 - time.time() % 86400 - midnight) < 5


async def test_headers_stand_on_a_refusal_too(one: Gate) -> None:
    """L10: a 429 says that nothing is left, and when all is back."""
    design = client(requests_per_minute=6, burst=2)
    headers: Headers = []
    await one.admit(design)
    await one.admit(design)
    with pytest.raises(RateLimited) as refused:
        await one.admit(design, headers)

    assert headers == [(b"ratelimit-policy", b'"requests";q=2;w=20'), (b"ratelimit", b'"requests";r=0;t=20')]
    assert refused.value.retry_after == 10


async def test_a_client_without_limits_gets_no_headers(one: Gate, server: Valkey) -> None:
    """An absent limit is none, and its calls are recorded all the same."""
    headers: Headers = []

    permit = await one.admit(client(), headers)
    await permit.settle(used(5), "ok")

    assert headers == []
    assert [record["outcome"] for record in records(server)] == ["ok"]


async def test_a_call_larger_than_the_limit_is_admitted_alone(one: Gate) -> None:
    """A reservation never exceeds the burst, so that no call is unadmittable."""
    design = client(tokens_per_minute=100, tokens_per_day=100, images_per_day=1)

    permit = await one.admit(design, candidates=8, image_output=True)
    refused = await one.refusal(design)

    assert permit.estimate.tokens == 8 * 1024
    assert isinstance(refused, RateLimited)


async def test_calls_that_cost_no_tokens_pass_a_spent_budget(one: Gate) -> None:
    """Lists and countTokens cost one request and no tokens, also when tokens are overdrawn."""
    design = client(tokens_per_minute=100, tokens_per_day=100)
    await (await one.admit(design)).settle(used(5000), "ok")

    await one.admit(design, method="countTokens")
    await one.admit(design, method="listModels", model="")

    assert isinstance(await one.refusal(design), BudgetSpent)


async def test_a_full_worker_refuses_before_the_body(one: Gate) -> None:
    """A client with all its calls in this worker is refused without asking the store."""
    design = client(concurrent=2)
    permits = [await one.admit(design) for _ in range(2)]

    with pytest.raises(RateLimited) as refused, one.limits.reading(design):
        pass
    await permits[0].settle(NOTHING, "refused")
    with one.limits.reading(design):
        pass

    assert refused.value.retry_after == 1
    assert one.limited_by == [("design", "concurrent")]


@pytest.mark.parametrize("jump", [-3_600_000, 3_600_000])
async def test_a_jumping_clock_locks_no_client_out(one: Gate, server: Valkey, jump: int) -> None:
    """L6: an hour back or ahead is at most one burst extra, no lock-out, and no live call is taken for lost."""
    design = client(requests_per_minute=600, concurrent=50)
    for _ in range(20):
        await one.admit(design)
    pass_time(server, jump)  # the clock of the server has jumped by so much since
    for call in server.ask("ZRANGE", key("design", "leases"), 0, -1):
        server.ask("ZINCRBY", key("design", "leases"), -jump, call)

    for _ in range(25):
        await one.admit(design)

    assert leases(server) == 45
    assert 15 < state(server)["requests"] <= 45
    assert one.lost_calls == []
