"""OpenAI's dialect through the real gateway: what passes, what ends, what is counted and what is kept."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.caching import PRIVATE, status
from tests.support.gateway import Gateway, running
from tests.support.valkey import Valkey
from tests.support.wire import Wire, answer, chunked, saying, wire

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"
ASKED = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Say hello"}]}
STREAMED = ASKED | {"stream": True}
USAGE = (
    b'{"prompt_tokens":11,"completion_tokens":5,"total_tokens":16,"completion_tokens_details":{"reasoning_tokens":3}}'
)
WHOLE = (
    b'{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],\n'
    b' "model":"gpt-5-mini-2026","usage":%b}' % USAGE
)
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"Hello, you there."},"finish_reason":null}]}\n\n'
END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
COST = b'data: {"choices":[],"usage":%b}\n\n' % USAGE
DONE = b"data: [DONE]\n\n"
FAILED = b'data: {"error":{"message":"no more (request id: 7)","type":"new_api_error","code":"do_request_failed"}}\n\n'
CREATED = b'event: response.created\ndata: {"type":"response.created","sequence_number":0,"response":{}}\n\n'
SAID = b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"Hello."}\n\n'
COMPLETED = (
    b'event: response.completed\ndata: {"type":"response.completed","sequence_number":2,"response":{"status":"completed",'
    b'"output":[{"type":"message","content":[{"type":"output_text","text":"Hello."}]}],'
    b'"usage":{"input_tokens":7,"output_tokens":2,"total_tokens":9}}}\n\n'
)
Serve = Callable[..., AbstractAsyncContextManager[tuple[Gateway, Wire]]]


@pytest.fixture
def serve(tmp_path: Path, state: Valkey) -> Serve:
    """A gateway in front of an upstream that says these bytes to every call."""

    @asynccontextmanager
    async def started(*pieces: bytes, terms: str = "") -> AsyncIterator[tuple[Gateway, Wire]]:
        async with (
            wire(saying(*pieces)) as upstream,
            running(tmp_path, upstream.url, clients={"design": terms}, redis_url=state.url) as gateway,
        ):
            yield gateway, upstream
            await gateway.at_rest()

    return started


def error_of(ending: bytes) -> dict[str, Any]:
    """The error of the event that ends a stream."""
    found: dict[str, Any] = json.loads(ending.split(b"data: ")[-1])["error"]
    return found


async def cut(gateway: Gateway, path: str = CHAT) -> bytes:
    """What comes of a stream until it is cut; fails where it ends cleanly."""
    received = b""
    async with gateway.http.stream("POST", path, json=STREAMED) as response:
        assert 200 == response.status_code
        try:
            async for chunk in response.aiter_raw():
                received += chunk
        except httpx.RemoteProtocolError:
            return received
    pytest.fail("the stream ended cleanly")


async def test_an_answer_passes_untouched(serve: Serve) -> None:
    """A4, A10: the bytes of a unary answer are the upstream's, and its usage is counted by kind."""
    async with serve(answer(WHOLE)) as (gateway, upstream):
        response = await gateway.http.post("/openai/v1/chat/completions/", json=ASKED)
        assert (200, WHOLE) == (response.status_code, response.content)
        line = await gateway.entry()
        assert ("chatCompletions", "ok", 11, 5, "reported") == (
            line["method"], line["outcome"], line["tokens_in"], line["tokens_out"], line["usage"],
        )  # fmt: skip
        assert 3 == gateway.metric("gateway_tokens_total", kind="thoughts", modality="text")
    assert upstream.heads[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")


async def test_a_stream_passes_untouched(serve: Serve) -> None:
    """A4, A10: so do the events of a stream, with the terminator at its end."""
    async with serve(*chunked(ROLE, TEXT + END[:20], END[20:], COST, DONE)) as (gateway, _):
        response = await gateway.http.post(CHAT, json=STREAMED)
        assert (200, ROLE + TEXT + END + COST + DONE) == (response.status_code, response.content)
        assert response.headers["content-type"].startswith("text/event-stream")
        line = await gateway.entry()
        assert ("ok", 11, 5, "reported") == (line["outcome"], line["tokens_in"], line["tokens_out"], line["usage"])


async def test_usage_that_is_missing_is_estimated(serve: Serve) -> None:
    """U18: a stream without usage is counted by its text and by that of the request, and as one without usage."""
    async with serve(*chunked(ROLE, TEXT, END, DONE), terms="tokens_per_day = 100000") as (gateway, _):
        response = await gateway.http.post(CHAT, json=STREAMED)
        assert (200, True) == (response.status_code, response.content.endswith(DONE))
        line = await gateway.entry()
        size = len(response.request.content)
        assert ("ok", "estimated", -(-17 // 4), -(-size // 4)) == (
            line["outcome"], line["usage"], line["tokens_out"], line["tokens_in"],
        )  # fmt: skip
        assert 1 == gateway.metric("gateway_usage_missing_total")


@pytest.mark.parametrize("end", [True, False], ids=["ended cleanly", "connection cut"])
@pytest.mark.parametrize("tail", [(), (DONE,)], ids=["no terminator", "terminator"])
async def test_a_stream_without_a_reason_for_its_end_is_cut(serve: Serve, tail: tuple[bytes, ...], end: bool) -> None:
    """U4: without a finish_reason a stream broke off, whatever stands behind it; no caller takes it for whole."""
    async with serve(*chunked(ROLE, TEXT, *tail, end=end)) as (gateway, _):
        received = await cut(gateway)
        assert received.startswith(ROLE + TEXT)
        assert DONE not in received
        assert "upstream_broke" == error_of(received)["code"]
        line = await gateway.entry()
        assert ("upstream_broke", "estimated") == (line["outcome"], line["usage"])


async def test_an_error_inside_a_stream_ends_it(serve: Serve) -> None:
    """U17: what came before an error passes, then the error, then the connection is cut."""
    async with serve(*chunked(ROLE, TEXT, FAILED, DONE)) as (gateway, _):
        received = await cut(gateway)
        assert received.startswith(ROLE + TEXT)
        assert DONE not in received
        assert "do_request_failed" == error_of(received)["code"]
        assert "upstream_error" == (await gateway.entry())["outcome"]


async def test_a_stream_may_be_answered_in_one_piece(serve: Serve) -> None:
    """A10: where the upstream answers JSON to a call for a stream, JSON passes."""
    async with serve(answer(WHOLE)) as (gateway, _):
        response = await gateway.http.post(CHAT, json=STREAMED)
        assert (200, WHOLE) == (response.status_code, response.content)
        assert response.headers["content-type"].startswith("application/json")
        assert ("ok", 5) == ((line := await gateway.entry())["outcome"], line["tokens_out"])


async def test_a_kept_answer(serve: Serve) -> None:
    """C7, L11: the second call of a kind is answered from the cache, and costs no tokens; what is stored upstream is not."""
    async with serve(answer(WHOLE), terms=PRIVATE) as (gateway, upstream):
        assert "fwd=miss; stored" == status(await gateway.http.post(CHAT, json=ASKED))
        hit = await gateway.http.post(CHAT, json=ASKED)
        assert (True, WHOLE) == (status(hit).startswith("hit"), hit.content)
        assert (0, "cache_hit") == ((line := (await gateway.entries(2))[1])["tokens_out"], line["outcome"])
        for _ in range(2):
            stored = await gateway.http.post(CHAT, json=ASKED | {"store": True})
            assert "fwd=bypass" == status(stored)
    assert 3 == len(upstream.heads)


async def test_refusals_in_its_own_shape(serve: Serve) -> None:
    """A15: models, bodies and paths are refused before anything is sent, each so that OpenAI's SDKs read it."""
    async with serve(answer(WHOLE), terms='models = ["gpt-5*"]') as (gateway, upstream):
        for body, code, word in (
            (ASKED | {"model": "o9"}, 403, "model_not_allowed"),
            ({"messages": []}, 400, "model_missing"),
            (ASKED | {"Model": "o9"}, 400, "bad_request"),
        ):
            refused = await gateway.http.post(CHAT, json=body)
            assert (code, word) == (refused.status_code, refused.json()["error"]["code"])
        background = await gateway.http.post(RESPONSES, json=ASKED | {"background": True})
        assert (400, True) == (background.status_code, "background" in background.json()["error"]["message"])
        doubled = await gateway.http.post(CHAT + CHAT[3:], json=ASKED)
        assert (404, True) == (doubled.status_code, "base URL" in doubled.json()["error"]["message"])
    assert [] == upstream.heads


async def test_a_response_passes_untouched(serve: Serve) -> None:
    """A4, A10: names of events pass, since some clients go by them; the last one says what it cost."""
    async with serve(*chunked(CREATED, SAID, COMPLETED)) as (gateway, _):
        response = await gateway.http.post(RESPONSES, json=STREAMED)
        assert (200, CREATED + SAID + COMPLETED) == (response.status_code, response.content)
        line = await gateway.entry()
        assert ("responses", "ok", 7, 2) == (line["method"], line["outcome"], line["tokens_in"], line["tokens_out"])


async def test_a_response_that_broke_off(serve: Serve) -> None:
    """U4: a response without its last event ends by an event of the API's own kind, and is cut."""
    async with serve(*chunked(CREATED, SAID)) as (gateway, _):
        received = await cut(gateway, RESPONSES)
        assert received.startswith(CREATED + SAID + b'event: error\ndata: {"type":"error",')
        assert "upstream_broke" == error_of(received)["code"]
