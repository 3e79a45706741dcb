"""Are the probes honest, and are the docs true?  Every example of `/openapi.json` is tried."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import __version__
from tests.support.gateway import GENERATE, TEXT, Gateway, Upstream, running
from tests.support.valkey import Valkey, valkey
from tests.support.waiting import until

SPEC: dict[str, Any] = json.loads(resources.files("gateway.asgi").joinpath("static/openapi.json").read_text())
CALLS = [f"/v1beta/models/{{model}}:{method}" for method in (
    "generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents",
)]  # fmt: skip
LISTS = ["/v1beta/models", "/v1beta/models/{model}", "/v1/models"]
PROBES = ["/healthz", "/readyz", "/docs", "/openapi.json"]
TARGET_BYTES = 20_000


@pytest.fixture
async def stranger(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """Somebody without a key."""
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http:
        yield http


def references(value: Any) -> Iterator[str]:
    """Every `$ref` below a value."""
    for name, one in value.items() if isinstance(value, dict) else enumerate(value):
        if name == "$ref":
            yield one
        elif isinstance(one, dict | list):
            yield from references(one)


def requests() -> Iterator[tuple[str, str, Any]]:
    """Each request example: the path as the spec has it, the model it is for, and its body."""
    for path in CALLS:
        content = SPEC["paths"][path]["post"]["requestBody"]["content"]
        for example in content["application/json"]["examples"].values():
            model = re.search(r"\((.*)\)", example["summary"])
            assert model, "the docs page makes its curl from the model in brackets"
            yield path, model[1], example["value"]


async def test_anybody_may_ask(stranger: httpx.AsyncClient) -> None:
    """M6 K7: no key is needed, and HEAD answers as GET does, without the body."""
    for path in PROBES:
        got, head = await stranger.get(path), await stranger.head(path)
        assert (200, 200, b"") == (got.status_code, head.status_code, head.content)
        for name in ("content-length", "content-type"):
            assert got.headers[name] == head.headers[name]


async def test_every_answer_has_a_request_id(stranger: httpx.AsyncClient) -> None:
    """Interface: also probes, docs and their refusals; a well-formed one is the caller's."""
    for path in PROBES:
        for method in ("GET", "HEAD", "POST"):
            answered = await stranger.request(method, path, headers={"x-request-id": "mine.7"})
            assert "mine.7" == answered.headers["x-request-id"]
            assert (await stranger.request(method, path)).headers["x-request-id"]


async def test_alive_and_ready(gateway: Gateway, stranger: httpx.AsyncClient) -> None:
    """M6 X1: alive as long as the loop turns; ready until it is about to stop."""
    assert {"status": "alive", "version": __version__} == (await stranger.get("/healthz")).json()
    assert {"status": "ready", "degraded": []} == (await stranger.get("/readyz")).json()

    gateway.app.begin_drain()
    leaving = await stranger.get("/readyz")
    assert (503, "not ready") == (leaving.status_code, leaving.json()["status"])
    assert 200 == (await stranger.get("/healthz")).status_code


@pytest.mark.parametrize(("state_lost", "status", "said"), [("local", 200, "ready"), ("closed", 503, "not ready")])
async def test_a_lost_store_is_named(
    tmp_path: Path, upstream: Upstream, state_lost: str, status: int, said: str
) -> None:
    """M6 R1: without its state store it is degraded, and unready only where the operator chose to refuse calls."""
    nobody = f"unix://{tmp_path}/nobody"
    async with running(tmp_path, upstream.url, redis_url=nobody, state_lost=state_lost) as gateway:
        answer = await gateway.http.post(GENERATE, json=TEXT)
        ready, alive = await gateway.http.get("/readyz"), await gateway.http.get("/healthz")
    assert status == answer.status_code
    told = {"status": said, "degraded": ["state"], "why": {"state": "there is no such socket"}}
    assert (status, told) == (ready.status_code, ready.json())
    assert 200 == alive.status_code


async def test_a_store_that_is_lost_without_a_call_is_named(tmp_path: Path, upstream: Upstream) -> None:
    """M6 R1: nobody has to call before `/readyz` and the gauge tell that a store has gone, and that it is back."""
    cache = f"unix://{tmp_path}/nobody"
    with valkey() as server:
        async with running(tmp_path, upstream.url, redis_url=server.url, cache_redis_url=cache) as gateway:

            async def until_degraded(*names: str) -> None:
                await until(lambda: degraded(*names), every_ms=50)

            async def degraded(*names: str) -> bool:
                return bool((await gateway.http.get("/readyz")).json()["degraded"] == list(names))

            await until_degraded("cache")
            server.freeze()
            await until_degraded("state", "cache")
            assert 0 == gateway.metric("gateway_store_up", store="state")
            server.thaw()
            await until_degraded("cache")
            assert 1 == gateway.metric("gateway_store_up", store="state")


async def test_the_docs_load_nothing_from_elsewhere(stranger: httpx.AsyncClient) -> None:
    """Interface: the page is self-contained, and its policy forbids what is not."""
    page = await stranger.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert {"data:,", "/openapi.json"} == set(re.findall(r'(?:src|href|action)="([^"]*)"', page.text))
    assert not re.search(r"//[\w.-]+\.\w|@import|\burl\(|\bimport\(|innerHTML", page.text)
    assert ["/openapi.json"] == re.findall(r'fetch\("([^"]*)"\)', page.text)


async def test_the_spec_is_whole(stranger: httpx.AsyncClient) -> None:
    """OpenAPI 3.1 of just the callers' routes: references resolve, ids are unique, path parameters are described."""
    served = (await stranger.get("/openapi.json")).json()
    assert ("3.1.0", __version__) == (served["openapi"], served["info"]["version"])
    assert [*CALLS, *LISTS, *PROBES] == list(served["paths"])
    for reference in set(references(served)):
        found = served
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    operations = [(path, item, item.get("get") or item["post"]) for path, item in served["paths"].items()]
    assert len(operations) == len({operation["operationId"] for *_, operation in operations})
    assert [path for path in served["paths"] if "{model}" in path] == [
        path for path, item, _ in operations if {"$ref": "#/components/parameters/model"} in item.get("parameters", ())
    ]
    tags = {tag["name"] for tag in served["tags"]}
    assert tags == {tag for *_, operation in operations for tag in operation["tags"]}


async def test_request_examples_work(gateway: Gateway) -> None:
    """Each request of the docs is answered, and what comes back has the shape that the docs show."""
    for path, model, body in requests():
        answer = await gateway.http.post(path.replace("{model}", model), json=body)
        assert (200, "ok") == (answer.status_code, (await gateway.entry())["outcome"]), (path, body)
        shown = SPEC["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]
        example = shown["example"] if "example" in shown else shown["examples"]["text"]["value"]
        whole = answer.json()
        first, expected = (whole[0], example[0]) if isinstance(whole, list) else (whole, example)
        assert set(expected) <= set(first)


ERRORS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "400": ("POST", "/v1beta/models/:generateContent", {}),
    "401": ("POST", GENERATE, {"headers": {"x-goog-api-key": "thg_wrong"}}),
    "403": ("POST", GENERATE.replace("gemini-2.5-flash", "gpt-5"), {}),
    "404": ("GET", "/nowhere", {}),
    "405": ("GET", GENERATE, {}),
    "413": ("POST", GENERATE, {"json": "x" * 33_554_432}),
    "414": ("GET", "/v1beta/models?pageToken=" + "x" * TARGET_BYTES, {}),
    "415": ("POST", GENERATE, {"headers": {"content-type": "text/plain"}}),
    "431": ("GET", "/v1beta/models", {"headers": {"x-long": "y" * 17_000}}),
    "502": ("POST", GENERATE, {"json": {"contents": [{"parts": [{"text": "sandbox-fault: cutstart "}]}]}}),
    "504": ("POST", GENERATE, {
        "headers": {"x-server-timeout": "1"}, "json": {"contents": [{"parts": [{"text": "sandbox-fault: hang "}]}]},
    }),
}  # fmt: skip


async def test_error_examples_are_what_is_said(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """Each error of the docs that can be had for the asking is word for word the one that callers get."""
    examples, answers = {}, {}
    async with running(
        tmp_path, upstream.url, redis_url=state.url, clients={"design": 'models = ["gemini-*"]'}
    ) as gateway:
        for status, (method, path, more) in ERRORS.items():
            body = {"json": TEXT} if method == "POST" else {}
            answer = await gateway.http.request(method, path, **{**body, **more})
            answers[str(answer.status_code)] = answer.json()
            examples[status] = SPEC["components"]["responses"][status]["content"]["application/json"]["example"]
    assert examples == answers


def test_the_other_error_examples_have_the_shape() -> None:
    """Every error example carries its own status, a status word, and details that name domain and wait."""
    assert set(SPEC["components"]["responses"]) - set(ERRORS) == {"408", "429", "503", "Upstream"}
    for status, response in SPEC["components"]["responses"].items():
        error = response["content"]["application/json"]["example"]["error"]
        info, *waits = error["details"]
        assert status in {str(error["code"]), "Upstream"}
        assert "tokenhot-gateway" == info["domain"]
        assert info["reason"] in response["description"] or status == "Upstream"
        assert (status in {"429", "503"}) == bool(waits)
        for wait in waits:
            assert f"Please retry after {wait['retryDelay'].removesuffix('s')} seconds." in error["message"]
