"""Are the docs true?  Every example of `/openapi.json` is tried, and its routes are compared with the dialects' rows."""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from gateway import __version__
from gateway.dialects import ALL, Router
from tests.support.calls import request_for
from tests.support.gateway import GENERATE, TEXT, Gateway, Upstream, running
from tests.support.operations import operations
from tests.support.valkey import Valkey

SPEC: dict[str, Any] = json.loads(resources.files("gateway.asgi").joinpath("static/openapi.json").read_text())
PROBES = ["/healthz", "/readyz", "/docs", "/openapi.json"]
SHAPES = ("google", "openai", "anthropic")  # for each: its route, a body, and how its SDKs send a key
ROUTES = {"google": GENERATE, "openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
MESSAGES = [{"role": "user", "content": "Say hello"}]
BODIES: Mapping[str, dict[str, Any]] = {
    "google": TEXT,
    "openai": {"model": "gpt-5.4-mini", "messages": MESSAGES},
    "anthropic": {"model": "claude-sonnet-4-5-20250929", "max_tokens": 20, "messages": MESSAGES},
}
KEYS = {
    "google": {"x-goog-api-key": "{}"},
    "openai": {"authorization": "Bearer {}"},
    "anthropic": {"x-api-key": "{}", "anthropic-version": "2023-06-01"},
}
TAKEN: Mapping[str, set[str]] = {
    "json": {"application/json"}, "multipart": {"multipart/form-data"}, "nothing": set(),
    "either": {"multipart/form-data", "application/json"},
}  # fmt: skip
CLIENTS = {"design": 'models = ["gemini-*", "gpt-5.4-*", "claude-*"]'}
REQUEST_ID = "9f86d081884c7d659a2feaa0"
TARGET_BYTES = 20_000
PNG = base64.b64decode(  # of one pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Route(NamedTuple):
    """One operation of the docs."""

    path: str
    method: str
    said: dict[str, Any]

    def asked_with(self, example: Any) -> str:
        """The path of a request: the docs page too makes it of the model that stands in the summary's brackets."""
        model = re.search(r"\((.*)\)", example["summary"])
        assert model or "{model}" not in self.path
        return self.path.replace("{model}", model[1] if model else "")


def routes(*, probes: bool = False) -> list[Route]:
    """Every operation of the docs, but for the probes unless they are wanted."""
    return [
        Route(path, method, said)
        for path, item in SPEC["paths"].items()
        for method, said in item.items()
        if method != "parameters" and (probes or path not in PROBES)
    ]


def references(value: Any) -> Iterator[str]:
    """Every `$ref` below a value."""
    for name, one in value.items() if isinstance(value, dict) else enumerate(value):
        if name == "$ref":
            yield one
        elif isinstance(one, dict | list):
            yield from references(one)


def sent_keys(gateway: Gateway, shape: str) -> dict[str, str]:
    """The headers in which SDKs of an API send the key."""
    return {name: value.format(gateway.key) for name, value in KEYS[shape].items()}


async def test_the_docs_load_nothing_from_elsewhere(gateway: Gateway) -> None:
    """Interface: the page is self-contained, and its policy forbids what is not."""
    page = await gateway.http.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert {"data:,", "/openapi.json"} == set(re.findall(r'(?:src|href|action)="([^"]*)"', page.text))
    assert not re.search(r"//[\w.-]+\.\w|@import|\burl\(|\bimport\(|innerHTML", page.text)
    assert ["/openapi.json"] == re.findall(r'fetch\("([^"]*)"\)', page.text)


async def test_the_spec_is_whole(gateway: Gateway) -> None:
    """OpenAPI 3.1: references resolve, ids are unique, path parameters are described, each part is used."""
    served = (await gateway.http.get("/openapi.json")).json()
    assert ("3.1.0", __version__) == (served["openapi"], served["info"]["version"])
    for reference in (used := set(references(served))):
        found = served
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
    parts = [f"#/components/{kind}/{name}" for kind, named in served["components"].items() for name in named]
    assert used == {part for part in parts if "/securitySchemes/" not in part}
    assert set(served["components"]["securitySchemes"]) == {name for one in served["security"] for name in one}
    everything = routes(probes=True)
    assert len(everything) == len({route.said["operationId"] for route in everything})
    for path, item in SPEC["paths"].items():
        named = {reference.rpartition("/")[2] for reference in references(item.get("parameters", []))}
        assert ("{model}" in path) == bool(named & {"model", "anyModel"}), path
    assert {tag["name"] for tag in served["tags"]} == {tag for route in everything for tag in route.said["tags"]}


def test_the_routes_are_those_of_the_dialects() -> None:
    """Each route of the docs leads to the row of that name, at that path, by that method; and no row is missing."""
    router, told = Router(ALL), set()
    for path, method, said in routes():
        name, http = said["operationId"].partition("_")[0], method.upper()
        asked = path.replace("{model}", "a-model").replace("{task}", "a_task")
        route = router.find(request_for(http, asked.encode()))
        told.add(route.operation)
        if "HEAD" in route.operation.http:  # of what can be had, the head alone can be had
            told.add(router.find(request_for("HEAD", asked.encode())).operation)
        assert name == route.operation.name
        assert {http} == set(route.operation.http) - {"HEAD"}, path
        assert TAKEN[route.operation.takes] == set(said.get("requestBody", {"content": {}})["content"]), path
        assert asked.removesuffix("/a-model") == route.target
    assert {row for rows in operations().values() for row in rows} == told


def test_the_docs_say_what_the_rows_say() -> None:
    """Only what a cache may hold tells of `Cache-Control`; only what Anthropic's headers reach tells of them."""
    rows = operations()
    for path, _, said in routes():
        row = rows[said["operationId"].partition("_")[0]][0]
        named = {reference.rpartition("/")[2] for reference in references(said["parameters"])}
        assert row.cacheable == ("cacheControl" in named), path
        assert (b"anthropic-*" in row.upstream_headers) == ("anthropicVersion" in named), path


@pytest.mark.parametrize(
    "route", [one for one in routes() if "requestBody" in one.said], ids=lambda one: one.said["operationId"]
)
async def test_request_examples_work(gateway: Gateway, route: Route) -> None:
    """Each request of the docs is answered, and what comes back has the shape that the docs show."""
    for sent, media in route.said["requestBody"]["content"].items():
        for example in media["examples"].values():
            answer, entry = await answered(gateway, route, sent, example)
            assert (200, "ok") == (answer.status_code, entry["outcome"]), (example, answer.text)
            shown = route.said["responses"]["200"]["content"][answer.headers["content-type"]]
            if "example" in shown or "examples" in shown:
                seen, expected = values_in(answer.text), values_in(shown)
                assert fields(expected[0]) <= fields(seen[0])
                assert expected[-1] == seen[-1] or fields(expected[-1]) <= fields(seen[-1])


async def answered(gateway: Gateway, route: Route, sent: str, example: Any) -> tuple[httpx.Response, dict[str, Any]]:
    """What comes of an example, and its access line; a task that it is about is created first."""
    path = route.asked_with(example)
    if "{task}" in path:
        path = path.replace("{task}", await created(gateway))
    answer = await gateway.http.post(path, **body_of(sent, example["value"]))
    return answer, await gateway.entry()


async def created(gateway: Gateway) -> str:
    """The id of a new task, which has ended at once."""
    video = {"model": "sora-2", "prompt": "A lighthouse sandbox-task: 0"}
    task = (await gateway.http.post("/v1/videos", json=video)).json()
    await gateway.entry()
    return str(task["id"])


@pytest.mark.parametrize(
    "route",
    [one for one in routes() if one.method == "get" and "{task}" in one.path],
    ids=lambda one: one.said["operationId"],
)
async def test_tasks_are_as_shown(gateway: Gateway, route: Route) -> None:
    """A poll, and the file of a video, have the members, the type and the headers that the docs show."""
    answer = await gateway.http.get(route.path.replace("{task}", await created(gateway)))
    said = route.said["responses"]["200"]
    shown = said["content"][answer.headers["content-type"]]
    assert (200, "private, no-store") == (answer.status_code, answer.headers["cache-control"])
    if "example" in shown:
        assert fields(shown["example"]) <= fields(answer.json())
        assert fields(shown["example"].get("data", {})) <= fields(answer.json().get("data", {}))


def body_of(kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """A body as httpx sends it; in a form `@` stands before the name of a file, as curl has it."""
    if kind == "application/json":
        return {"json": value}
    return {"files": {name: (one[1:], PNG) if one.startswith("@") else (None, one) for name, one in value.items()}}


async def test_a_stream_of_events_is_as_shown(gateway: Gateway) -> None:
    """Gemini's stream too has the shape of its example, with `alt=sse`."""
    path = "/v1beta/models/{model}:streamGenerateContent"
    shown = SPEC["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]
    answer = await gateway.http.post(f"{path.replace('{model}', 'gemini-2.5-flash')}?alt=sse", json=TEXT)
    seen, expected = values_in(answer.text), values_in(shown)
    assert [True, True] == [fields(expected[at]) <= fields(seen[at]) for at in (0, -1)]


async def test_lists_are_as_shown(gateway: Gateway) -> None:
    """The list and one model of it, in each of three shapes, have the members that the docs show."""
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http:
        for path, parameters in (("/v1/models", {"limit": "1"}), ("/v1/models/{model}", {})):
            shown = SPEC["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["examples"]
            for shape in SHAPES:
                model = BODIES[shape].get("model", "gemini-2.5-flash")
                target, headers = path.replace("{model}", model), sent_keys(gateway, shape)
                seen = (await http.get(target, params=parameters, headers=headers)).json()
                expected = shown[shape]["value"]
                assert set(expected) <= set(seen), (path, shape)
                for several in {"data", "models"} & set(expected):
                    assert set(expected[several][0]) <= set(seen[several][0]), (path, shape)


def values_in(text: Any) -> list[Any]:
    """What an answer says, or an example of one: an object, those of an array, or what its events hold."""
    if isinstance(text, dict) and ("example" in text or "examples" in text):
        text = text["example"] if "example" in text else text["examples"]["text"]["value"]
    if isinstance(text, str) and text.startswith(("data: ", "event: ")):
        data = re.findall(r"^data: (.*)$", text, re.MULTILINE)
        return [one if one == "[DONE]" else json.loads(one) for one in data]
    whole = json.loads(text) if isinstance(text, str) else text
    return whole if isinstance(whole, list) else [whole]


def fields(value: Any) -> set[str]:
    """The members of an object; of what is none, what it is."""
    return set(value) if isinstance(value, dict) else {str(value)}


class Case(NamedTuple):
    """How an error is had for the asking."""

    method: str = "POST"
    paths: Mapping[str, str] = {}  # by shape; else the API's own route
    query: str = ""
    headers: Mapping[str, str] = {}
    body: Mapping[str, Any] = {}  # beside the API's own
    fault: str = ""  # that the sandbox is to have


ERRORS: Mapping[str, Case] = {
    "400": Case(paths={"google": "/v1beta/models/:generateContent"}, body={"model": None}),
    "401": Case(headers={"x-goog-api-key": "thg_wrong", "authorization": "", "x-api-key": ""}),
    "403": Case(paths={"google": GENERATE.replace("gemini-2.5-flash", "gpt-5")}, body={"model": "gpt-5"}),
    "404": Case(paths={"google": "/nowhere", "openai": "/v1/nowhere", "anthropic": "/v1/messages/nowhere"}),
    "405": Case(method="GET"),
    "413": Case(body={"padding": "x" * 33_554_432}),
    "414": Case(query="?pageToken=" + "x" * TARGET_BYTES),
    "415": Case(headers={"content-type": "text/plain"}),
    "426": Case("GET", {"openai": "/v1/responses"}, headers={"connection": "upgrade", "upgrade": "websocket"}),
    "431": Case(headers={"x-long": "y" * 17_000}),
    "502": Case(fault="cutstart"),
    "504": Case(fault="hang", headers={"x-server-timeout": "1"}),
}


async def refused(gateway: Gateway, status: str, shape: str) -> Any:
    """What a caller of an API gets who makes a mistake, or meets a fault."""
    case = ERRORS[status]
    body = {**BODIES[shape], **case.body}
    if case.fault:
        text = f"sandbox-fault: {case.fault} "
        body |= {"contents": [{"parts": [{"text": text}]}], "messages": [{"role": "user", "content": text}]}
    headers = {**sent_keys(gateway, shape), "x-request-id": REQUEST_ID, **case.headers}
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=20) as http:
        more = {"json": body} if case.method == "POST" else {}
        path = case.paths.get(shape, ROUTES[shape]) + case.query
        answer = await http.request(case.method, path, headers=headers, **more)  # type: ignore[arg-type]
    assert status == str(answer.status_code), (status, shape, answer.text)
    said = answer.json()
    if shape == "anthropic":  # a request that is refused on its first line has not said how it is called
        assert answer.headers["request-id"] == said["request_id"]
        said["request_id"] = REQUEST_ID
    return said


def error_examples(status: str) -> dict[str, Any]:
    """What the docs show of an error, by shape."""
    shown = SPEC["components"]["responses"][status]["content"]["application/json"]["examples"]
    return {shape: example["value"] for shape, example in shown.items()}


async def test_error_examples_are_what_is_said(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """Each error of the docs that can be had for the asking is word for word the one that callers get, in each API."""
    async with running(tmp_path, upstream.url, redis_url=state.url, clients=CLIENTS) as gateway:
        for status in ERRORS:
            expected = error_examples(status)
            assert expected == {shape: await refused(gateway, status, shape) for shape in expected}
            assert {"openai"} == set(expected) if status == "426" else set(SHAPES) == set(expected)


def test_the_other_error_examples_have_the_shape() -> None:
    """Every error example carries its own status and reason in Google's shape, and the same words in the others."""
    assert set(SPEC["components"]["responses"]) - set(ERRORS) == {"408", "429", "500", "503", "Upstream"}
    for status, response in SPEC["components"]["responses"].items():
        examples = error_examples(status)
        texts = {one["error"]["message"] for one in examples.values()}
        if status not in {"400", "404"}:
            assert 1 == len(texts), status
        if "google" not in examples:
            continue
        error = examples["google"]["error"]
        info, *waits = error["details"]
        assert status in {str(error["code"]), "Upstream"}
        assert "tokenhot-gateway" == info["domain"]
        assert info["reason"] in response["description"] or status == "Upstream"
        assert (status in {"429", "503"}) == bool(waits)
        for wait in waits:
            assert f"Please retry after {wait['retryDelay'].removesuffix('s')} seconds." in error["message"]
