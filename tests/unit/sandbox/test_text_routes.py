"""What do all text routes share?  Models, refusals, ids, lists of models, and the log."""

import time
from itertools import pairwise
from typing import Any

import httpx
import pytest

from gateway.sandbox.families import kind

from .conftest import CHAT, EMBEDDINGS, KEY, MESSAGES, STREAMING, Ask, Caller

ROUTES = (*STREAMING, EMBEDDINGS)
NAMES = [route.path for route in ROUTES]


@pytest.mark.parametrize(
    "model",
    [
        "gpt-5.4-mini",
        "chatgpt-4o-latest",
        "o1",
        "o4-mini",
        "claude-opus-4.7",
        "grok-4.1",
        "deepseek-v3",
        "qwen3-max",
        "glm-4.6",
        "gemini-2.5-flash",
    ],
)
def test_any_name_of_a_known_family_answers(caller: Caller, model: str) -> None:
    """Models are known by family on the text routes, whatever comes after the family's name."""
    assert model == caller.answered(CHAT, "hi", model=model)["model"]


@pytest.mark.parametrize("route", ROUTES, ids=NAMES)
@pytest.mark.parametrize("model", ["llama-9", "o2", "gemini-2.5-flash-image"])
def test_other_models_have_no_channel(caller: Caller, route: Ask, model: str) -> None:
    """An unknown model, or one that makes no text, is the vendor's 503, in OpenAI's shape on every route."""
    response = caller.ask(route, "hi", model=model)
    error = response.json()["error"]
    assert (503, "model_not_found", "new_api_error") == (response.status_code, error["code"], error["type"])
    assert model in error["message"]


@pytest.mark.parametrize("route", ROUTES, ids=NAMES)
def test_bodies_that_mean_nothing_are_refused(caller: Caller, route: Ask) -> None:
    """A body that is no JSON of this shape is a 400 in the shape of the route, which names the call."""
    bodies: list[Any] = [b'{"mod', b"[]", b"[" * 100_000, b"{}", b'{"model": "gpt-5"}', b'{"messages": 1, "input": {}}']
    for body in bodies:
        response = caller.http.post(route.path, content=body)
        assert 400 == response.status_code, body[:20]
        shown = response.json()
        assert (route == MESSAGES and "type" in shown) == ("type" in shown)
        assert f"(request id: {response.headers['x-oneapi-request-id']})" in shown["error"]["message"]


def test_anthropics_shape_is_that_of_messages_alone(caller: Caller) -> None:
    """The relay's own errors are in the route's shape; those from before it in OpenAI's."""
    error = caller.ask(MESSAGES, "hi", messages=[]).json()
    assert ("error", "invalid_request_error") == (error["type"], error["error"]["type"])
    assert "type" not in caller.ask(CHAT, "hi", messages=[]).json()
    assert "type" not in caller.http.post("/v1/messages", json={}, headers={"authorization": "Bearer no"}).json()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/chat/completions"),
        ("GET", "/v1/responses/resp_1"),
        ("POST", "/v1/models"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "/v1/realtime"),
    ],
)
def test_other_urls_are_invalid(caller: Caller, method: str, path: str) -> None:
    """What new-api does not route is a 404 that quotes method and path."""
    response = caller.http.request(method, path)
    error = response.json()["error"]
    assert (404, "invalid_request_error") == (response.status_code, error["type"])
    assert error["message"].startswith(f"Invalid URL ({method} {path})")


@pytest.mark.parametrize("route", ROUTES, ids=NAMES)
def test_the_log_has_model_usage_and_true_tokens(caller: Caller, route: Ask) -> None:
    """Every answer carries the record's id, and the record says what was asked, reported and spent."""
    answer = caller.ask(route, "hi")
    record = caller.ended()
    assert answer.headers["x-oneapi-request-id"] == record["nonce"]
    assert (route.path, route.model, False, True) == tuple(record[key] for key in ("path", "model", "stream", "whole"))
    assert answer.json()["usage"] == record["usage"]
    tokens = record["tokens"]
    assert tokens["input"] + tokens["cached"] + tokens["output"] + tokens["thoughts"] == tokens["total"] > 0


@pytest.mark.parametrize("route", STREAMING, ids=[route.path for route in STREAMING])
def test_streams_come_in_time_and_are_noted_whole(caller: Caller, route: Ask) -> None:
    """Events come one by one at the pace that the marker names, and the record says that all were sent."""
    arrived = []
    body = route.body("sandbox-gap: 0.03", stream=True)
    with caller.http.stream("POST", route.path, json=body) as response:
        assert "text/event-stream" == response.headers["content-type"]
        arrived += [time.monotonic() for line in response.iter_lines() if line.startswith("data: ")]
    assert len(arrived) >= 5
    assert min(after - before for before, after in pairwise(arrived)) >= 0
    assert arrived[-1] - arrived[0] > 0.02 * (len(arrived) - 1)
    record = caller.ended()
    assert (True, True, "complete") == (record["stream"], record["whole"], record["end"])
    assert record["usage"]


def test_a_stream_that_is_left_is_not_whole(caller: Caller) -> None:
    """A caller that hangs up before the end leaves a record that says so, with what the answer would have cost."""
    body = CHAT.body("sandbox-gap: 5", stream=True)
    with caller.http.stream("POST", CHAT.path, json=body) as response:
        next(response.iter_raw())
    record = caller.ended()
    assert ("cancelled", False, None) == (record["end"], record["whole"], record["usage"])
    assert record["tokens"]["output"] > 0


def listed(caller: Caller, path: str = "/v1/models", **headers: str) -> httpx.Response:
    """A list of models, as somebody with these headers gets it."""
    return caller.http.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_models_are_listed_by_who_asks(caller: Caller) -> None:
    """OpenAI's list names endpoint types, Anthropic's comes by its two headers, and one entry has either shape."""
    own = listed(caller).json()
    assert "list" == own["object"]
    assert all(entry["supported_endpoint_types"] for entry in own["data"])
    theirs = listed(caller, x_api_key=KEY, anthropic_version="2023-06-01").json()
    assert [entry["id"] for entry in own["data"]] == [entry["id"] for entry in theirs["data"]]
    assert (theirs["data"][0]["id"], theirs["data"][-1]["id"], False) == tuple(
        theirs[key] for key in ("first_id", "last_id", "has_more")
    )
    assert "model" == listed(caller, "/v1/models/o3").json()["object"]
    entry = listed(caller, "/v1/models/o3", x_api_key=KEY, anthropic_version="2023-06-01").json()
    assert ("model", "o3") == (entry["type"], entry["display_name"])


@pytest.mark.parametrize(
    ("path", "headers"), [("/v1/models/llama-9", {}), ("/v1/models", {"x_goog_api_key": "x"}), ("/v1/models?key=x", {})]
)
def test_an_unknown_model_is_an_error_with_status_200(caller: Caller, path: str, headers: dict[str, str]) -> None:
    """What new-api does not find is a 200 with an error, and so is its answer to Google's headers."""
    response = listed(caller, path, **headers)
    assert (200, "model_not_found") == (response.status_code, response.json()["error"]["code"])


def test_listed_models_answer(caller: Caller) -> None:
    """Every model of the list answers on a route for its kind."""
    dashscope = {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}
    asked: dict[str | None, tuple[str, dict[str, Any]]] = {
        "text": ("/v1/responses", {"input": "hi"}),
        "embedding": ("/v1/embeddings", {"input": "hi"}),
        "image": ("/v1/images/generations", {"prompt": "hi", "input": dashscope, "size": "64x64"}),
        "speech": ("/v1/audio/speech", {"input": "hi", "voice": "alloy"}),
        "video": ("/v1/videos", {"prompt": "hi"}),
    }
    for model in [entry["id"] for entry in listed(caller).json()["data"] if kind(entry["id"]) != "transcription"]:
        path, body = asked[kind(model)]
        assert 200 == caller.http.post(path, json={"model": model, **body}).status_code, model
