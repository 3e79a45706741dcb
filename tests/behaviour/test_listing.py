"""Which models does a client see?  The upstream's own, in both shapes, narrowed to what the client may use."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import Intervals
from tests.support.gateway import Gateway, Upstream, running
from tests.support.valkey import Valkey
from tests.support.wire import answer, saying, wire

LIST = "/v1beta/models"
CLIENTS = {"design": "", "narrow": 'models = ["gemini-2.5-flash*"]', "nothing": 'models = ["claude-*"]'}


@pytest.fixture
async def shared(tmp_path: Path, upstream: Upstream, state: Valkey) -> AsyncIterator[Gateway]:
    """A gateway with three clients: one may use everything, one some models, one none of them."""
    async with running(tmp_path, upstream.url, redis_url=state.url, clients=CLIENTS) as gateway:
        yield gateway
        await gateway.at_rest()


async def pages(gateway: Gateway, client: str, size: int) -> list[dict[str, Any]]:
    """Every page of the list, followed by `nextPageToken` until a page has none."""
    found: list[dict[str, Any]] = []
    query: dict[str, str | int] = {"pageSize": size}
    while True:
        response = await gateway.http.get(LIST, params=query, headers={"x-goog-api-key": gateway.keys[client]})
        found.append(response.json())
        if "nextPageToken" not in found[-1]:
            return found
        query["pageToken"] = found[-1]["nextPageToken"]


async def openai_list(gateway: Gateway, client: str) -> dict[str, Any]:
    """The list as OpenAI's SDK asks for it: with a bearer and without any sign of Google's."""
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http:
        response = await http.get("/v1/models", headers={"authorization": f"Bearer {gateway.keys[client]}"})
    assert 200 == response.status_code
    return dict(response.json())


def names(page: Mapping[str, Any]) -> list[str]:
    """The models of a page in either shape."""
    return [one.get("id") or one["name"].removeprefix("models/") for one in page.get("models", page.get("data"))]


async def test_the_whole_list_passes_unchanged(shared: Gateway, upstream: Upstream) -> None:
    """Interface: what the client may use is written as the upstream wrote it, and the last page names no next."""
    own = (await upstream.http.get(LIST, headers={"authorization": "Bearer sk-canary-upstream-4711"})).json()
    (page,) = await pages(shared, "design", 1000)
    assert own == page
    assert ["models"] == list(page)
    entry = await shared.entry()
    assert ("listModels", "", "ok", 1, "none") == tuple(
        entry[name] for name in ("method", "model", "outcome", "attempts", "usage")
    )


async def test_pages_end(shared: Gateway) -> None:
    """SDKs: pages follow each other until one has no `nextPageToken`, and none but an only one is empty."""
    everything, narrow, nothing = [await pages(shared, name, 2) for name in CLIENTS]
    whole = [name for page in everything for name in names(page)]
    assert len(whole) == len(set(whole)) > 10
    assert {2} == {len(names(page)) for page in [*everything[:-1], *narrow[:-1]]}
    assert [name for name in whole if name.startswith("gemini-2.5-flash")] == [
        name for page in narrow for name in names(page)
    ]
    assert len(narrow) > 1
    assert all(names(page) for page in [*everything, *narrow])
    assert [{"models": []}] == nothing
    odd = {"x-goog-api-key": shared.keys["narrow"]}
    refused = await shared.http.get(LIST, params={"pageToken": "nonsense"}, headers=odd)
    assert (400, "BAD_REQUEST") == (refused.status_code, refused.json()["error"]["details"][0]["reason"])


async def test_both_shapes_of_the_same_list(shared: Gateway) -> None:
    """SDKs: Gemini's list for whoever shows the signs of a Google SDK, else OpenAI's, of the same models."""
    key = shared.keys["narrow"]
    google = [
        {"headers": {"x-goog-api-key": key}},
        {"params": {"key": key}},
        {"headers": {"authorization": f"Bearer {key}", "x-goog-api-client": "google-genai-sdk/3.3.0"}},
    ]
    async with httpx.AsyncClient(base_url=shared.url, trust_env=False) as http:
        for sent in google:
            found = (await http.get("/v1/models", **sent)).json()  # type: ignore[arg-type]
            assert "models" in found
    openai = await openai_list(shared, "narrow")
    assert all(name.startswith("gemini-2.5-flash") for name in names(found) + names(openai))
    assert ("list", "gemini-2.5-flash", "model") == (
        openai["object"], openai["data"][0]["id"], openai["data"][0]["object"],
    )  # fmt: skip


async def test_one_model(shared: Gateway) -> None:
    """A single model is the list's own entry; one that may not be used is a 403, one that nobody knows a 404."""
    (page,) = await pages(shared, "design", 1000)
    for path in ("/v1beta/models/gemini-2.5-pro", "/v1/models/gemini-2.5-pro/", "/models/gemini-2%2e5-pro"):
        assert (await shared.http.get(path)).json() in page["models"]

    narrow = {"x-goog-api-key": shared.keys["narrow"]}
    refused = await shared.http.get(f"{LIST}/gemini-2.5-pro", headers=narrow)
    unknown = await shared.http.get(f"{LIST}/gemini-2.5-flash-9", headers=narrow)
    assert (403, "MODEL_NOT_ALLOWED") == (refused.status_code, refused.json()["error"]["details"][0]["reason"])
    assert (404, "models/gemini-2.5-flash-9 is not known to the upstream. List the models to see which are.") == (
        unknown.status_code, unknown.json()["error"]["message"],
    )  # fmt: skip


async def test_head_is_answered_like_get(shared: Gateway) -> None:
    """Interface: HEAD works on the lists, without a body."""
    got, head = await shared.http.get(LIST), await shared.http.head(LIST)
    assert (200, b"") == (head.status_code, head.content)
    assert got.headers["content-length"] == head.headers["content-length"]


async def test_a_list_is_kept_for_a_minute(shared: Gateway, upstream: Upstream) -> None:
    """Interface: within 60 s the upstream is asked once for all clients, shapes and single models."""
    for name in CLIENTS:
        await openai_list(shared, name)
    assert 200 == (await shared.http.get(f"{LIST}/gemini-2.5-pro")).status_code
    assert 60 == Intervals().listed_seconds
    asked = [(LIST, "pageSize=1000"), ("/v1/models", "")]
    assert asked == sorted((seen["path"], seen["query"]) for seen in await upstream.log())[::-1]
    assert [1, 0, 0, 1] == [entry["attempts"] for entry in await shared.entries(4)]


async def test_a_list_that_is_too_old_is_asked_for_again(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """Interface: and then the next who asks gets the upstream's newest."""
    async with running(tmp_path, upstream.url, redis_url=state.url, intervals=Intervals(listed_seconds=0)) as gateway:
        for _ in range(2):
            await gateway.http.get(f"{LIST}/gemini-2.5-pro")
    assert 2 == len(await upstream.log())


async def test_an_error_of_the_upstream_passes_and_is_not_kept(shared: Gateway, upstream: Upstream) -> None:
    """U9 S7: an error keeps its status, and the next caller asks anew."""
    for _ in range(2):
        response = await shared.http.get(LIST, params={"pageToken": "nonsense"})
        assert (400, 400) == (response.status_code, response.json()["error"]["code"])
    assert 2 == len(await upstream.log())
    assert ["upstream_error"] * 2 == [entry["outcome"] for entry in await shared.entries(2)]


async def test_our_own_key_refused(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """Interface: the upstream's 401 is about our key, so it is never told to the caller as theirs."""
    async with running(tmp_path, upstream.url, redis_url=state.url, upstream_key="sk-wrong") as gateway:
        response = await gateway.http.get(LIST)
        assert 1 == gateway.metric("gateway_upstream_key_refused_total")
    assert (502, "UPSTREAM_KEY_REFUSED") == (response.status_code, response.json()["error"]["details"][0]["reason"])


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"models": [{"id": 1}]}', b"{}", b""])
async def test_a_list_that_is_none(tmp_path: Path, state: Valkey, body: bytes) -> None:
    """U11: what cannot be read is a 502, not an empty list."""
    async with wire(saying(answer(body))) as heard, running(tmp_path, heard.url, redis_url=state.url) as gateway:
        response = await gateway.http.get(LIST)
        entry = await gateway.entry()
    assert (502, "UPSTREAM_BROKE") == (response.status_code, response.json()["error"]["details"][0]["reason"])
    assert "upstream_broke" == entry["outcome"]


async def test_a_list_that_does_not_come(tmp_path: Path, state: Valkey) -> None:
    """U2: a list is waited for as long as any call, and is then a 504."""
    hanging = saying(b"", pause=20)
    async with (
        wire(hanging) as heard,
        running(tmp_path, heard.url, redis_url=state.url, call_timeout_seconds=0.3) as gateway,
    ):
        response = await gateway.http.get(LIST)
        entry = await gateway.entry()
    assert (504, "UPSTREAM_TIMEOUT") == (response.status_code, response.json()["error"]["details"][0]["reason"])
    assert "upstream_timeout" == entry["outcome"]


async def test_a_list_without_end(tmp_path: Path, state: Valkey) -> None:
    """U2: an upstream whose pages never end is asked a bounded number of times."""
    endless = saying(answer(b'{"models": [], "nextPageToken": "&more=x y"}'), close=False)
    async with wire(endless) as heard, running(tmp_path, heard.url, redis_url=state.url) as gateway:
        listed = (await gateway.http.get(f"{LIST}/none")).status_code
        asked = {head.split(b" ")[1] for head in heard.heads}
    assert 404 == listed
    assert {b"/v1beta/models?pageSize=1000", b"/v1beta/models?pageSize=1000&pageToken=%26more%3Dx%20y"} == asked
