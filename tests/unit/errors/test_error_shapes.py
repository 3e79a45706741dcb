"""Is every error written so that the callers of each API read it?"""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway import errors
from gateway.errors import ANTHROPIC, GOOGLE, OPENAI, RESPONSES, TASK, VIDEOS, ErrorShape, GatewayError, shape_for
from gateway.upstream.fault import fault_of
from tests.support.gateway import TEXT, running

GEMINIS = b"/v1beta/models/m:generateContent"
SIGNS: dict[bytes, ErrorShape] = {
    b"/v1/messages": ANTHROPIC, b"/v1/messages/count_tokens": ANTHROPIC, b"/anthropic/v1/messages/batches": ANTHROPIC,
    GEMINIS: GOOGLE, b"/v1beta": GOOGLE, b"/v1/models/m:predict": GOOGLE, b"/v1/models/m%3Apredict": GOOGLE,
    b"/v1/video/generations": TASK, b"/v1/video/generations/x": TASK,
    b"/v1/chat/completions": OPENAI, b"/chat/completions/": OPENAI, b"/v1/": OPENAI, b"/v1/nothing": OPENAI,
    b"/openai/responses/x/cancel": OPENAI, b"/x/videos/y/content": OPENAI, b"/images/generations": OPENAI,
    b"/v1beta/openai/files": OPENAI, b"/v1beta//openai/responses": OPENAI, b"/v1beta/openai": GOOGLE,
    b"/v1/models": OPENAI, b"/x/dashboard/billing/usage": OPENAI,
    b"": GOOGLE, b"/": GOOGLE, b"/models": GOOGLE, b"/x/filesystem": GOOGLE, b"/v2/chat": GOOGLE, b"/\xff": GOOGLE,
}  # fmt: skip


@pytest.mark.parametrize(("path", "shape"), SIGNS.items())
def test_a_path_shows_whose_it_is(path: bytes, shape: ErrorShape) -> None:
    """P11: a path without a route is answered in the shape of the API that it looks like."""
    assert shape is shape_for(path, [b"host", b"authorization"])


def test_headers_show_it_too() -> None:
    """P11: only Anthropic's SDKs send their version, and only Google's the headers that begin with x-goog."""
    assert shape_for(b"/v1/nothing", [b"anthropic-version"]) is ANTHROPIC
    assert shape_for(GEMINIS, [b"anthropic-version"]) is ANTHROPIC
    assert shape_for(b"/v1/nothing", [b"x-goog-api-client"]) is GOOGLE


def every_error() -> list[GatewayError]:
    """One of each class that callers can meet."""
    special: dict[str, tuple[Any, ...]] = {
        "ModelNotAllowed": ("m",), "ModelUnknown": ("m", ["n"]), "MethodNotAllowed": ("POST",), "BodyTooLarge": (9,),
        "BreakerOpen": ("m", 3), "UpstreamRefused": (fault_of(500, "", b"", ""),),
    }  # fmt: skip
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, GatewayError)]
    return [kind(*special.get(kind.__name__, ())) for kind in kinds if hasattr(kind, "reason")]


def test_an_error_that_leaves_a_task_in_doubt() -> None:
    """U4: whoever would send it again is told not to, in the place of whatever else was advised."""
    for error in (errors.UpstreamBroke(), errors.UpstreamTimeout(), errors.Draining(), errors.Internal()):
        error.leaves_task_in_doubt()
        said = json.loads(TASK.write(error))["message"]
        assert said.startswith(type(error).message)
        assert "task may have been created" in said
        assert "try again" not in said
        assert "retry" not in said
        assert [(b"x-should-retry", b"false")] == TASK.headers(error)
        assert [] == error.headers


def test_the_relays_own_errors_gain_the_object_that_sdks_read() -> None:
    """U12: on OpenAI's path an error in the relay's shape keeps its members, and one in OpenAI's passes as it is."""
    said = json.loads(VIDEOS.pass_on(fault_of(400, "", b'{"code":"busy","message":"slow","data":null}', "")))
    assert ("busy", "slow", "slow", "busy") == (
        said["code"], said["message"], said["error"]["message"], said["error"]["code"],
    )  # fmt: skip
    openais = b'{"error":{"message":"slow","type":"x"}}'
    assert openais == VIDEOS.pass_on(fault_of(400, "", openais, ""))


def test_every_error_can_be_written() -> None:
    """U12: each error of ours has its message, and the fields that each API's SDKs look for."""
    assert len(every_error()) > 25
    for error in every_error():
        google = json.loads(GOOGLE.write(error, "r-1", "design"))["error"]
        assert (error.code, error.message, str) == (google["code"], google["message"], type(google["status"]))
        openai = json.loads(OPENAI.write(error, "r-1", "design"))["error"]
        assert {"message", "type", "param", "code"} == openai.keys()
        anthropic = json.loads(ANTHROPIC.write(error, "r-1", "design"))
        assert ("error", "r-1", error.message) == (
            anthropic["type"],
            anthropic["request_id"],
            anthropic["error"]["message"],
        )
        task = json.loads(TASK.write(error, "r-1", "design"))
        assert (openai, openai["code"], error.message, None) == (
            task["error"],
            task["code"],
            task["message"],
            task["data"],
        )


@pytest.mark.parametrize(
    ("error", "openai", "anthropic", "retried"),
    [
        (errors.KeyInvalid(), ("invalid_request_error", "invalid_api_key", None), "authentication_error", True),
        (errors.BadRequest("no"), ("invalid_request_error", "bad_request", None), "invalid_request_error", True),
        (errors.ModelMissing(), ("invalid_request_error", "model_missing", "model"), "invalid_request_error", True),
        (errors.ModelNotAllowed("m"), ("invalid_request_error", "model_not_allowed", "model"), "permission_error", True),
        (errors.RouteUnknown(), ("invalid_request_error", "route_unknown", None), "not_found_error", True),
        (errors.BodyTooLarge(9), ("invalid_request_error", "body_too_large", None), "request_too_large", True),
        (
            errors.RateLimited("slow", metadata={"limit": "tokens_per_minute"}),
            ("tokens", "rate_limit_exceeded", None), "rate_limit_error", True,
        ),
        (
            errors.RateLimited("slow", metadata={"limit": "requests_per_minute"}),
            ("requests", "rate_limit_exceeded", None), "rate_limit_error", True,
        ),
        (errors.BudgetSpent("spent"), ("insufficient_quota", "insufficient_quota", None), "rate_limit_error", False),
        (errors.UpstreamUnreachable(), ("server_error", "upstream_unreachable", None), "api_error", True),
        (errors.UpstreamTimeout(), ("server_error", "upstream_timeout", None), "timeout_error", True),
        (errors.UpstreamKeyRefused(), ("server_error", "upstream_key_refused", None), "api_error", False),
        (errors.Draining(), ("server_error", "draining", None), "overloaded_error", True),
        (errors.NotCached(), ("invalid_request_error", "not_cached", None), "not_found_error", False),
        (errors.Internal(), ("server_error", "internal", None), "api_error", True),
    ],
)  # fmt: skip
def test_words_that_sdks_act_by(
    error: GatewayError, openai: tuple[str, str, str | None], anthropic: str, retried: bool
) -> None:
    """U12: type, code and param of OpenAI, Anthropic's type, and whether an SDK is told not to try again."""
    said = json.loads(OPENAI.write(error))["error"]
    assert openai == (said["type"], said["code"], said["param"])
    assert anthropic == json.loads(ANTHROPIC.write(error))["error"]["type"]
    for shape in (OPENAI, ANTHROPIC, TASK):
        assert ([] if retried else [(b"x-should-retry", b"false")]) == shape.headers(error)
    assert [] == GOOGLE.headers(error)


BODIES = {
    "google": b'{"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED"}}',
    "openai": b'{"error":{"message":"slow","type":"new_api_error","param":"","code":null}}',
    "anthropic": b'{"type":"error","error":{"type":"rate_limit_error","message":"slow"}}',
    "task": b'{"code":"busy","message":"slow","data":null}',
}
TAKES: dict[str, ErrorShape] = {"google": GOOGLE, "openai": OPENAI, "anthropic": ANTHROPIC, "task": TASK}


@pytest.mark.parametrize("said", BODIES)
@pytest.mark.parametrize("wanted", TAKES)
def test_an_error_of_the_upstream(said: str, wanted: str) -> None:
    """U12: in the caller's own shape it passes byte for byte; any other is read, and written in the caller's."""
    fault = fault_of(429, "application/json", BODIES[said], "sk-secret")
    assert (said, "slow") == (fault.shape, fault.message)
    passed = TAKES[wanted].pass_on(fault, "r-1")
    assert (passed == BODIES[said]) == (said == wanted or (said, wanted) == ("openai", "task"))
    assert "slow" in json.dumps(json.loads(passed))
    if said != wanted:
        assert wanted == fault_of(429, "", passed, "").shape or wanted == "task"


@pytest.mark.parametrize("shape", TAKES.values(), ids=TAKES)
def test_the_end_of_a_stream(shape: ErrorShape) -> None:
    """U6: an error ends a stream as one event on one line; Anthropic's has a name, since its SDKs drop any other."""
    ending = shape.ending(b'{"error":\r\n"x"}')
    assert ending.endswith(b'data: {"error":  "x"}\n\n')
    assert (shape is ANTHROPIC) == ending.startswith(b"event: error\n")


def test_the_end_of_a_response() -> None:
    """U6: the Responses API ends a stream by an event of its own kind, in which each client finds what it reads."""
    error = errors.UpstreamBroke()
    ending = RESPONSES.ending(RESPONSES.write(error))
    name, _, data = ending.partition(b"\n")
    assert (b"event: error", True) == (name, data.endswith(b"\n\n"))
    said = json.loads(data.removeprefix(b"data: "))
    assert ("error", 0, "upstream_broke", error.message, None) == (
        said["type"], said["sequence_number"], said["code"], said["message"], said["param"],
    )  # fmt: skip
    assert json.loads(OPENAI.write(error))["error"] == said["error"]
    numbered = json.loads(RESPONSES.ending(b'{"error":{"message":"slow","type":"x","code":429}}').split(b"data: ")[1])
    assert ("429", 429) == (numbered["code"], numbered["error"]["code"])
    for unreadable in (b"", b"[]", b'{"error":7}', b"{}"):
        assert b'"type":"error"' in RESPONSES.ending(unreadable)


@pytest.mark.parametrize(
    ("path", "headers", "found"),
    [
        ("/v1/files", {}, ("error", "type")),
        ("/v1/messages/batches", {}, ("request_id",)),
        ("/v1/nothing", {"anthropic-version": "2023-06-01"}, ("request_id",)),
        ("/v1/video/generations/x/y", {}, ("data",)),
        ("/v1beta/nothing", {}, ("error", "status")),
    ],
)
async def test_strangers_on_a_wrong_path(tmp_path: Path, path: str, headers: Any, found: tuple[str, ...]) -> None:
    """P11: without a route, and without a request, callers are answered in the shape that they read."""
    async with (
        running(tmp_path, "http://127.0.0.1:9") as gateway,
        httpx.AsyncClient(
            base_url=gateway.url, headers={"authorization": f"Bearer {gateway.key}"}, trust_env=False
        ) as http,
    ):
        unknown = await http.post(path, json=TEXT, headers=headers)
        assert 404 == unknown.status_code
        body: Any = unknown.json()
        for name in found:
            assert name in body
            body = body[name]
        broken = await http.post(path, json=TEXT, headers=headers | {"x-long": "x" * 40_000})
        assert 431 == broken.status_code
        assert unknown.json().keys() == broken.json().keys()


@pytest.mark.parametrize("path", [b"/models/" * 32_000, b"/v1beta" + b"/" * 256_000, b"/x/videos" * 28_000])
def test_no_path_takes_long(path: bytes) -> None:
    """D9: however long a path is and whatever it repeats, its signs are seen in one pass."""
    began = time.process_time()
    shape_for(path, ())
    assert time.process_time() - began < 2
