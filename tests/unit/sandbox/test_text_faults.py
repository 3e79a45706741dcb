"""Does each fault do what it says on the text routes?"""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.sandbox import markers
from gateway.sandbox.faults import NAMES

from .conftest import CHAT, EMBEDDINGS, KEY, MESSAGES, RESPONSES, STREAMING, Ask, Caller, named_events_of

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs/sandbox.md"
ROUTES = (*STREAMING, EMBEDDINGS)
on_every_route = pytest.mark.parametrize("route", ROUTES, ids=[route.path for route in ROUTES])
on_text_routes = pytest.mark.parametrize("route", STREAMING, ids=[route.path for route in STREAMING])


def spoiled(caller: Caller, spec: str, route: Ask, **body: Any) -> httpx.Response:
    """Call with the fault asked for in the prompt, as through a gateway."""
    return caller.ask(route, f"please sandbox-fault: {spec} now", **body)


def said(answer: dict[str, Any]) -> str:
    """The text of an answer in any dialect; an empty one where there is none."""
    if "choices" in answer:
        choice = answer["choices"][0]
        return str(choice.get("text") or choice.get("message", {}).get("content") or "")
    blocks = answer["content"] if "content" in answer else answer["output"][0]["content"]
    return str(blocks[0]["text"])


def ended(answer: dict[str, Any]) -> str | None:
    """Why an answer ended, in the words of its dialect."""
    if "choices" in answer:
        reason: str | None = answer["choices"][0]["finish_reason"]
        return reason
    if "stop_reason" in answer:
        stop: str | None = answer["stop_reason"]
        return stop
    return str(answer["incomplete_details"]["reason"])


def test_every_fault_is_described() -> None:
    """docs/sandbox.md has each fault by name, and the docstring of faults.py too."""
    for path in (DOCS, ROOT / "gateway/sandbox/faults.py"):
        text = path.read_text()
        assert set() == {name for name in NAMES if not re.search(rf"`{name}[`=\[*]", text)}


def test_every_marker_is_described() -> None:
    """docs/sandbox.md has each marker by name, and the docstring of markers.py too."""
    for path in (DOCS, ROOT / "gateway/sandbox/markers.py"):
        text = path.read_text()
        assert set() == {name for name in markers.NAMES if f"`sandbox-{name}: " not in text}


@on_every_route
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("spec", ["400", "429", "429=7", "500", "503", "529"])
def test_statuses_are_in_the_shape_of_the_route(caller: Caller, route: Ask, spec: str, stream: bool) -> None:
    """Any status, with Retry-After only where it is asked for, also for a stream; such a call costs nothing."""
    response = spoiled(caller, spec, route, stream=stream)
    body = response.json()
    assert (int(spec[:3]), "7" if "=" in spec else None) == (response.status_code, response.headers.get("retry-after"))
    assert (route == MESSAGES) == (body.get("type") == "error")
    assert f"(request id: {response.headers['x-oneapi-request-id']})" in body["error"]["message"]
    assert None is caller.log()[0]["tokens"]


@pytest.mark.parametrize(("spec", "kind"), [("429", "rate_limit_error"), ("529", "overloaded_error")])
def test_anthropics_words_for_overload(caller: Caller, spec: str, kind: str) -> None:
    """The type says which overload it is."""
    assert kind == spoiled(caller, spec, MESSAGES).json()["error"]["type"]


@on_every_route
def test_any_shape_on_any_route(caller: Caller, route: Ask) -> None:
    """A relay answers in shapes of other routes; so do those from before the relay."""
    openai = spoiled(caller, "openai=429/3", route)
    assert (429, "3", "rate_limit") == (
        openai.status_code,
        openai.headers["retry-after"],
        openai.json()["error"]["code"],
    )
    anthropic = spoiled(caller, "anthropic=529", route)
    assert (529, "overloaded_error") == (anthropic.status_code, anthropic.json()["error"]["type"])
    task = spoiled(caller, "task=500", route)
    assert (500, {"code", "message", "data"}) == (task.status_code, set(task.json()))
    assert "RESOURCE_EXHAUSTED" == spoiled(caller, "google=429", route).json()["error"]["status"]
    for spec, status, code in (("quota", 403, "insufficient_user_quota"), ("key", 401, ""), ("invalidurl", 404, "")):
        response = spoiled(caller, spec, route)
        assert (status, code) == (response.status_code, response.json()["error"]["code"])
    assert f"Invalid URL (POST {route.path})" in spoiled(caller, "invalidurl", route).json()["error"]["message"]
    assert f"Bearer {KEY}" in spoiled(caller, "echokey", route).json()["error"]["message"]


@on_every_route
def test_answers_that_do_not_match_their_head(caller: Caller, route: Ask) -> None:
    """An error with status 200, HTML, nothing, half of the JSON, gzip: as on Gemini's routes."""
    error = spoiled(caller, "error200", route)
    assert (200, True) == (error.status_code, "error" in error.json())
    assert ["text/html"] * 2 == [spoiled(caller, spec, route).headers["content-type"] for spec in ("html", "html200")]
    assert b"" == spoiled(caller, "empty", route).content
    with pytest.raises(json.JSONDecodeError):
        spoiled(caller, "badjson", route).json()
    body = route.body("sandbox-fault: gzip")
    with caller.http.stream("POST", route.path, json=body) as response:
        assert b"usage" in gzip.decompress(b"".join(response.iter_raw()))


@on_every_route
def test_two_bodies_in_one_answer(caller: Caller, route: Ask) -> None:
    """A limiter that writes and goes on: the first body is the error, the second the answer, one length for both."""
    for spec, status in (("twice=429", 429), ("twice", 200)):
        response = spoiled(caller, spec, route)
        assert (status, str(len(response.content))) == (response.status_code, response.headers["content-length"])
        first, end = json.JSONDecoder().raw_decode(response.text)
        assert bool(first.get("error")) is (status == 429)
        assert json.loads(response.text[end:])["usage"] == caller.log()[-1]["usage"]


@on_text_routes
def test_answers_that_say_something_unusual(caller: Caller, route: Ask) -> None:
    """Filtered, a link, far too much text, no reason for the end: in the words of the dialect."""
    assert "" == said(spoiled(caller, "blocked", route).json())
    safe = spoiled(caller, "safety", route).json()
    assert "sandbox" in said(safe)
    assert {"/v1/messages": "refusal"}.get(route.path, "content_filter") == ended(safe)
    assert said(spoiled(caller, "link", route).json()).startswith("![image](http://169.254.169.254/")
    assert 300_000 == len(said(spoiled(caller, "toolong=300000", route).json()))
    if route != RESPONSES:
        assert None is ended(spoiled(caller, "nofinish", route).json())


@on_every_route
def test_lies_about_usage_and_model(caller: Caller, route: Ask) -> None:
    """No usage, more tokens than true, another model; the log keeps the truth."""
    assert None is spoiled(caller, "nousage", route).json().get("usage")
    assert None is caller.log()[0]["usage"]
    more, true = spoiled(caller, "moretokens=500", route).json()["usage"], caller.log()[1]["tokens"]
    reported = more.get("total_tokens") or more["input_tokens"] + more["output_tokens"]
    assert true["total"] + 500 == reported
    assert ["another-model", "gpt-9"] == [
        spoiled(caller, spec, route).json()["model"] for spec in ("othermodel", "othermodel=gpt-9")
    ]
    assert route.model == caller.log()[2]["model"]


@pytest.mark.parametrize(("route", "wish"), [(CHAT, "reasoning_effort"), (RESPONSES, "reasoning")])
def test_reasoning_beside_the_completion(caller: Caller, route: Ask, wish: str) -> None:
    """As xAI counts: the sum holds the reasoning, the completion does not."""
    effort: Any = "low" if wish == "reasoning_effort" else {"effort": "low"}
    usage = spoiled(caller, "beside", route, **{wish: effort}).json()["usage"]
    prompt, completion, details = (
        ("prompt_tokens", "completion_tokens", "completion_tokens_details")
        if route == CHAT
        else ("input_tokens", "output_tokens", "output_tokens_details")
    )
    thoughts = usage[details]["reasoning_tokens"]
    assert thoughts > 0
    assert usage["total_tokens"] == usage[prompt] + usage[completion] + thoughts


@on_text_routes
def test_the_other_kind_of_answer(caller: Caller, route: Ask) -> None:
    """JSON for a call that is a stream, a stream for one that is none; each says the same."""
    stream = spoiled(caller, "json", route, stream=True)
    assert "application/json" == stream.headers["content-type"]
    assert "please sandbox-fault: json now" in said(stream.json()) or route.path == "/v1/completions"
    unary = spoiled(caller, "sse", route)
    assert "text/event-stream" == unary.headers["content-type"]
    assert len(named_events_of(unary.text)) > 4
    assert all(record["whole"] for record in caller.log())


def test_faults_count_and_come_by_header(caller: Caller) -> None:
    """`*1` spoils one call of a body; a header asks for a fault too; one that does not exist is a 400."""
    assert [529, 200] == [spoiled(caller, "529*1", MESSAGES).status_code for _ in range(2)]
    assert 503 == caller.http.get("/v1/models", headers={"x-sandbox-fault": "503"}).status_code
    assert 400 == spoiled(caller, "nonsense", CHAT).status_code
    assert 400 == spoiled(caller, "moretokens=many", CHAT).status_code
