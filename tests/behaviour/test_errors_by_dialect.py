"""Every error as the callers of each dialect read it: its status, its words, its headers, and what reaches the upstream."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import Intervals
from gateway.config.clients import new_key
from tests.support.gateway import UPSTREAM_KEY, Gateway, running
from tests.support.valkey import Valkey, free_port
from tests.support.wire import Play, Wire, answer, saying, wire

SAY = [{"role": "user", "content": "Say hello"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "gpt-5-mini", "messages": SAY},
    "/v1/completions": {"model": "gpt-5-mini", "prompt": "Say hello"},
    "/v1/embeddings": {"model": "text-embedding-3-small", "input": "Say hello"},
    "/v1/responses": {"model": "gpt-5-mini", "input": "Say hello"},
    "/v1/messages": {"model": "claude-sonnet-4-5", "max_tokens": 99, "messages": SAY},
    "/v1/messages/count_tokens": {"model": "claude-sonnet-4-5", "messages": SAY},
}
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
each = pytest.mark.parametrize("path", BODIES)
one_of_each = pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
JSON = {"content-type": "application/json"}
GOOD = {
    CHAT: b'{"choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":2}}',
    RESPONSES: b'{"status":"completed","output":[{"type":"message","content":[{"type":"output_text","text":"Hi"}]}]}',
    MESSAGES: b'{"type":"message","content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn","usage":{"input_tokens":1}}',
}
NOTHING = saying(answer(b"{}"))
Serve = Callable[..., AbstractAsyncContextManager[tuple[Gateway, Wire]]]


@pytest.fixture
def serve(tmp_path: Path, state: Valkey) -> Serve:
    """A gateway in front of an upstream that plays this to every call."""

    @asynccontextmanager
    async def started(play: Play = NOTHING, terms: str = "", **settings: Any) -> AsyncIterator[tuple[Gateway, Wire]]:
        settings = {"redis_url": state.url, "clients": {"design": terms}} | settings
        async with wire(play) as upstream, running(tmp_path, upstream.url, **settings) as gateway:
            del gateway.http.headers["x-goog-api-key"]  # by which Google's SDKs are known
            gateway.http.headers["authorization"] = f"Bearer {gateway.key}"
            yield gateway, upstream

    return started


def words(path: str, response: httpx.Response) -> tuple[int, str]:
    """The status and the word for it: Anthropic's type, or OpenAI's code; checks all the rest of the shape."""
    body = response.json()
    assert "application/json" == response.headers["content-type"]
    assert response.headers["x-request-id"] == response.headers["request-id"]
    if "/messages" in path:
        assert ({"type", "error", "request_id"}, "error") == (body.keys(), body["type"])
        assert {"type", "message"} == body["error"].keys()
        assert body["request_id"] == response.headers["request-id"]
        assert body["error"]["message"]
        return response.status_code, body["error"]["type"]
    assert {"error"} == body.keys()
    assert {"message", "type", "param", "code"} == body["error"].keys()
    assert body["error"]["message"]
    return response.status_code, body["error"]["code"]


def either(path: str, openais: str, anthropics: str) -> str:
    """The word that callers of this path read."""
    return anthropics if "/messages" in path else openais


SMUGGLED = [
    b'{"model":"%b","model":"forbidden"}',  # twice
    b'{"model":"%b","Model":"forbidden"}',  # in two cases
    b'{"model":"%b","\\u006dodel":"forbidden"}',  # escaped
    b'{"MODEL":"%b"}',  # capitals alone
    b'{"model":"%b"}{"model":"forbidden"}',  # behind the end
    b'\xef\xbb\xbf{"model":"%b"}',  # a byte order mark
    b'{"model":"%b","x":"\xff"}',  # no UTF-8
    b'{"model":"%b"',  # cut
    b'["%b"]',  # no object
    b'{"model":["%b"]}',  # no string
    b'{"model":"%b\\u0000"}',  # odd characters
    b'{"model":"' + b"x" * 129 + b'%b"}',  # too long
    b'{"model":"%b","n":1,"n":9}',  # another member twice
]


@each
async def test_what_two_readers_could_read_differently(serve: Serve, path: str) -> None:
    """P1 P7: a body in which somebody might find another model than we do is a 400, and nothing of it is sent."""
    async with serve() as (gateway, upstream):
        for smuggled in SMUGGLED:
            body = smuggled % BODIES[path]["model"].encode()
            response = await gateway.http.post(path, content=body, headers=JSON)
            assert (400, either(path, "bad_request", "invalid_request_error")) == words(path, response), body
    assert [] == upstream.heads


@each
async def test_without_a_model(serve: Serve, path: str) -> None:
    """P1: the relay has defaults of its own, which no list of models and no price knows."""
    async with serve() as (gateway, upstream):
        for body in ({}, {"model": ""}, {"model": None}):
            response = await gateway.http.post(path, json=BODIES[path] | {"model": ""} if body else {})
            assert (400, either(path, "model_missing", "invalid_request_error")) == words(path, response)
            assert "/messages" in path or "model" == response.json()["error"]["param"]
    assert [] == upstream.heads


@each
async def test_keys(serve: Serve, path: str) -> None:
    """K3: no key, a wrong one, an unknown one, and two: the same words for those that open nothing."""
    invalid, body = "API key not valid. Please pass a valid API key.", BODIES[path]
    async with serve() as (gateway, upstream), httpx.AsyncClient(base_url=gateway.url, trust_env=False) as http:
        for headers in ({}, {"x-api-key": "sk-ant-x"}, {"authorization": f"Bearer {new_key()}"}):
            refused = await http.post(path, json=body, headers=headers)
            assert (401, either(path, "invalid_api_key", "authentication_error")) == words(path, refused)
            assert (invalid, "Bearer") == (refused.json()["error"]["message"], refused.headers["www-authenticate"])
        two = await http.post(
            path, json=body, headers={"x-api-key": gateway.key, "authorization": f"Bearer {new_key()}"}
        )
        assert (400, either(path, "conflicting_keys", "invalid_request_error")) == words(path, two)
    assert [] == upstream.heads


@each
async def test_a_model_of_others(serve: Serve, path: str) -> None:
    """A15: a model that the client may not use is a 403 that names it."""
    async with serve(terms='models = ["nothing-*"]') as (gateway, upstream):
        response = await gateway.http.post(path, json=BODIES[path])
        assert (403, either(path, "model_not_allowed", "permission_error")) == words(path, response)
        assert BODIES[path]["model"] in response.json()["error"]["message"]
    assert [] == upstream.heads


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/v1/chat/completions/chat/completions", "base URL"), ("/v1/responses/v1/responses", "base URL"),
        ("/v1/messages/v1/messages", "base URL"), ("/v1/chat/completions/models", "base URL"),
        ("/openai/deployments/gpt-5/chat/completions", "Azure"), ("/v1/responses/resp_1", ""), ("/v1/files", ""),
        ("/v1/assistants", ""), ("/v1/realtime", ""), ("/v1/messages/batches", ""), ("/v1/rerank", ""),
        ("/v1/responses/input_tokens", ""), ("/v1/chat/completion%73", ""),
    ],
)  # fmt: skip
async def test_paths_that_lead_nowhere(serve: Serve, path: str, hint: str) -> None:
    """P11: a 404 in the shape of whoever asks, which names the mistake where it is a usual one."""
    async with serve() as (gateway, upstream):
        response = await gateway.http.post(path, json={"model": "x"})
        assert (404, either(path, "route_unknown", "not_found_error")) == words(path, response)
        assert hint in response.json()["error"]["message"]
    assert [] == upstream.heads


@each
async def test_methods(serve: Serve, path: str) -> None:
    """RFC 9110, 15.5.6: another method is a 405 that says which there is, for OPTIONS too."""
    async with serve() as (gateway, _):
        for method in ("GET", "DELETE", "OPTIONS", "PUT"):
            response = await gateway.http.request(method, path)
            assert (405, either(path, "method", "invalid_request_error")) == words(path, response)
            assert "POST" == response.headers["allow"]


@one_of_each
async def test_bodies_that_are_not_taken(serve: Serve, path: str) -> None:
    """D2 D7 P11: too large, of another type, encoded, or not coming."""

    async def dripping() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" "
            await asyncio.sleep(0.02)  # slow on purpose: it drips beyond the deadline

    cases: list[tuple[int, str, str, Any, dict[str, str]]] = [
        (413, "body_too_large", "request_too_large", b" " * 1001, JSON),
        (
            415,
            "content_type",
            "invalid_request_error",
            b"model=x",
            {"content-type": "application/x-www-form-urlencoded"},
        ),
        (415, "content_type", "invalid_request_error", b"x", {"content-type": "multipart/form-data; boundary=x"}),
        (415, "content_type", "invalid_request_error", b"x", JSON | {"content-encoding": "gzip"}),
        (408, "body_timeout", "invalid_request_error", dripping(), JSON),
    ]
    async with serve(max_body_bytes=1000, intervals=Intervals(body_seconds=0.3)) as (gateway, upstream):
        for status, openais, anthropics, content, headers in cases:
            response = await gateway.http.post(path, content=content, headers=headers)
            assert (status, either(path, openais, anthropics)) == words(path, response)
            assert "x-should-retry" not in response.headers
    assert [] == upstream.heads


async def raw(gateway: Gateway, said: bytes) -> httpx.Response:
    """What is answered to these bytes, and then the connection's end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.url.rpartition(":")[2]))
    writer.write(said)
    async with asyncio.timeout(10):
        received = await reader.read()
    writer.close()
    head, _, body = received.partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    return httpx.Response(int(start.split()[1]), headers=headers, content=body)


@one_of_each
@pytest.mark.parametrize(
    ("status", "openais", "head"),
    [
        (414, "uri_too_long", b"POST %b?x=" + b"x" * 9000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"),
        (431, "headers_too_large", b"POST %b HTTP/1.1\r\nhost: x\r\n" + b"x: y\r\n" * 101 + b"\r\n"),
        (400, "bad_request", b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: +1\r\n\r\n"),
        (400, "bad_request", b"POST %b HTTP/1.1\r\n\r\n"),
    ],
)
async def test_what_is_no_request(serve: Serve, path: str, status: int, openais: str, head: bytes) -> None:
    """P11 D11: what the parser refuses has the shape of its path and both names of its id, too."""
    async with serve() as (gateway, _):
        response = await raw(gateway, head % path.encode())
        assert (status, either(path, openais, "invalid_request_error")) == words(path, response)
        assert status == (await gateway.entry())["status"]


async def test_a_websocket(serve: Serve) -> None:
    """RFC 9110, 15.5.22: 426 where clients then go on without one, else 400."""
    offer = b"GET %b HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\nx-request-id: my-own\r\n\r\n"
    async with serve() as (gateway, _):
        upgrade = await raw(gateway, offer % b"/v1/responses")
        assert (426, "upgrade") == words(RESPONSES, upgrade)
        assert ("my-own", "HTTP/1.1") == (upgrade.headers["request-id"], upgrade.headers["upgrade"])
        assert (400, "bad_request") == words(CHAT, await raw(gateway, offer % b"/v1/chat/completions"))
        assert (400, "invalid_request_error") == words(MESSAGES, await raw(gateway, offer % b"/v1/messages"))


async def test_both_ids_stand_on_every_answer(serve: Serve) -> None:
    """OpenAI's SDKs read one name of the id and Anthropic's the other: probes, pages, lists, answers and errors."""
    mine = {"x-request-id": "my-own_1.2"}
    async with serve(saying(answer(GOOD[CHAT]), close=False)) as (gateway, _):
        for method, path in (
            ("GET", "/healthz"), ("HEAD", "/readyz"), ("GET", "/docs"), ("GET", "/openapi.json"), ("POST", "/healthz"),
            ("GET", "/nothing"), ("HEAD", "/v1/chat/completions"), ("GET", "/v1/models"), ("POST", CHAT),
        ):  # fmt: skip
            response = await gateway.http.request(method, path, json=BODIES[CHAT], headers=mine)
            assert ("my-own_1.2", "my-own_1.2") == (response.headers["x-request-id"], response.headers["request-id"])
        stream = await gateway.http.post(
            CHAT, json=BODIES[CHAT] | {"stream": True}, headers={"x-request-id": "no good"}
        )
        assert stream.headers["x-request-id"] == stream.headers["request-id"] != "no good"


@one_of_each
async def test_limits(serve: Serve, path: str) -> None:
    """L1 L10: a rate says when to come again; a spent budget, besides, that trying again is of no use."""
    play = saying(answer(GOOD[path]), close=False)
    async with serve(play, terms="requests_per_minute = 1") as (gateway, upstream):
        assert 200 == (await gateway.http.post(path, json=BODIES[path])).status_code
        rate = await gateway.http.post(path, json=BODIES[path])
        assert (429, either(path, "rate_limit_exceeded", "rate_limit_error")) == words(path, rate)
        assert 0 < int(rate.headers["retry-after"]) <= 60
        assert f"Please retry after {rate.headers['retry-after']} seconds." in rate.json()["error"]["message"]
        assert "x-should-retry" not in rate.headers
        assert "/messages" in path or "requests" == rate.json()["error"]["type"]
        assert '"requests"' in rate.headers["ratelimit"]
    assert 1 == len(upstream.heads)


@one_of_each
async def test_budgets(serve: Serve, state: Valkey, path: str) -> None:
    """L1: `insufficient_quota` is final for OpenAI's own tools, and `x-should-retry: false` for both vendors' SDKs."""
    async with serve(saying(answer(GOOD[path]), close=False), terms="tokens_per_day = 1") as (gateway, upstream):
        spent = await gateway.http.post(path, json=BODIES[path])
        while spent.status_code == 200:
            spent = await gateway.http.post(path, json=BODIES[path])
        assert (429, either(path, "insufficient_quota", "rate_limit_error")) == words(path, spent)
        assert ("false", True) == (spent.headers["x-should-retry"], int(spent.headers["retry-after"]) > 0)
    assert len(upstream.heads) <= 2


@one_of_each
async def test_tokens_of_a_minute(serve: Serve, path: str) -> None:
    """L1: OpenAI's type says which of the two rates it was."""
    async with serve(saying(answer(GOOD[path]), close=False), terms="tokens_per_minute = 10") as (gateway, _):
        responses = [await gateway.http.post(path, json=BODIES[path]) for _ in range(3)]
        assert (429, either(path, "rate_limit_exceeded", "rate_limit_error")) == words(path, responses[-1])
        assert "/messages" in path or "tokens" == responses[-1].json()["error"]["type"]


@one_of_each
async def test_only_if_cached(serve: Serve, path: str) -> None:
    """C9: a 504 of the caller's own making, which nobody need repeat."""
    async with serve() as (gateway, upstream):
        response = await gateway.http.post(path, json=BODIES[path], headers={"cache-control": "only-if-cached"})
        assert (504, either(path, "not_cached", "not_found_error")) == words(path, response)
        assert "false" == response.headers["x-should-retry"]
    assert [] == upstream.heads


@one_of_each
async def test_stopping_and_full(serve: Serve, path: str) -> None:
    """X1 D8: what is ours and passes is a 503 that says when, of no word that is final for some tool."""
    overloaded = either(path, "overloaded", "overloaded_error")
    async with serve(max_buffered_bytes=1000) as (gateway, upstream):
        full = await gateway.http.post(path, content=b" " * 2000, headers=JSON)
        assert ((503, overloaded), "1") == (words(path, full), full.headers["retry-after"])
        gateway.app.begin_drain()
        gateway.app.stop_accepting()
        stopping = await gateway.http.post(path, json=BODIES[path])
        assert (503, either(path, "draining", "overloaded_error")) == words(path, stopping)
        assert ("1", "close") == (stopping.headers["retry-after"], stopping.headers["connection"])
    assert [] == upstream.heads


@one_of_each
async def test_without_the_state_store(serve: Serve, tmp_path: Path, path: str) -> None:
    """R2: where the operator chose to refuse rather than to guess."""
    gone = {"redis_url": f"unix://{tmp_path}/gone", "cache_redis_url": f"unix://{tmp_path}/gone"}
    async with serve(state_lost="closed", **gone) as (gateway, upstream):
        response = await gateway.http.post(path, json=BODIES[path])
        assert (503, either(path, "state_lost", "overloaded_error")) == words(path, response)
        assert "2" == response.headers["retry-after"]
    assert [] == upstream.heads


@one_of_each
async def test_an_upstream_that_cannot_be_reached(tmp_path: Path, state: Valkey, path: str) -> None:
    """U1: nothing was sent, so that trying again is the caller's own choice."""
    async with running(tmp_path, f"http://127.0.0.1:{free_port()}", redis_url=state.url) as gateway:
        response = await gateway.http.post(path, json=BODIES[path])
        assert (502, either(path, "upstream_unreachable", "api_error")) == words(path, response)
        assert "x-should-retry" not in response.headers


@one_of_each
@pytest.mark.parametrize("stream", [True, False])
async def test_an_upstream_that_is_too_slow(serve: Serve, path: str, stream: bool) -> None:
    """U2: within the caller's own time or ours."""

    async def play(_: bytes, reader: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serve(play, call_timeout_seconds=0.3) as (gateway, _):
        response = await gateway.http.post(path, json=BODIES[path] | {"stream": stream})
        assert (504, either(path, "upstream_timeout", "timeout_error")) == words(path, response)


TOKEN = b'{"error":{"message":"Invalid token","type":"new_api_error"}}'
QUOTA = b'{"error":{"message":"quota","type":"new_api_error","code":"insufficient_user_quota"}}'
SAID = [  # what cannot be passed on, and OpenAI's word for it
    (answer(b""), "upstream_broke"),
    (answer(b'{"choices":[{"index"'), "upstream_broke"),
    (answer(b"{}").replace(b"length: 2", b"length: 9"), "upstream_broke"),
    (answer(b"<html>", content_type="text/html"), "upstream_broke"),
    (b"garbage\r\n\r\n", "upstream_broke"),
    (answer(b'{"id":1}{"id":1}'), "upstream_broke"),
    (answer(b"", status="302 Found", more="location: http://x/\r\n"), "upstream_error"),
    (answer(TOKEN, status="401 Unauthorized"), "upstream_key_refused"),
    (answer(QUOTA, status="403 No"), "upstream_key_refused"),
]


def in_turn(*answers: bytes) -> Play:
    """An upstream that gives each of these once, and hangs up behind it."""
    left = iter(answers)

    async def play(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(next(left))
        await writer.drain()
        writer.close()

    return play


@one_of_each
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
async def test_what_cannot_be_passed_on(serve: Serve, path: str, stream: bool) -> None:
    """U3 U7 U11 U12: a 502 in the caller's own shape; what is about our own account is final, and says so."""
    async with serve(in_turn(*(said for said, _ in SAID))) as (gateway, upstream):
        for said, word in SAID:
            response = await gateway.http.post(path, json=BODIES[path] | {"stream": stream})
            assert (502, either(path, word, "api_error")) == words(path, response), said
            assert (None if word == "upstream_broke" else "false") == response.headers.get("x-should-retry")
            assert "retry-after" not in response.headers
    assert len(SAID) == len(upstream.heads)


OPENAIS = b'{"error":{"message" : "No (request id: 7)","type":"new_api_error","param":"","code":"x"}}'
ANTHROPICS = b'{"type":"error", "error":{"type":"<nil>","message":"No (request id: 7)"},"request_id":"req_1"}'
GOOGLES = b'{"error":{"code":418,"message":"No (request id: 7)","status":"INVALID_ARGUMENT"}}'
TASKS = b'{"code":"fail","message":"No (request id: 7)","data":null}'
PAGE = b"<html><body>No (request id: 7)</body></html>"


THEIRS = [(said, "application/json") for said in (OPENAIS, ANTHROPICS, GOOGLES, TASKS, b"")] + [(PAGE, "text/html")]


@one_of_each
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "unary"])
async def test_errors_of_the_upstream(serve: Serve, path: str, stream: bool) -> None:
    """U11 U12: in the caller's shape it passes byte for byte, in any other its message is put into it; the status stays."""
    play = in_turn(*(answer(said, status="418 Teapot", content_type=kind) for said, kind in THEIRS))
    own = ANTHROPICS if path == MESSAGES else OPENAIS
    async with serve(play) as (gateway, _):
        for said, _ in THEIRS:
            response = await gateway.http.post(path, json=BODIES[path] | {"stream": stream})
            assert response.headers["x-request-id"] == response.headers["request-id"]
            assert "x-should-retry" not in response.headers
            if said is own:
                assert (418, own) == (response.status_code, response.content)
            else:
                assert 418 == words(path, response)[0]
                readable = said not in {PAGE, b""}
                assert readable == ("No (request id: 7)" in response.json()["error"]["message"])


@one_of_each
async def test_our_key_is_cut_out(serve: Serve, path: str) -> None:
    """U12 S1: also of an error that would otherwise pass byte for byte."""
    own = (ANTHROPICS if path == MESSAGES else OPENAIS).replace(b"(request", f"{UPSTREAM_KEY} (request".encode())
    async with serve(saying(answer(own, status="400 Bad"))) as (gateway, _):
        response = await gateway.http.post(path, json=BODIES[path])
    assert own.replace(UPSTREAM_KEY.encode(), b"[removed]") == response.content


@one_of_each
async def test_waits_of_the_upstream_pass(serve: Serve, path: str) -> None:
    """U9: its `Retry-After` and `x-should-retry` are the caller's to obey, where they are well-formed."""
    cases = [("7", "true", True), ("soon", "maybe", False)]
    for wait, again, good in cases:
        more = f"retry-after: {wait}\r\nx-should-retry: {again}\r\nx-ratelimit-limit-requests: 5\r\n"
        async with serve(saying(answer(OPENAIS, status="429 Wait", more=more))) as (gateway, upstream):
            response = await gateway.http.post(path, json=BODIES[path])
        said = response.headers.get("retry-after"), response.headers.get("x-should-retry")
        assert (429, (wait, again) if good else (None, None)) == (response.status_code, said)
        assert "x-ratelimit-limit-requests" not in response.headers
        assert good == (1 == len(upstream.heads)), "a wait of seven seconds is the caller's, none is ours"


@one_of_each
async def test_overloaded_providers(serve: Serve, path: str) -> None:
    """U9: 529 is overloaded as 503 is: tried again, and then passed on with its own status."""
    async with serve(saying(answer(OPENAIS, status="529 Overloaded"), close=True)) as (gateway, upstream):
        response = await gateway.http.post(path, json=BODIES[path])
        assert 529 == response.status_code
        assert path != MESSAGES or "overloaded_error" == response.json()["error"]["type"]
    assert 3 == len(upstream.heads)


@one_of_each
async def test_an_error_with_status_200(serve: Serve, path: str) -> None:
    """A4 U12: a 2xx passes byte for byte, and is no success."""
    said = ANTHROPICS if path == MESSAGES else OPENAIS
    async with serve(saying(answer(said))) as (gateway, _):
        response = await gateway.http.post(path, json=BODIES[path])
        line = await gateway.entry()
        assert (200, said) == (response.status_code, response.content)
        assert ("upstream_error", 200, "none") == (line["outcome"], line["status"], line["usage"])
        assert 0 == gateway.metric("gateway_usage_missing_total")


@one_of_each
async def test_two_bodies_in_one_answer(serve: Serve, path: str) -> None:
    """U11: a limiter that writes its refusal and lets the call go on; with the status of an error the first one counts."""
    refusal = b'{"error":{"message":"Too many (request id: 7)","type":"new_api_error","param":"","code":"rate_limit"}}'
    async with serve(saying(answer(refusal + GOOD[path], status="400 Bad"))) as (gateway, _):
        response = await gateway.http.post(path, json=BODIES[path])
        assert 400 == words(path, response)[0]
        assert "Too many (request id: 7)" == response.json()["error"]["message"]
        assert path == MESSAGES or "rate_limit" == response.json()["error"]["code"]


NOT_FOUND = (
    b'{"error":{"message":"No available channel (request id: 7)","type":"new_api_error","code":"model_not_found"}}'
)


def vendor(*names: str) -> Play:
    """An upstream that has these models on its list and a channel for none."""
    page = json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in names]}).encode()

    async def play(head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_list = head.startswith(b"GET /v1/models ")
        writer.write(answer(page) if is_list else answer(NOT_FOUND, status="503 Busy"))

    return play


@each
async def test_a_model_without_a_channel(serve: Serve, path: str) -> None:
    """U19: one that the vendor lists may come back, though not for whoever tries three times at once."""
    async with serve(vendor(BODIES[path]["model"], "another")) as (gateway, upstream):
        response = await gateway.http.post(path, json=BODIES[path])
        assert (503, "false") == (response.status_code, response.headers["x-should-retry"])
        if "/messages" in path:
            assert (503, "not_found_error") == words(path, response)
        else:
            assert NOT_FOUND == response.content
    assert 2 == len(upstream.heads)


@each
async def test_a_model_that_there_is_not(serve: Serve, path: str) -> None:
    """U19: one that the list does not name is a 404 with the nearest of those that the client may use."""
    model = BODIES[path]["model"]
    async with serve(vendor(f"{model}-2", f"{model}-3", "zzz"), terms='models = ["*[!3]"]') as (gateway, upstream):
        response = await gateway.http.post(path, json=BODIES[path])
        assert (404, either(path, "model_not_found", "not_found_error")) == words(path, response)
        message = response.json()["error"]["message"]
        assert (True, False, "false") == (
            f"{model}-2" in message, f"{model}-3" in message, response.headers["x-should-retry"],
        )  # fmt: skip
        assert "/messages" in path or "model" == response.json()["error"]["param"]
    assert 2 == len(upstream.heads)
