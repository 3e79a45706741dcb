"""What does a caller learn who asks for a model that the vendor does not have, and says 503 about as if it were busy?"""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from google import genai
from google.genai.errors import ClientError

from tests.support.gateway import GENERATE, STREAM, TEXT, Gateway, Upstream, running
from tests.support.valkey import Valkey
from tests.support.waiting import until
from tests.support.wire import Play, answer, wire

NAMES = ("gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-2.5-pro", "gemini-3-flash-preview", "claude-opus-4-6")
NOT_FOUND = b'{"error":{"message":"No available channel for model","type":"new_api_error","code":"model_not_found"}}'


def vendor(
    heard: list[str],
    lists: Callable[[], bytes] | None = None,
    status: str = "503 Busy",
    ready: Callable[[], object] = lambda: True,
) -> Play:
    """An upstream that knows no model it is asked for, and has this list, which it gives as soon as it is `ready`."""
    page = json.dumps({"models": [{"name": f"models/{name}"} for name in NAMES]}).encode()

    async def play(head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = head.split(b" ")[1].decode()
        heard.append(target)
        if target.partition("?")[0] == "/v1beta/models":
            await until(ready)
            writer.write(lists() if lists else answer(page))
        else:
            writer.write(answer(NOT_FOUND, status=status))

    return play


def path(model: str, template: str = GENERATE) -> str:
    """Where this model is called."""
    return template.replace("gemini-2.5-flash", model)


@pytest.mark.parametrize("template", [GENERATE, STREAM, GENERATE.replace("generateContent", "countTokens")])
@pytest.mark.parametrize("model", ["gemini-2.5-flash-lit", "gemini-3-flash", "gemini-2.5-flash-preview-09-2025"])
async def test_a_model_that_is_not_listed_is_a_404(tmp_path: Path, state: Valkey, template: str, model: str) -> None:
    """U19: the caller gets 404 NOT_FOUND with the nearest names, once, and no word to wait."""
    heard: list[str] = []
    async with wire(vendor(heard)) as upstream, running(tmp_path, upstream.url, redis_url=state.url) as gateway:
        response = await gateway.http.post(path(model, template), json=TEXT)
        entry = await gateway.entry()
    error = response.json()["error"]
    assert (404, 404, "NOT_FOUND") == (response.status_code, error["code"], error["status"])
    assert model in error["message"]
    assert any(name in error["message"] for name in NAMES if name.startswith("gemini"))
    assert "claude" not in error["message"]
    assert "retry-after" not in response.headers
    assert ("UPSTREAM_ERROR", "model_not_found") == (
        error["details"][0]["reason"], error["details"][0]["metadata"]["upstream_code"],
    )  # fmt: skip
    assert (404, "upstream_error", 503, 1, "UPSTREAM_ERROR") == tuple(
        entry[name] for name in ("status", "outcome", "upstream_status", "attempts", "reason")
    )
    assert 2 == len(heard)


async def test_a_listed_model_stays_a_503(tmp_path: Path, state: Valkey) -> None:
    """U19: a model that the vendor lists and has no channel for at the moment may come back."""
    heard: list[str] = []
    async with wire(vendor(heard)) as upstream, running(tmp_path, upstream.url, redis_url=state.url) as gateway:
        response = await gateway.http.post(GENERATE, json=TEXT)
    assert (503, "UNAVAILABLE") == (response.status_code, response.json()["error"]["status"])


async def test_only_names_the_client_may_use_are_told(tmp_path: Path, state: Valkey) -> None:
    """K7: the nearest names are of the client's own models; with none near, it is told to list them."""
    heard: list[str] = []
    clients = {"design": 'models = ["*-pro*", "gemini-9*"]', "other": 'models = ["nothing*"]'}
    async with (
        wire(vendor(heard)) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url, clients=clients) as gateway,
    ):
        one = (await gateway.http.post(path("gemini-2.6-pro"), json=TEXT)).json()["error"]["message"]
        headers = {"x-goog-api-key": gateway.keys["other"]}
        other = (await gateway.http.post(path("nothing-like-it"), json=TEXT, headers=headers)).json()["error"][
            "message"
        ]
    assert "gemini-2.5-pro" in one
    assert "flash" not in one
    assert "List the models" in other


async def test_the_list_is_asked_for_once(tmp_path: Path, state: Valkey) -> None:
    """U19: however many callers ask for what is not there, at once and later, the list is fetched once a minute."""
    heard: list[str] = []

    def all_asked() -> bool:
        return sum("generateContent" in target for target in heard) >= 8

    async with (
        wire(vendor(heard, ready=all_asked)) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url) as gateway,
    ):
        for _ in range(3):
            responses = await asyncio.gather(*(gateway.http.post(path(f"none-{n}"), json=TEXT) for n in range(8)))
            assert {404} == {response.status_code for response in responses}
    assert 1 == sum(target.startswith("/v1beta/models?") for target in heard)


@pytest.mark.parametrize(
    "lists",
    [lambda: answer(b"{}", status="500 Oh"), lambda: answer(b"<html>"), lambda: b"garbage\r\n\r\n"],
    ids=["error", "html", "garbage"],
)
async def test_without_a_list_it_stays_a_503(tmp_path: Path, state: Valkey, lists: Callable[[], bytes]) -> None:
    """U19: a list that cannot be had proves nothing, and is not asked for again for a minute."""
    heard: list[str] = []
    async with wire(vendor(heard, lists)) as upstream, running(tmp_path, upstream.url, redis_url=state.url) as gateway:
        for _ in range(4):
            assert 503 == (await gateway.http.post(path("none-such"), json=TEXT)).status_code
    assert 1 == sum(target.startswith("/v1beta/models?") for target in heard)


async def test_other_errors_keep_their_status(tmp_path: Path, state: Valkey) -> None:
    """U9: only the vendor's 503 is mistaken; the same code with another status passes as it is."""
    heard: list[str] = []
    async with (
        wire(vendor(heard, status="400 Bad")) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url) as gateway,
    ):
        assert 400 == (await gateway.http.post(path("none-such"), json=TEXT)).status_code
    assert 1 == len(heard)


async def test_googles_sdk_does_not_try_again(gateway: Gateway, upstream: Upstream) -> None:
    """U19: google-genai raises its own error for a model that is not there, at its first attempt."""
    options = {"base_url": gateway.url, "retry_options": {"attempts": 3, "initial_delay": 0.1}}
    client = genai.Client(api_key=gateway.key, http_options=options)  # type: ignore[arg-type]
    with pytest.raises(ClientError) as raised:
        await client.aio.models.generate_content(model="gemini-2.5-flash-none", contents="Hello")
    await client.aio.aclose()
    assert (404, "NOT_FOUND") == (raised.value.code, raised.value.status)
    assert "gemini-2.5-flash" in str(raised.value.message)
    assert 1 == sum(one["method"] == "POST" for one in await upstream.log())


async def test_lists_that_are_asked_for_at_once_are_one(tmp_path: Path, state: Valkey) -> None:
    """C7: the list of models has a single flight, which goes on when whoever asked first leaves."""
    heard: list[str] = []
    ready = asyncio.Event()
    async with (
        wire(vendor(heard, ready=ready.is_set)) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url) as gateway,
    ):
        first = asyncio.create_task(gateway.http.get("/v1beta/models"))
        others = [asyncio.create_task(gateway.http.get("/v1beta/models")) for _ in range(5)]
        await until(lambda: heard and gateway.metric("gateway_in_flight_requests") == 6)
        first.cancel()
        await until(lambda: gateway.app.parts.pipeline._orphaned.count)
        ready.set()
        assert {200} == {response.status_code for response in await asyncio.gather(*others)}
        assert 1 == len(heard)
