"""The limits as callers meet them: gateways on real sockets that share one store, at saturation and in trouble."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import Intervals
from tests.support.gate import leases, pass_time, records
from tests.support.gate import state as levels
from tests.support.gateway import GENERATE, STREAM, TEXT, Gateway, Upstream, running, saying
from tests.support.valkey import Valkey, valkey
from tests.support.waiting import until

BURST, PACE = 20, 6000  # calls at once, calls a minute
PATIENT = Intervals(store_timeout_seconds=5)  # a busy machine must not turn a pulse into an outage
SATURATED = f"requests_per_minute = {PACE}\nburst = {BURST}"


@asynccontextmanager
async def gateways(
    folder: Path, upstream: Upstream, store: Valkey, terms: str, count: int = 2, **options: Any
) -> AsyncIterator[list[Gateway]]:
    """So many workers that share a store; every one knows the client `design`, by a key of its own."""
    async with AsyncExitStack() as stack:
        all_of_them = []
        for number in range(count):
            (home := folder / str(number)).mkdir()
            one = running(home, upstream.url, redis_url=store.url, clients={"design": terms}, **options)
            all_of_them.append(await stack.enter_async_context(one))
        yield all_of_them


async def hammer(
    workers: list[Gateway], callers: int, seconds: float, *, until_refused: bool = False
) -> list[tuple[float, int]]:
    """Call without a pause, and on a slow machine for as long as it takes until one is refused.

    Returns seconds taken and status of each call.
    """
    answers: list[tuple[float, int]] = []
    end = time.monotonic() + seconds

    def goes_on(now: float) -> bool:
        return now < end or (until_refused and now < end + 20 and all(status != 429 for _, status in answers))

    async def caller(http: httpx.AsyncClient) -> None:
        while goes_on(began := time.monotonic()):
            status = (await http.post(GENERATE, json=TEXT)).status_code
            answers.append((time.monotonic() - began, status))

    await asyncio.gather(*(caller(workers[number % len(workers)].http) for number in range(callers)))
    for worker in workers:
        await worker.at_rest()
    return answers


def events(gateway: Gateway) -> list[str]:
    """What was logged besides the access lines and what the cache found of the same server."""
    return [line["event"] for line in gateway.lines() if line["event"] != "call" and line.get("store") != "cache"]


def replayed(times: list[int]) -> tuple[list[int], float]:
    """GCRA by the book, on the times of admission: those it would have refused, and how far ahead it then is, in ms."""
    interval, ahead, refused = 60_000 / PACE, 0.0, []
    for now in times:
        if max(ahead, now) + interval - now > BURST * interval + 1e-3:
            refused.append(now)
        ahead = max(ahead, now) + interval
    return refused, ahead


@pytest.mark.parametrize("pulses", [0, 6], ids=["calm", "pulses"])
async def test_the_ledger_holds_at_saturation(tmp_path: Path, upstream: Upstream, pulses: int) -> None:
    """A5, A6, L2, L5: no window is over its bound, also with the store silent for 100 ms now and then; what was charged
    is what was admitted, and a GCRA by the book, fed with the records, ends in the very state of the store.
    """
    with valkey() as store:
        async with gateways(tmp_path, upstream, store, SATURATED, intervals=PATIENT) as workers:
            load = asyncio.create_task(hammer(workers, 8, 2, until_refused=True))
            for _ in range(pulses):
                await asyncio.sleep(0.1)  # between two pulses calls go on
                await store.freeze_for(0.1)
            answers = await load
            times = sorted(int(record["at"]) for record in records(store))
            after = levels(store)

    assert {200, 429} == {status for _, status in answers}
    assert len(times) == sum(status == 200 for _, status in answers)
    for (first, begun), (last, ended) in combinations(enumerate(times), 2):
        assert last - first + 1 <= BURST + (ended - begun) * PACE / 60_000 + 1e-6
    refused, ahead = replayed(times)
    assert [] == refused
    assert abs(max(0, ahead - after["at"]) - after["requests"] * 60_000 / PACE) <= 1


@pytest.mark.parametrize(("mode", "during"), [("local", {200}), ("closed", {503})])
async def test_a_frozen_store_under_load(tmp_path: Path, upstream: Upstream, mode: str, during: set[int]) -> None:
    """R2, R9, R10, L4: only calls that were in flight wait, no longer than the timeout; two lines an outage; usage comes
    after it; no 5xx in local mode.
    """
    with valkey() as store:
        async with running(tmp_path, upstream.url, redis_url=store.url, state_lost=mode) as gateway:
            assert {200} == {status for _, status in await hammer([gateway], 8, 0.2)}
            store.freeze()
            first = await hammer([gateway], 8, 0.01)
            later = await hammer([gateway], 8, 1)
            assert 0 == gateway.metric("gateway_store_up", store="state")
            store.thaw()
            await until(lambda: gateway.app.parts.state_store.up)
            assert {200} == {status for _, status in await hammer([gateway], 8, 0.2)}
            admitted = gateway.metric("gateway_requests_total", outcome="ok")
            await until(lambda: len(records(store)) == admitted)
            await until(lambda: "recovered" in events(gateway))
            logged = events(gateway)

        assert 0 == leases(store)
        assert ["degraded", "recovered"] == logged
        assert during == {status for _, status in first + later}
        assert 0.15 < max(seconds for seconds, _ in first) < 2  # 0.25 s and what an answer takes
        assert len(later) > 50
        assert (
            sorted(seconds for seconds, _ in later)[len(later) * 9 // 10] < 0.25
        )  # who waits for the store takes longer


@pytest.mark.parametrize(("mode", "during"), [("local", 200), ("closed", 503)])
async def test_a_full_store(tmp_path: Path, upstream: Upstream, mode: str, during: int) -> None:
    """R6: a full state store is unavailable: calls go to their worker's share or are refused, as configured; one line each."""
    with valkey(maxmemory="6mb", maxmemory_policy="noeviction") as store:
        async with running(tmp_path, upstream.url, redis_url=store.url, state_lost=mode) as gateway:
            store.ask("SETRANGE", "ballast", 8_000_000, "x")
            assert [during] * 5 == [(await gateway.http.post(GENERATE, json=TEXT)).status_code for _ in range(5)]
            store.ask("DEL", "ballast")
            await until(lambda: gateway.app.parts.state_store.up)
            assert 200 == (await gateway.http.post(GENERATE, json=TEXT)).status_code
            await until(lambda: len(records(store)) == (6 if mode == "local" else 1))
            await until(lambda: "recovered" in events(gateway))
            logged = events(gateway)
    assert ["degraded", "recovered"] == logged


async def leave(gateway: Gateway, path: str, text: str, seconds: float = 0.3) -> None:
    """Call and hang up soon."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await gateway.http.post(path, json=saying(text))


async def test_every_end_gives_its_place_back(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """A2, A7, A8: after refusals and errors of the upstream and callers who hang up, no place and no reservation is held,
    each call has one record, and what is charged is what the records say.
    """
    terms = {"design": "concurrent = 50\ntokens_per_minute = 20_000\ntokens_per_day = 10_000_000"}
    async with running(tmp_path, upstream.url, redis_url=state.url, clients=terms) as gateway:
        gateway.app.parts.pipeline._orphaned.seconds = 0.5
        for path, faults in ((GENERATE, "400 429 503 empty"), (STREAM, "400 cut nousage")):
            for fault in faults.split():
                with suppress(httpx.RemoteProtocolError):
                    await gateway.http.post(path, json=saying(f"sandbox-fault: {fault} "))
            await leave(gateway, path, "sandbox-fault: hang ")
            await leave(gateway, path, "sandbox-fault: slow=0.6 ")
            await gateway.http.post(path, json=saying("sandbox-fault: hang "), headers={"x-server-timeout": "1"})
        entries = await gateway.entries(13)
        await until(lambda: len(records(state)) == 13)
        kept = records(state)
        assert {line["request_id"]: line["outcome"] for line in entries} == {
            record["request"]: record["outcome"] for record in kept
        }
        assert 0 == leases(state)
        assert 0 == levels(state)["tokens_held"]
        charged = sum(int(record["tokens"]) for record in kept)
        assert charged == levels(state)["tokens_day"] >= levels(state)["tokens"] > 0
        assert {"client_gone", "upstream_error", "upstream_broke", "upstream_timeout", "ok"} <= {
            record["outcome"] for record in kept
        }


async def test_callers_who_left_are_waited_for_within_bounds(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """D6: no more answers than the pool holds are waited for after their callers have left, and each frees its place."""
    async with running(tmp_path, upstream.url, redis_url=state.url) as gateway:
        drains = gateway.app.parts.pipeline._orphaned
        drains.limit, drains.seconds = 2, 6
        began = time.monotonic()
        await asyncio.gather(*(leave(gateway, GENERATE, "sandbox-fault: hang ", 1.5) for _ in range(5)))
        await gateway.entries(3)  # these were not waited for
        assert time.monotonic() - began < 6
        assert 2 == drains.count
        await gateway.entries(2)
        assert 0 == drains.count


@pytest.mark.parametrize("terms", ["requests_per_minute = 7", "tokens_per_minute = 3000"])
async def test_whoever_obeys_retry_after_gets_in(tmp_path: Path, upstream: Upstream, terms: str) -> None:
    """L10: having waited for `retry-after`, a caller is admitted at its first try, each of ten times."""
    with valkey() as store:
        async with running(tmp_path, upstream.url, redis_url=store.url, clients={"design": terms}) as gateway:
            waits: list[int] = []
            while len(waits) < 10:
                answer = await gateway.http.post(GENERATE, json=TEXT)
                if answer.status_code == 429:
                    waits.append(int(answer.headers["retry-after"]))
                    pass_time(store, waits[-1] * 1000)
                    answer = await gateway.http.post(GENERATE, json=TEXT)
                assert 200 == answer.status_code
    assert all(0 < wait <= 60 for wait in waits)
