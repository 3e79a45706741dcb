"""Anthropic's Messages API through the gateway, as its SDKs and coding agents call it."""

import contextlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.config.clients import new_key
from tests.support.gateway import UPSTREAM_KEY, Gateway, running
from tests.support.valkey import Valkey
from tests.support.wire import answer, chunked, saying, wire

RECORDED = Path(__file__).parents[1] / "unit" / "dialects" / "anthropic"
MESSAGES, COUNT = "/v1/messages?beta=true", "/v1/messages/count_tokens?beta=true"
ASKED: dict[str, Any] = {
    "model": "claude-sonnet-4-5", "max_tokens": 32000, "messages": [{"role": "user", "content": "Hello"}],
}  # fmt: skip
STREAMED = ASKED | {"stream": True}
TEXT = (RECORDED / "text.sse").read_bytes()
CACHED = (RECORDED / "tool_use_cached.sse").read_bytes()
MESSAGE = (RECORDED / "message.json").read_bytes()
OPENAIS = {"error": {"message": "No channel (request id: 2026)", "type": "new_api_error", "param": "", "code": None}}
ANTHROPICS = b'{"type":"error", "error":{"type":"overloaded_error","message":"Overloaded"},"request_id":"req_1"}'


def shape(response: httpx.Response) -> tuple[int, str]:
    """The status and the type of an error, which is in Anthropic's shape and says the id of the answer's header."""
    body = response.json()
    assert ({"type", "error", "request_id"}, "error") == (body.keys(), body["type"])
    assert {"type", "message"} == body["error"].keys()
    assert body["request_id"] == response.headers["x-request-id"] == response.headers["request-id"]
    assert "application/json" == response.headers["content-type"]
    return response.status_code, body["error"]["type"]


def counted(gateway: Gateway, kind: str) -> float:
    """How many tokens of a kind the metrics have."""
    return gateway.metric("gateway_tokens_total", kind=kind, client="design")


async def broken(gateway: Gateway, body: dict[str, Any]) -> tuple[bytes, httpx.Headers]:
    """What comes of an answer that is cut before its end."""
    written, is_cut = b"", True
    async with gateway.http.stream("POST", MESSAGES, json=body) as response:
        with contextlib.suppress(httpx.RemoteProtocolError):
            async for chunk in response.aiter_raw():
                written += chunk
            is_cut = False
    assert is_cut
    return written, response.headers


async def test_a_message(tmp_path: Path, state: Valkey) -> None:
    """A4: a unary answer passes byte for byte, and every kind of its tokens is counted."""
    async with (
        wire(saying(answer(MESSAGE))) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url) as gateway,
    ):
        response = await gateway.http.post(MESSAGES, json=ASKED)
        line = await gateway.entry()
        assert (200, MESSAGE, "application/json") == (
            response.status_code, response.content, response.headers["content-type"],
        )  # fmt: skip
        assert ("messages", "claude-sonnet-4-5", "ok") == (line["method"], line["model"], line["outcome"])
        assert (3595, 503, "reported") == (line["tokens_in"], line["tokens_out"], line["usage"])
        kinds = {"input": 2395, "cached": 1200, "output": 500, "thoughts": 3}
        assert kinds == {kind: counted(gateway, kind) for kind in kinds}
    assert upstream.heads[0].startswith(b"POST /v1/messages?beta=true HTTP/1.1\r\n")


@pytest.mark.parametrize(("recorded", "tokens"), [(TEXT, (25, 15)), (CACHED, (20556, 67))])
async def test_a_stream(tmp_path: Path, state: Valkey, recorded: bytes, tokens: tuple[int, int]) -> None:
    """U5, A4: every event passes with its name, pings too, and the counts of its end are the usage."""
    pieces = [piece + b"\n\n\n" for piece in recorded.split(b"\n\n") if piece]
    async with (
        wire(saying(*chunked(*pieces))) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url) as gateway,
    ):
        response = await gateway.http.post(MESSAGES, json=STREAMED, headers={"accept": "application/json"})
        line = await gateway.entry()
    assert (200, recorded, "text/event-stream") == (
        response.status_code, response.content, response.headers["content-type"],
    )  # fmt: skip
    assert ("ok", "reported", *tokens) == (line["outcome"], line["usage"], line["tokens_in"], line["tokens_out"])


@pytest.mark.parametrize("ends_cleanly", [True, False])
async def test_a_stream_that_is_cut(tmp_path: Path, state: Valkey, ends_cleanly: bool) -> None:
    """U6: a stream without a reason to stop is cut, however its upstream ended it, behind an error that SDKs see."""
    begun = TEXT[: TEXT.index(b"event: message_delta")]
    async with (
        wire(saying(*chunked(begun, end=ends_cleanly))) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url) as gateway,
    ):
        written, headers = await broken(gateway, STREAMED)
        line = await gateway.entry()
    passed, _, ending = written.partition(b"event: error\n")
    assert begun == passed
    error = json.loads(ending.removeprefix(b"data: "))
    assert ("error", "api_error", headers["x-request-id"]) == (
        error["type"],
        error["error"]["type"],
        error["request_id"],
    )
    assert ("upstream_broke", "estimated", 25) == (line["outcome"], line["usage"], line["tokens_in"])


@pytest.mark.parametrize("name", ["error_midway", "bare_error"])
async def test_an_error_in_a_stream(tmp_path: Path, state: Valkey, name: str) -> None:
    """U17: an error of the upstream's ends the stream by its own words, in an event that SDKs see, and then a cut."""
    recorded = (RECORDED / f"{name}.sse").read_bytes()
    async with (
        wire(saying(*chunked(recorded))) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url) as gateway,
    ):
        written, _ = await broken(gateway, STREAMED)
        line = await gateway.entry()
    passed, _, ending = written.rpartition(b"event: error\ndata: ")
    assert recorded.startswith(passed)
    assert passed.endswith(b'"text":"Hel"}}\n\n')
    assert json.loads(ending)["error"]["message"] in {"Overloaded", "do request failed (request id: 20261127)"}
    assert ("upstream_error", 25) == (line["outcome"], line["tokens_in"])


async def test_json_where_events_were_asked_for(tmp_path: Path, state: Valkey) -> None:
    """U5: a stream that is answered by one message passes as that, and is counted."""
    async with (
        wire(saying(answer(MESSAGE))) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url) as gateway,
    ):
        response = await gateway.http.post(MESSAGES, json=STREAMED)
        line = await gateway.entry()
    assert (200, MESSAGE, "application/json", 503) == (
        response.status_code, response.content, response.headers["content-type"], line["tokens_out"],
    )  # fmt: skip


async def test_what_crosses(tmp_path: Path, state: Valkey) -> None:
    """P7: Anthropic's own headers cross as they are; what names the caller or an account does not."""
    crossing = {
        "anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14",
        "anthropic-something-new": "yes", "idempotency-key": "k-1", "accept": "application/json",
    }  # fmt: skip
    private = {
        "anthropic-workspace-id": "w", "anthropic-dangerous-direct-browser-access": "true", "x-app": "cli",
        "x-stainless-retry-count": "0", "x-claude-code-session-id": "s", "cookie": "c=1", "user-agent": "Anthropic/JS 1",
        "authorization": "Bearer sk-ant-api03-of-the-developer",
    }  # fmt: skip
    async with (
        wire(saying(answer(MESSAGE), answer(MESSAGE), close=False)) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url) as gateway,
        httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http,
    ):
        response = await http.post(MESSAGES, json=ASKED, headers={"x-api-key": gateway.key, **crossing, **private})
        assert 200 == response.status_code
    sent = dict(line.split(": ", 1) for line in upstream.heads[0].decode().split("\r\n")[1:] if line)
    sent = {name.lower(): value for name, value in sent.items()}
    assert crossing == {name: value for name, value in sent.items() if name in crossing}
    assert f"Bearer {UPSTREAM_KEY}" == sent["authorization"]
    assert not {"x-api-key", *private} - {"authorization", "user-agent"} & sent.keys()
    assert private["user-agent"] != sent.get("user-agent")
    assert gateway.key not in upstream.heads[0].decode()


async def test_our_refusals(tmp_path: Path, state: Valkey) -> None:
    """P11, K3: each is in Anthropic's shape with its type, and nothing reaches the upstream."""
    clients = {"design": 'models = ["claude-sonnet-*"]'}
    async with (
        wire(saying(answer(MESSAGE))) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url, clients=clients) as gateway,
    ):
        post, stranger = gateway.http.post, {"x-goog-api-key": new_key()}
        assert (401, "authentication_error") == shape(await post(MESSAGES, json=ASKED, headers=stranger))
        assert (403, "permission_error") == shape(await post(MESSAGES, json=ASKED | {"model": "claude-opus-4-1"}))
        assert (403, "permission_error") == shape(await post(COUNT, json=ASKED | {"model": "claude-opus-4-1"}))
        assert (404, "not_found_error") == shape(await post("/v1/messages/batches", json=ASKED))
        assert (405, "invalid_request_error") == shape(await gateway.http.get(MESSAGES))
        assert (400, "invalid_request_error") == shape(await post(MESSAGES, json={"max_tokens": 1}))
        twice = b'{"model":"claude-sonnet-4-5","Model":"claude-opus-4-1"}'
        assert (400, "invalid_request_error") == shape(
            await post(MESSAGES, content=twice, headers={"content-type": "application/json"})
        )
        assert (415, "invalid_request_error") == shape(
            await post(MESSAGES, content=b"model=claude", headers={"content-type": "application/x-www-form-urlencoded"})
        )
    assert [] == upstream.heads


async def test_a_limit_of_ours(tmp_path: Path, state: Valkey) -> None:
    """L1: a spent minute is a 429 of Anthropic's type, and says when to come again."""
    clients = {"design": "requests_per_minute = 1"}
    async with (
        wire(saying(answer(MESSAGE))) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url, clients=clients) as gateway,
    ):
        assert 200 == (await gateway.http.post(MESSAGES, json=ASKED)).status_code
        refused = await gateway.http.post(MESSAGES, json=ASKED)
    assert (429, "rate_limit_error") == shape(refused)
    assert 0 < int(refused.headers["retry-after"]) <= 60
    assert "x-should-retry" not in refused.headers


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400 Bad Request", "invalid_request_error"),
        ("403 Forbidden", "permission_error"),
        ("404 Not Found", "not_found_error"),
        ("413 Too Large", "request_too_large"),
        ("500 Internal Server Error", "api_error"),
        ("504 Gateway Timeout", "timeout_error"),
        ("529 Overloaded", "overloaded_error"),
    ],
)
async def test_errors_of_the_upstream(tmp_path: Path, state: Valkey, status: str, kind: str) -> None:
    """U12: an error in OpenAI's shape becomes Anthropic's with its message; one that has it passes byte for byte."""
    for body in (json.dumps(OPENAIS).encode(), ANTHROPICS):
        async with (
            wire(saying(answer(body, status=status))) as upstream,
            running(tmp_path, upstream.url, redis_url=state.url) as gateway,
        ):
            response = await gateway.http.post(MESSAGES, json=STREAMED)
        assert int(status[:3]) == response.status_code
        if body is ANTHROPICS:
            assert ANTHROPICS == response.content
        else:
            assert (response.status_code, kind) == shape(response)
            assert OPENAIS["error"]["message"] == response.json()["error"]["message"]


async def test_counts_of_tokens(tmp_path: Path, state: Valkey) -> None:
    """A4: a count passes as it came, costs no tokens, and misses none."""
    count = (RECORDED / "count.json").read_bytes()
    async with (
        wire(saying(answer(count))) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url, clients={"design": "tokens_per_day = 1"}) as gateway,
    ):
        response = await gateway.http.post(COUNT, json=ASKED)
        line = await gateway.entry()
        assert (200, count) == (response.status_code, response.content)
        assert ("countMessageTokens", "ok", 0, 0) == (
            line["method"], line["outcome"], line["tokens_in"], line["tokens_out"],
        )  # fmt: skip
        assert 0 == gateway.metric("gateway_usage_missing_total")
    assert upstream.heads[0].startswith(b"POST /v1/messages/count_tokens?beta=true HTTP/1.1\r\n")


async def test_an_upstream_that_cannot_count(tmp_path: Path, state: Valkey) -> None:
    """U12: its 404 is one of Anthropic's, so that tools estimate by themselves, and it is not asked again at once."""
    invalid = {"error": {"message": "Invalid URL (POST /v1/messages/count_tokens)", "type": "invalid_request_error"}}
    async with (
        wire(saying(answer(json.dumps(invalid).encode(), status="404 Not Found"))) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url) as gateway,
    ):
        for _ in range(3):
            assert (404, "not_found_error") == shape(await gateway.http.post(COUNT, json=ASKED))
    assert 1 == len(upstream.heads)


async def test_what_is_kept(tmp_path: Path, state: Valkey) -> None:
    """C2: a message is kept for a client who wants that, by what it asked with; none in which a tool of a server ran."""
    searching = ASKED | {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}
    async with (
        wire(saying(answer(MESSAGE))) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url, clients={"design": 'cache = "private"'}) as gateway,
    ):
        for body, headers, asked in (
            (ASKED, {}, 1), (ASKED, {}, 1), (ASKED, {"anthropic-beta": "context-1m-2025-08-07"}, 2),
            (searching, {}, 3), (searching, {}, 4),
        ):  # fmt: skip
            response = await gateway.http.post(MESSAGES, json=body, headers=headers)
            assert (MESSAGE, asked) == (response.content, len(upstream.heads))
