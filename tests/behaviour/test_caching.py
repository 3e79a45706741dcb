"""The cache as callers and operators see it: through a whole gateway, on real sockets."""

import asyncio
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.caching import ARRAY, PRIVATE, kept, status
from tests.support.gate import state as levels
from tests.support.gateway import GENERATE, STREAM, TEXT, Gateway, Upstream, clients_toml, running, saying
from tests.support.valkey import Valkey, valkey
from tests.support.waiting import until


@pytest.mark.parametrize(
    ("path", "told"),
    [(GENERATE, "fwd=miss; stored"), (STREAM, "fwd=miss"), (ARRAY, "fwd=miss")],
    ids=["unary", "sse", "array"],
)
async def test_a_hit(caching: Gateway, upstream: Upstream, state: Valkey, path: str, told: str) -> None:
    """C6 L11 A10: the same bytes again, one upstream call, a ledger row without tokens, and the tokens it saved."""
    first = await caching.http.post(path, json=TEXT)
    await kept(state, 1)
    second = await caching.http.post(path, json=TEXT)

    assert (first.content, first.headers["content-type"]) == (second.content, second.headers["content-type"])
    assert (told, "hit; ttl=3600", "0") == (status(first), status(second), second.headers["age"])
    assert 1 == len(await upstream.log())
    miss, hit = await caching.entries(2)
    assert ("ok", "miss", 1, "reported") == tuple(miss[word] for word in ("outcome", "cache", "attempts", "usage"))
    assert ("cache_hit", "hit", 0, "none") == tuple(hit[word] for word in ("outcome", "cache", "attempts", "usage"))
    assert 0 == hit["tokens_in"] + hit["tokens_out"] < miss["tokens_out"]
    cost = miss["tokens_in"] + miss["tokens_out"]
    assert cost == caching.metric("gateway_tokens_total")
    assert cost == caching.metric("gateway_cache_saved_tokens_total", client="design", model="gemini-2.5-flash")
    for result in ("miss", "hit", "stored"):
        assert 1 == caching.metric("gateway_cache_requests_total", client="design", result=result)
    records = [record for _, record in state.ask("XRANGE", "gw:{design}:usage", "-", "+")]
    assert ["ok", "cache_hit"] == [record["outcome"] for record in records]


async def test_a_large_picture_hits_byte_for_byte(caching: Gateway, state: Valkey) -> None:
    """A10: an answer of 5 MB is kept and given again untouched."""
    body = saying("a poster sandbox-size: 5000000 ")
    image = GENERATE.replace("flash", "flash-image")
    first = await caching.http.post(image, json=body)
    await kept(state, 1)
    second = await caching.http.post(image, json=body)
    assert (first.content, "hit; ttl=3600") == (second.content, status(second))
    assert len(first.content) > 5_000_000
    assert 0 < caching.metric("gateway_images_total", direction="out") == 1


async def test_hits_cost_a_request_and_no_tokens(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """L11 A8: reservations of hits come back, and the bucket of requests is what runs out."""
    terms = f"{PRIVATE}\nrequests_per_minute = 6\nburst = 6\ntokens_per_day = 20_000\nconcurrent = 1"
    async with running(tmp_path, upstream.url, redis_url=state.url, clients={"design": terms}) as gateway:
        responses = [await gateway.http.post(GENERATE, json=TEXT)]
        await kept(state, 1)
        responses += [await gateway.http.post(GENERATE, json=TEXT) for _ in range(6)]
        cost = gateway.metric("gateway_tokens_total")
        assert [200] * 6 + [429] == [response.status_code for response in responses]
        assert cost == levels(state)["tokens_day"]
        left = [response.headers["ratelimit"] for response in responses[1:6]]
        remaining = {int(told.partition('"tokens-day";r=')[2].partition(";")[0]) for told in left}
        assert 1 == len(remaining), "each hit gave its reservation back"


@pytest.mark.parametrize("scope", ["off", "private", "shared"])
async def test_who_gets_whose_answer(scope: str, tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """C1 C10: nobody by default, each their own when private, and another's only where both chose to share."""
    terms = dict.fromkeys(("design", "facts"), f'cache = "{scope}"') | {"alone": PRIVATE, "plain": ""}
    async with running(tmp_path, upstream.url, redis_url=state.url, clients=terms) as gateway:

        async def ask(name: str) -> str:
            response = await gateway.http.post(GENERATE, json=TEXT, headers={"x-goog-api-key": gateway.keys[name]})
            assert 200 == response.status_code
            await gateway.at_rest()
            return status(response).partition(";")[0]

        first = [await ask(name) for name in terms]
        await kept(state, {"off": 1, "private": 3, "shared": 2}[scope])
        again = [await ask(name) for name in terms]
    bypass = "fwd=bypass"
    mine, others = {"off": (bypass, bypass), "private": ("fwd=miss",) * 2, "shared": ("fwd=miss", "hit")}[scope]
    assert [mine, others, "fwd=miss", bypass] == first
    assert [*[bypass if scope == "off" else "hit"] * 2, "hit", bypass] == again
    assert {"off": 7, "private": 5, "shared": 4}[scope] == len(await upstream.log())


async def test_what_the_caller_may_ask_of_the_cache(caching: Gateway, upstream: Upstream, state: Valkey) -> None:
    """C9: no-store neither reads nor writes, no-cache asks anew and stores, max-age=0 too, only-if-cached never asks."""

    async def ask(wish: str) -> httpx.Response:
        return await caching.http.post(GENERATE, json=TEXT, headers={"cache-control": wish})

    nothing = await ask("only-if-cached")
    assert (504, "NOT_CACHED", "fwd=miss") == (
        nothing.status_code, nothing.json()["error"]["details"][0]["reason"], status(nothing),
    )  # fmt: skip
    assert "fwd=bypass" == status(await ask("no-store"))
    assert [] == state.ask("KEYS", "gw:cache:*")
    fresh = await ask("no-cache")
    await kept(state, 1)
    cached = await ask("only-if-cached")
    assert ("fwd=request", "hit; ttl=3600", fresh.content) == (status(fresh), status(cached), cached.content)
    assert "fwd=bypass" == status(await ask("no-store, max-age=60"))
    newer = await ask("No-Cache")
    await until(lambda: 2 == caching.metric("gateway_cache_requests_total", result="stored"))
    assert newer.content == (await ask("max-age=60")).content
    assert 4 == len(await upstream.log())


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["MAX-AGE=60", "No-Store"], "fwd=bypass"),
        (['no-cache="set-cookie, x"', "garbage", "=,;,"], "fwd=request"),
        (["max-age=nonsense"], "fwd=miss; stored"),
        (["max-age=0"], "fwd=miss; stored"),
        (["private, max-stale=9", "\xe9=1"], "hit; ttl=3600"),
    ],
)
async def test_wishes_in_several_lines_and_odd_ones(
    caching: Gateway, state: Valkey, lines: list[str], told: str
) -> None:
    """C9: every line counts, in any case of letters; what is unclear counts as the stricter wish."""
    await caching.http.post(GENERATE, json=TEXT)
    await kept(state, 1)
    headers = [(b"Cache-Control", line.encode("latin-1")) for line in lines]
    assert told == status(await caching.http.post(GENERATE, json=TEXT, headers=headers))


ODD = "blocked safety link badjson empty cut cutstart html200 203 400 429=9".split()  # noqa: SIM905


@pytest.mark.parametrize(
    ("path", "fault"), [(STREAM, "streamerror"), *((path, fault) for path in (GENERATE, STREAM) for fault in ODD)]
)
async def test_what_is_never_kept(caching: Gateway, upstream: Upstream, state: Valkey, fault: str, path: str) -> None:
    """C5 U3 U4 U11 U20: errors, cuts, blocks, links and odd answers reach who asked, and the next one asks anew."""
    body = saying(f"odd sandbox-fault: {fault} ")
    for _ in range(2):
        try:
            response = await caching.http.post(path, json=body)
        except httpx.RemoteProtocolError:
            assert path == STREAM
        else:
            assert "fwd=miss" == status(response)
            assert (203 == response.status_code) == (
                fault == "203" and path == GENERATE
            )  # a stream's is told as an error
    await caching.at_rest()
    assert [] == state.ask("KEYS", "gw:cache:*")
    assert 2 == len(await upstream.log())


async def test_the_gates_before_the_cache(caching: Gateway, state: Valkey) -> None:
    """C6 A15: a kept answer is not given to a revoked key, nor for a model that is not allowed any more."""
    await caching.http.post(GENERATE, json=TEXT)
    await kept(state, 1)
    for terms, code in ((f'{PRIVATE}\nmodels = ["gemini-3*"]', 403), (f"{PRIVATE}\ndisabled = true", 401)):
        caching.clients_file.write_text(clients_toml(caching.keys, {"design": terms}))
        async with asyncio.timeout(5):
            while (await caching.http.post(GENERATE, json=TEXT)).status_code != code:
                pass


async def test_whatever_reaches_the_upstream_is_in_the_key(caching: Gateway, upstream: Upstream) -> None:
    """C4: of all that a caller can vary, what the upstream sees makes another call, and nothing else does."""
    variants: list[dict[str, Any]] = [
        {},
        {"headers": {"accept": "application/json"}},
        {"headers": {"user-agent": "another", "x-goog-api-client": "x", "accept-language": "de"}},
        {"params": {"fields": "candidates", "$alt": "json", "callback": "x"}},
        {"headers": {"content-type": "application/json; charset=utf-8"}},
    ]
    for variant in variants:
        await caching.http.post(
            GENERATE,
            content=b'{"contents":[{"parts":[{"text":"x"}]}]}',
            **({"headers": {"content-type": "application/json"}} | variant),
        )
        await caching.at_rest()
    for body in (b'{"contents":[{"parts":[{"text":"x"}]}] }', b'{"contents":[{"parts":[{"text":"X"}]}]}'):
        await caching.http.post(GENERATE, content=body, headers={"content-type": "application/json"})
        await caching.at_rest()
    seen = [
        (record["path"], record["query"], record["body_sha256"], dict(record["headers"]).get("accept"))
        for record in await upstream.log()
    ]
    assert len(seen) == len(set(seen)), "the same was never asked twice"
    assert Counter(miss=4, hit=3) == Counter(entry["cache"] for entry in await caching.entries(7))


async def test_a_store_that_is_away_is_never_the_callers_error(
    tmp_path: Path, upstream: Upstream, state: Valkey
) -> None:
    """C7 R2 R6: frozen, then killed, then back: calls go on uncached, and then cached again."""
    with valkey() as store:
        settings: dict[str, Any] = {"redis_url": state.url, "cache_redis_url": store.url}
        async with running(tmp_path, upstream.url, clients={"design": PRIVATE}, **settings) as gateway:

            async def ask() -> str:
                response = await gateway.http.post(GENERATE, json=TEXT)
                assert 200 == response.status_code
                return response.headers["cache-status"]

            await ask()
            await until(lambda: 1 == gateway.metric("gateway_cache_requests_total", result="stored"))
            store.freeze()
            began = time.monotonic()
            assert "hit" not in await ask()
            assert time.monotonic() - began < 0.6, "one look, of 250 ms"
            assert 0 == gateway.metric("gateway_store_up", store="cache")
            assert ["cache"] == (await gateway.http.get("/readyz")).json()["degraded"]
            store.thaw()
            await until(lambda: 1 == gateway.metric("gateway_store_up", store="cache"))
            assert "hit" in await ask()
            store.kill()
            assert [False] * 3 == ["hit" in await ask() for _ in range(3)]
            store.start()
            await until(lambda: 1 == gateway.metric("gateway_store_up", store="cache"))
            await ask()
            await until(lambda: 1 < gateway.metric("gateway_cache_requests_total", result="stored"))
            assert "hit" in await ask()
        events = Counter(line["event"] for line in gateway.lines() if line.get("store") == "cache")
        assert Counter(degraded=2, recovered=2) == events


async def test_a_full_store_keeps_nothing_and_reads_go_on(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """R6: where an answer does not fit the call is answered all the same, and what is kept is still given."""
    with valkey(maxmemory="3mb", maxmemory_policy="noeviction") as store:
        settings: dict[str, Any] = {"redis_url": state.url, "cache_redis_url": store.url}
        async with running(tmp_path, upstream.url, clients={"design": PRIVATE}, **settings) as gateway:
            await gateway.http.post(GENERATE, json=TEXT)
            await until(lambda: 1 == gateway.metric("gateway_cache_requests_total", result="stored"))
            store.ask("CONFIG", "SET", "maxmemory", "1mb")
            large = await gateway.http.post(GENERATE, json=saying("large sandbox-size: 2000000 "))
            await until(lambda: 1 == gateway.metric("gateway_cache_requests_total", result="refused"))
            again = await gateway.http.post(GENERATE, json=TEXT)
            assert (200, 200, True) == (large.status_code, again.status_code, "hit" in again.headers["cache-status"])
            assert 1 == gateway.metric("gateway_store_up", store="cache")
