"""Bad input: the exact status, reason and message of each, and nothing of it reaches the upstream."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import Intervals
from gateway.config.clients import new_key
from tests.support.gateway import GENERATE, TEXT, Gateway, Upstream, running
from tests.support.valkey import Valkey
from tests.support.wire import wire

NOT_VALID = "API key not valid. Please pass a valid API key."
MODEL = "A model name is 1 to 128 letters, digits, dots, dashes and underscores, like gemini-2.5-flash."
ROUTE = "No such route. Those of Gemini's, OpenAI's and Anthropic's APIs are served; /docs lists all routes."
MISSING = "The path names no model. Call /v1beta/models/{model}:generateContent, for example with gemini-2.5-flash."


def named(model: str) -> str:
    """The path of a call to this model."""
    return f"/v1beta/models/{model}:generateContent"


REFUSED: list[tuple[str, str, dict[str, Any], int, str, str]] = [
    ("POST", "/nope", {}, 404, "ROUTE_UNKNOWN", ROUTE),
    ("POST", "/v1beta/models/gemini-2.5-flash:predict", {}, 404, "ROUTE_UNKNOWN", ROUTE),
    ("POST", "/upload/v1beta/files", {}, 404, "ROUTE_UNKNOWN", ROUTE),
    ("GET", GENERATE, {}, 405, "METHOD", "This route takes POST only."),
    ("DELETE", "/v1beta/models", {}, 405, "METHOD", "This route takes GET, HEAD only."),
    ("POST", named(""), {}, 400, "MODEL_MISSING", MISSING),
    ("POST", named("..%2f..%2fv1"), {}, 400, "BAD_REQUEST", MODEL),
    ("POST", named("x%23y"), {}, 400, "BAD_REQUEST", MODEL),
    ("POST", named("x%0d%0aHost:%20evil".replace(":", "%3a")), {}, 400, "BAD_REQUEST", MODEL),
    ("POST", named("%252e%252e"), {}, 400, "BAD_REQUEST", MODEL),
    ("POST", named("m" * 300), {}, 400, "BAD_REQUEST", MODEL),
    ("POST", named("x%00"), {}, 400, "BAD_REQUEST", MODEL),
    ("POST", GENERATE, {"x-goog-api-key": ""}, 401, "KEY_MISSING", NOT_VALID),
    ("POST", GENERATE, {"x-goog-api-key": "thg_wrong"}, 401, "KEY_INVALID", NOT_VALID),
    ("POST", GENERATE, {"x-goog-api-key": new_key()}, 401, "KEY_INVALID", NOT_VALID),
    (
        "POST", GENERATE, {"authorization": f"Bearer {new_key()}"}, 400, "CONFLICTING_KEYS",
        "Two different API keys were sent. Send one, in the header that your SDK has for it.",
    ),
    ("POST", GENERATE, {"content-type": "text/plain"}, 415, "CONTENT_TYPE", "Send the body as application/json."),
    (
        "POST", GENERATE, {"content-encoding": "gzip"}, 415, "CONTENT_TYPE",
        "Send the body without a content-encoding.",
    ),
    (
        "POST", named("gpt-5"), {}, 403, "MODEL_NOT_ALLOWED",
        "This key may not use gpt-5. Ask for it, or list the models to see which it may use.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "headers", "status", "reason", "message"), REFUSED)
async def test_bad_input_is_refused(
    tmp_path: Path, upstream: Upstream, state: Valkey, method: str, path: str, headers: dict[str, str], status: int,
    reason: str, message: str,
) -> None:  # fmt: skip
    """P1 P11 K3: each has its status, reason and message in Google's shape, and the upstream never hears of it."""
    terms = {"design": 'models = ["gemini-*"]'}
    async with running(tmp_path, upstream.url, redis_url=state.url, clients=terms) as gateway:
        response = await gateway.http.request(method, path, json=TEXT, headers=headers)
        entry = await gateway.entry()

    error = response.json()["error"]
    assert (status, status, message) == (response.status_code, error["code"], error["message"])
    assert reason == error["details"][0]["reason"]
    assert "application/json" == response.headers["content-type"]
    assert entry["request_id"] == response.headers["x-request-id"]
    assert ("unauthenticated" if status == 401 else "refused", status) == (entry["outcome"], entry["status"])
    assert [] == await upstream.log()


async def test_a_body_over_the_limit_is_refused_by_its_length(
    tmp_path: Path, upstream: Upstream, state: Valkey
) -> None:
    """D7: a declared length beyond the limit is a 413 before a byte of it is read, and the caller reads the answer."""
    async with running(tmp_path, upstream.url, redis_url=state.url, max_body_bytes=1000) as gateway:
        response = await gateway.http.post(
            GENERATE, content=b"x" * 3_000_000, headers={"content-type": "application/json"}
        )

    error = response.json()["error"]
    assert (413, "BODY_TOO_LARGE") == (response.status_code, error["details"][0]["reason"])
    assert "The request body is larger than 1000 bytes. Send smaller pictures, or fewer of them." == error["message"]
    assert "close" == response.headers["connection"]
    assert [] == await upstream.log()


async def test_a_length_over_the_limit_comes_before_a_limit_of_calls(tmp_path: Path, state: Valkey) -> None:
    """Interface, order of checks: a client whose calls are all under way is told of its body first."""
    asked, one = asyncio.Event(), {"design": "concurrent = 1"}

    async def play(_: bytes, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        asked.set()
        await reader.read()  # until they hang up

    async with (
        wire(play) as upstream,
        running(tmp_path, upstream.url, clients=one, redis_url=state.url, max_body_bytes=1000) as gateway,
    ):
        first = asyncio.create_task(gateway.http.post(GENERATE, json=TEXT))
        await asked.wait()
        second = await gateway.http.post(GENERATE, content=b"x" * 3000, headers={"content-type": "application/json"})
        third = await gateway.http.post(GENERATE, json=TEXT)
        first.cancel()
    assert (413, 429) == (second.status_code, third.status_code)


async def test_a_chunked_body_over_the_limit_is_refused(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """D7: without a declared length the first byte beyond the limit is one too many."""

    async def endless() -> Any:
        for _ in range(100):
            yield b"x" * 100

    async with running(tmp_path, upstream.url, redis_url=state.url, max_body_bytes=1000) as gateway:
        headers = {"content-type": "application/json"}
        response = await gateway.http.post(GENERATE, content=endless(), headers=headers)

    assert 413 == response.status_code
    assert [] == await upstream.log()


async def test_a_body_that_does_not_come(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """D2: a body that comes too slowly is a 408 that is read, whatever drips; nothing stays held or is asked."""

    async def dripping() -> Any:
        for _ in range(40):
            yield b" "
            await asyncio.sleep(0.02)  # slow on purpose: it drips beyond the deadline

    soon = Intervals(body_seconds=0.3)
    async with running(tmp_path, upstream.url, redis_url=state.url, intervals=soon) as gateway:
        response = await gateway.http.post(GENERATE, content=dripping(), headers={"content-type": "application/json"})
        entry = await gateway.entry()
        assert (408, "BODY_TIMEOUT") == (response.status_code, response.json()["error"]["details"][0]["reason"])
        assert ("refused", "close") == (entry["outcome"], response.headers["connection"])
        assert [] == await upstream.log()
        await gateway.at_rest()


async def test_a_caller_who_leaves_in_the_middle_of_the_body(gateway: Gateway, upstream: Upstream) -> None:
    """D4: a truncated body is nobody's call any more: counted as `client_gone`, and the upstream never hears of it."""
    host, port = gateway.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {GENERATE} HTTP/1.1\r\nhost: x\r\nx-goog-api-key: {gateway.key}\r\ncontent-length: 100\r\n\r\n"
    writer.write(head.encode() + b'{"contents":')
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    entry = await gateway.entry()
    assert ("client_gone", 499, 0) == (entry["outcome"], entry["status"], entry["attempts"])
    assert [] == await upstream.log()


async def test_invalid_json_is_the_upstreams_to_refuse(gateway: Gateway, upstream: Upstream) -> None:
    """Invalid JSON passes untouched, and the upstream's error comes back in Google's shape."""
    response = await gateway.http.post(
        GENERATE, content=b'{"contents": [', headers={"content-type": "application/json"}
    )

    (seen,) = await upstream.log()
    assert (400, 400) == (response.status_code, response.json()["error"]["code"])
    assert 14 == seen["body_bytes"]
    assert "upstream_error" == (await gateway.entry())["outcome"]


async def test_a_gateway_that_stops_refuses(gateway: Gateway, upstream: Upstream) -> None:
    """X1: a call that still comes to a stopping gateway gets a 503 that says when to come back, and where not."""
    gateway.app.begin_drain()
    assert 503 == (await gateway.http.get("/readyz")).status_code
    gateway.app.stop_accepting()

    response = await gateway.http.post(GENERATE, json=TEXT)
    assert (503, "1", "close") == (
        response.status_code, response.headers["retry-after"], response.headers["connection"],
    )  # fmt: skip
    assert "DRAINING" == response.json()["error"]["details"][0]["reason"]
    assert [] == await upstream.log()


async def test_more_than_may_be_held_is_refused(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """D8: a body for which there is no room is a 503 that says when to come back, and nothing stays held."""
    async with running(tmp_path, upstream.url, redis_url=state.url, max_buffered_bytes=1000) as gateway:
        response = await gateway.http.post(GENERATE, content=b" " * 2000, headers={"content-type": "application/json"})
        await gateway.at_rest()

    assert (503, "1") == (response.status_code, response.headers["retry-after"])
    assert "OVERLOADED" == response.json()["error"]["details"][0]["reason"]


async def test_request_ids(gateway: Gateway) -> None:
    """A well-formed request id is the caller's; any other is ours."""
    for sent, kept in (("abc.DEF_1-2", True), ("no spaces", False), ("x" * 65, False)):
        response = await gateway.http.post(GENERATE, json=TEXT, headers={"x-request-id": sent})
        assert kept == (response.headers["x-request-id"] == sent)


async def test_probes_need_no_key(gateway: Gateway) -> None:
    """M6 K7: probes and docs answer anybody, HEAD too, and a wrong method gets our own shape."""
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False) as stranger:
        for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
            assert 200 == (await stranger.get(path)).status_code
            assert 200 == (await stranger.head(path)).status_code
        refused = await stranger.post("/healthz")
        page = (await stranger.get("/docs")).text
        spec = (await stranger.get("/openapi.json")).json()
    assert (405, "METHOD") == (refused.status_code, refused.json()["error"]["details"][0]["reason"])
    assert not any(mark in page for mark in ('src="http', 'href="http', "//cdn"))
    assert "/v1beta/models/{model}:generateContent" in spec["paths"]
