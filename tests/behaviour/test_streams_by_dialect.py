"""A stream of events in each dialect that names them: what passes of it, when it is whole, and how it ends if it is not."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from gateway.pipeline.relay import Waits
from tests.support.gateway import UPSTREAM_KEY, Gateway, running
from tests.support.valkey import Valkey
from tests.support.wire import Play, Wire, answer, chunked, saying, wire


class Spoken(NamedTuple):
    """How one dialect speaks: a request, and the events of its answer."""

    path: str
    asked: dict[str, Any]
    begun: tuple[bytes, ...]  # events, without an end
    end: bytes  # the event that makes them whole
    rest: tuple[bytes, ...]  # what follows that one
    whole: bytes  # the answer to a unary call
    tokens: tuple[int, int]

    @property
    def events(self) -> tuple[bytes, ...]:
        return (*self.begun, self.end, *self.rest)


def named(kind: str, more: str = "") -> bytes:
    """An event with a name, spaced as no encoder of ours would."""
    return f'event: {kind}\ndata: {{"type" : "{kind}"{more}}}\n\n'.encode()


CHAT = Spoken(
    "/v1/chat/completions",
    {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "Say hello"}]},
    (
        b'data: {"choices":[ {"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n',
        b'data:{"choices":[{"index":0,"delta":{"content":"a\\u2028b \xe2\x80\xa8"},"finish_reason":null}]}\r\n\r\n',
    ),
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    (
        b'data: {"choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}\n\n',
        b"data: [DONE]\n\n",
    ),
    b'{"choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}],\n'
    b' "usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}',
    (7, 2),
)
RESPONSES = Spoken(
    "/v1/responses",
    {"model": "gpt-5-mini", "input": "Say hello"},
    (
        named("response.created", ',"sequence_number":0,"response":{"status":"in_progress"}'),
        named("response.output_text.delta", ',"sequence_number":1,"delta":"a\u2028b"').replace(b"\n", b"\r\n"),
    ),
    named(
        "response.completed",
        ',"sequence_number":2,"response":{"status":"completed","output":[{"type":"message","content":[{"type":"output_text",'
        '"text":"Hi"}]}],"usage":{"input_tokens":7,"output_tokens":2,"total_tokens":9}}',
    ),
    (),
    b'{"status":"completed", "output":[{"type":"message","content":[{"type":"output_text","text":"Hi"}]}],\n'
    b' "usage":{"input_tokens":7,"output_tokens":2,"total_tokens":9}}',
    (7, 2),
)
MESSAGES = Spoken(
    "/v1/messages?beta=true",
    {"model": "claude-sonnet-4-5", "max_tokens": 99, "messages": [{"role": "user", "content": "Say hello"}]},
    (
        named("message_start", ',"message":{"model":"claude-sonnet-4-5","usage":{"input_tokens":7,"output_tokens":1}}'),
        named("ping"),
        named("content_block_start", ',"index":0,"content_block":{"type":"text","text":""}'),
        named("content_block_delta", ',"index":0,"delta":{"type":"text_delta","text":"Hi\u2028"}').replace(
            b"\n", b"\r\n"
        ),
        named("content_block_stop", ',"index":0'),
    ),
    named("message_delta", ',"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":2}'),
    (named("message_stop"),),
    b'{"type":"message","content":[{"type":"text","text":"Hi"}],"stop_reason":"end_turn",\n'
    b' "usage":{"input_tokens":7,"output_tokens":2}}',
    (7, 2),
)
DIALECTS = {"chat": CHAT, "responses": RESPONSES, "messages": MESSAGES}
DONE, PING = b"data: [DONE]\n\n", b": PING\n\n"
PATIENT = Waits(5)
each = pytest.mark.parametrize("spoken", DIALECTS.values(), ids=DIALECTS)
Serve = Callable[..., AbstractAsyncContextManager[tuple[Gateway, Wire]]]


@pytest.fixture
def serve(tmp_path: Path, state: Valkey) -> Serve:
    """A gateway in front of an upstream that plays this to every call."""

    @asynccontextmanager
    async def started(play: Play, waits: Waits = PATIENT, terms: str = "") -> AsyncIterator[tuple[Gateway, Wire]]:
        async with (
            wire(play) as upstream,
            running(tmp_path, upstream.url, redis_url=state.url, clients={"design": terms}) as gateway,
        ):
            gateway.app.parts.pipeline.relay.waits = waits
            yield gateway, upstream
            await gateway.at_rest()

    return started


class Got(NamedTuple):
    """What a caller has of an answer."""

    status: int
    headers: httpx.Headers
    body: bytes
    ended: bool  # cleanly


async def ask(gateway: Gateway, spoken: Spoken, *, stream: bool = True) -> Got:
    """Ask, and read to the end, clean or not."""
    body, ended = b"", True
    asked = spoken.asked | ({"stream": True} if stream else {})
    async with gateway.http.stream("POST", spoken.path, json=asked) as response:
        try:
            async for chunk in response.aiter_raw():
                body += chunk
        except httpx.RemoteProtocolError:
            ended = False
    return Got(response.status_code, response.headers, body, ended)


def last_error(body: bytes) -> dict[str, Any]:
    """The error of the last event."""
    found: dict[str, Any] = json.loads(body.rstrip().rpartition(b"data: ")[2])
    return found


def is_ending(spoken: Spoken, ending: bytes) -> bool:
    """Whether this is one event that the dialect's SDKs read as an error, and nothing else."""
    name, _, data = ending.rpartition(b"data: ")
    said = json.loads(data)
    kind = {CHAT.path: "", RESPONSES.path: "error", MESSAGES.path: "error"}[spoken.path]
    named_well = name == (f"event: {kind}\n".encode() if kind else b"") and said.get("type", "") == kind
    return named_well and bool(said["error"]["message"]) and ending.endswith(b"\n\n")


@each
@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_events_survive_byte_for_byte(serve: Serve, spoken: Spoken, size: int) -> None:
    """A10: names and data come as they were sent, wherever the bytes were cut, and the usage is counted."""
    said = b"".join(spoken.events)
    pieces = [said[at : at + size] for at in range(0, len(said), size)]
    async with serve(saying(*chunked(*pieces))) as (gateway, _):
        got, line = await ask(gateway, spoken), await gateway.entry()
    assert (200, said, True) == (got.status, got.body, got.ended)
    assert got.headers["content-type"].startswith("text/event-stream")
    assert ("ok", "reported", *spoken.tokens) == (line["outcome"], line["usage"], line["tokens_in"], line["tokens_out"])


@each
async def test_what_breaks_sdks_is_dropped(serve: Serve, spoken: Spoken) -> None:
    """`id:`, `retry:` and events without data pass in no dialect; openai-python would take each for JSON."""
    noise = (
        b"id: 7\n",
        b"retry: 5\n\n",
        b"event: keepalive\n\n",
        b"data:\n\n",
        b"data: \n\n",
        b"unknown: x\n",
        b"id\n\n",
    )
    pieces = [piece for event in spoken.events for piece in (*noise, event)]
    async with serve(saying(*chunked(*pieces, *noise))) as (gateway, _):
        got = await ask(gateway, spoken)
    assert (b"".join(spoken.events), True) == (got.body, got.ended)


@each
async def test_empty_lines_between_events_become_one(serve: Serve, spoken: Spoken) -> None:
    """A relay writes two behind each event; that changes no event."""
    said = b"".join(event + (b"\r\n" if event.endswith(b"\r\n") else b"\n") * 2 for event in spoken.events)
    async with serve(saying(*chunked(said))) as (gateway, _):
        got = await ask(gateway, spoken)
    assert (b"".join(spoken.events), True) == (got.body, got.ended)


@each
async def test_comments_pass_once_the_head_is_out(serve: Serve, spoken: Spoken) -> None:
    """Comments before the first event are swallowed; behind it they pass, since they keep callers waiting."""
    first, *others = spoken.events[: len(spoken.begun) + 1]
    pieces = [PING, PING, first, *(piece for event in others for piece in (PING, event)), *spoken.rest]
    async with serve(saying(*chunked(*pieces))) as (gateway, _):
        got = await ask(gateway, spoken)
    assert b"".join(pieces[2:]) == got.body


@each
async def test_the_head_waits_for_the_first_event(serve: Serve, spoken: Spoken) -> None:
    """U17: until then an error is a plain one, also behind comments."""
    refused = {"error": {"message": "no channel", "type": "new_api_error", "param": "", "code": 418}}
    async with serve(saying(*chunked(PING, PING, json.dumps(refused).encode()), pause=0.02)) as (gateway, _):
        got, line = await ask(gateway, spoken), await gateway.entry()
    assert (418, "application/json") == (got.status, got.headers["content-type"])
    assert "no channel" == json.loads(got.body)["error"]["message"]
    assert ("upstream_error", 418) == (line["outcome"], line["status"])


@each
async def test_the_head_does_not_wait_for_ever(serve: Serve, spoken: Spoken) -> None:
    """Callers whose clients give up without a head get one in time, and then the comments, and then the events."""
    pieces = chunked(PING, PING, PING, *spoken.events)
    async with serve(saying(*pieces, pause=0.15), Waits(5, head=0.2)) as (gateway, _):
        got = await ask(gateway, spoken)
    assert (200, True) == (got.status, got.ended)
    comments, events = got.body.split(spoken.begun[0], 1)
    assert comments.replace(PING, b"") == b""
    assert 0 < comments.count(PING) < 3
    assert b"".join(spoken.events[1:]) == events


@each
async def test_comments_alone_are_no_beginning(serve: Serve, tmp_path: Path, state: Valkey, spoken: Spoken) -> None:
    """U2: a stream has its deadline for the first event; comments behind an early head do not take that back."""
    async with (
        wire(saying(*chunked(*[PING] * 100), pause=0.05)) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url, call_timeout_seconds=0.8) as gateway,
    ):
        gateway.app.parts.pipeline.relay.waits = Waits(5, head=0.1)
        got, line = await ask(gateway, spoken), await gateway.entry()
    assert (200, False, "upstream_timeout") == (got.status, got.ended, line["outcome"])
    assert is_ending(spoken, got.body.replace(PING, b""))


def broken_by(how: str, *pieces: bytes) -> Play:
    """An upstream that sends these chunks and then ends as it should, without its last chunk, or by a reset."""

    async def play(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in chunked(*pieces, end=how == "end"):
            writer.write(piece)
        await writer.drain()
        if how == "reset":
            await asyncio.sleep(0.05)  # slow on purpose: a reset discards what has not been read yet
            writer.transport.abort()
        writer.close()

    return play


@each
@pytest.mark.parametrize("how", ["end", "no last chunk", "reset", "terminator"])
async def test_a_cut_stream_is_an_error(serve: Serve, spoken: Spoken, how: str) -> None:
    """U4 U6: without the dialect's own sign it ends by the dialect's own error event, and by a cut connection."""
    play = broken_by("end", *spoken.begun, DONE) if how == "terminator" else broken_by(how, *spoken.begun)
    async with serve(play) as (gateway, _):
        got, line = await ask(gateway, spoken), await gateway.entry()
    begun = b"".join(spoken.begun)
    assert (200, begun, False) == (got.status, got.body[: len(begun)], got.ended)
    assert is_ending(spoken, got.body[len(begun) :])
    assert DONE not in got.body
    assert ("upstream_broke", "estimated") == (line["outcome"], line["usage"])


async def test_each_choice_must_end(serve: Serve) -> None:
    """U4: of two choices, one without a reason for its end is one that broke off."""
    second = CHAT.begun[1].replace(b'"index":0', b'"index":1')
    async with serve(saying(*chunked(*CHAT.begun, second, CHAT.end, *CHAT.rest))) as (gateway, _):
        got = await ask(gateway, CHAT)
    assert (False, False) == (got.ended, DONE in got.body)


BARE = b'{"error":{"message":"do request failed (request id: 7)","type":"new_api_error","param":"","code":"%b"}}'


@each
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"], ids=["at once", "line", "lines"])
async def test_stray_json_in_a_stream_is_an_error(serve: Serve, spoken: Spoken, end: bytes) -> None:
    """U17: an error that a relay appends to an open stream without `data:` becomes the dialect's error event."""
    async with serve(saying(*chunked(*spoken.begun, BARE % b"do_request_failed" + end, DONE))) as (gateway, _):
        got, line = await ask(gateway, spoken), await gateway.entry()
    begun = b"".join(spoken.begun)
    assert (begun, False) == (got.body[: len(begun)], got.ended)
    assert is_ending(spoken, got.body[len(begun) :])
    assert "do request failed (request id: 7)" == last_error(got.body)["error"]["message"]
    assert "upstream_error" == line["outcome"]


STATUSES = {
    (b"503", 503): "numeric code",
    (b"do_request_failed", 502): "a word",
    (b"1234", 502): "no status",
}


@each
@pytest.mark.parametrize(("code", "status"), STATUSES, ids=STATUSES.values())
@pytest.mark.parametrize("comments", [0, 2])
async def test_stray_json_in_place_of_a_stream(
    serve: Serve, spoken: Spoken, code: bytes, status: int, comments: int
) -> None:
    """U17: before any event, it is the plain error that it was meant to be, its code the status where that is one."""
    async with serve(saying(*chunked(*[PING] * comments, BARE % code), pause=0.02)) as (gateway, _):
        got, line = await ask(gateway, spoken), await gateway.entry()
    assert (status, "application/json", status) == (got.status, got.headers["content-type"], line["status"])
    assert "do request failed (request id: 7)" == json.loads(got.body)["error"]["message"]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("overloaded_error", 529), ("rate_limit_error", 429), ("invalid_request_error", 400), ("api_error", 500),
        ("permission_error", 403), ("not_found_error", 404), ("request_too_large", 413), ("timeout_error", 504),
        ("something_new", 502),
    ],
)  # fmt: skip
async def test_a_type_of_anthropics_has_its_status(serve: Serve, kind: str, status: int) -> None:
    """U12 U17: Anthropic's errors have no code; an early one gets the status that its type stands for, byte for byte."""
    error = f'{{"type":"error", "error":{{"type":"{kind}","message":"Later"}}}}'.encode()
    async with serve(saying(*chunked(PING, b"event: error\ndata: " + error + b"\n\n"))) as (gateway, _):
        got = await ask(gateway, MESSAGES)
    assert (status, error) == (got.status, got.body)


ERRORS = {
    CHAT.path: b'data: {"error":{"message":"bad %b", "type":"server_error","param":null,"code":"x"}}\n\n',
    RESPONSES.path: b'event: error\ndata: {"type":"error", "sequence_number":2,"code":"x","message":"bad %b"}\n\n',
    MESSAGES.path: b'event: error\ndata: {"type":"error", "error":{"type":"api_error","message":"bad %b"}}\n\n',
}


@each
async def test_error_events_pass_as_they_are(serve: Serve, spoken: Spoken) -> None:
    """U12 U17 S1: an error event of the upstream's own passes byte for byte, but for our key; Responses' is an end."""
    error = ERRORS[spoken.path]
    async with serve(saying(*chunked(*spoken.begun, error % UPSTREAM_KEY.encode()))) as (gateway, _):
        got, line = await ask(gateway, spoken), await gateway.entry()
    assert b"".join(spoken.begun) + error % b"[removed]" == got.body
    assert (spoken is RESPONSES, "upstream_error") == (got.ended, line["outcome"])


async def test_a_failed_response_is_an_end(serve: Serve) -> None:
    """U17: `response.failed` says in its own way what happened, so it ends cleanly, and its usage counts."""
    failed = named(
        "response.failed",
        ',"response":{"status":"failed","error":{"code":"server_error","message":"no"},'
        '"usage":{"input_tokens":7,"output_tokens":1,"total_tokens":8}}',
    )
    async with serve(saying(*chunked(*RESPONSES.begun, failed))) as (gateway, _):
        got, line = await ask(gateway, RESPONSES), await gateway.entry()
    assert (b"".join(RESPONSES.begun) + failed, True) == (got.body, got.ended)
    assert ("upstream_error", "reported", 8) == (line["outcome"], line["usage"], line["tokens_in"] + line["tokens_out"])


async def test_an_incomplete_response_is_whole(serve: Serve) -> None:
    """U18: one that met its bound of tokens ended as it was asked to."""
    incomplete = RESPONSES.end.replace(b"completed", b"incomplete")
    async with serve(saying(*chunked(*RESPONSES.begun, incomplete))) as (gateway, _):
        got, line = await ask(gateway, RESPONSES), await gateway.entry()
    assert (b"".join(RESPONSES.begun) + incomplete, True, "ok") == (got.body, got.ended, line["outcome"])


@each
@pytest.mark.parametrize("framed", [answer, lambda body: b"".join(chunked(body, content_type="application/json"))])
async def test_json_for_a_stream_passes(serve: Serve, spoken: Spoken, framed: Callable[[bytes], bytes]) -> None:
    """A10: what the upstream answers is what the caller gets, under its own content type."""
    async with serve(saying(framed(spoken.whole))) as (gateway, _):
        got, line = await ask(gateway, spoken), await gateway.entry()
    assert (200, "application/json", spoken.whole, True) == (
        got.status, got.headers["content-type"], got.body, got.ended,
    )  # fmt: skip
    assert ("ok", *spoken.tokens) == (line["outcome"], line["tokens_in"], line["tokens_out"])


@each
async def test_events_for_a_unary_call_pass(serve: Serve, spoken: Spoken) -> None:
    """A10: the same the other way round; the events are metered."""
    async with serve(saying(*chunked(*spoken.events))) as (gateway, _):
        got, line = await ask(gateway, spoken, stream=False), await gateway.entry()
    assert (200, b"".join(spoken.events), True) == (got.status, got.body, got.ended)
    assert got.headers["content-type"].startswith("text/event-stream")
    assert ("ok", *spoken.tokens) == (line["outcome"], line["tokens_in"], line["tokens_out"])


@each
@pytest.mark.parametrize("how", ["end", "no last chunk", "terminator"])
async def test_cut_events_for_a_unary_call(serve: Serve, spoken: Spoken, how: str) -> None:
    """U3 U4: nothing of them has been sent yet, so that they are a plain 502."""
    play = broken_by("end", *spoken.begun, DONE) if how == "terminator" else broken_by(how, *spoken.begun)
    async with serve(play) as (gateway, _):
        got, line = await ask(gateway, spoken, stream=False), await gateway.entry()
    assert (502, "application/json", True) == (got.status, got.headers["content-type"], got.ended)
    assert "upstream_broke" == line["outcome"]


def and_then_nothing(*pieces: bytes, comments: float = 0) -> Play:
    """An upstream that sends these chunks and never ends; with comments so many seconds apart."""

    async def play(_: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in chunked(*pieces, end=False):
            writer.write(piece)
        while comments and not writer.is_closing():
            await asyncio.sleep(comments)  # slow on purpose: it goes on like that
            writer.write(chunked(PING, end=False)[1])
        await reader.read()

    return play


@each
@pytest.mark.parametrize("comments", [0, 0.05], ids=["silence", "comments"])
async def test_a_whole_stream_that_does_not_end(serve: Serve, spoken: Spoken, comments: float) -> None:
    """U3: behind a whole answer neither silence nor endless comments keep the caller for longer than the linger."""
    rest = tuple(event for event in spoken.rest if event != DONE)
    play = and_then_nothing(*spoken.begun, spoken.end, *rest, comments=comments)
    async with serve(play, Waits(5, linger=0.4)) as (gateway, _):
        async with asyncio.timeout(10):  # it would go on for ever
            got, line = await ask(gateway, spoken), await gateway.entry()
    assert (b"".join((*spoken.begun, spoken.end, *rest)), True) == (got.body.replace(PING, b""), got.ended)
    assert ("ok", "reported", *spoken.tokens) == (line["outcome"], line["usage"], line["tokens_in"], line["tokens_out"])


async def test_a_whole_stream_without_usage_that_does_not_end(serve: Serve) -> None:
    """U3 A4: who has the whole text would pay for it twice; what it cost is estimated."""
    async with serve(and_then_nothing(*CHAT.begun, CHAT.end), Waits(5, linger=0.3)) as (gateway, _):
        got, line = await ask(gateway, CHAT), await gateway.entry()
    assert (True, "ok", "estimated") == (got.ended, line["outcome"], line["usage"])


async def test_the_rest_of_a_whole_stream_is_read(serve: Serve) -> None:
    """A4: usage and `[DONE]` come behind what makes it whole, and late; the terminator ends the wait."""
    play = saying(*chunked(*CHAT.events, end=False), pause=0.1, close=False)
    async with serve(play, Waits(60, linger=60)) as (gateway, _):
        got, line = await ask(gateway, CHAT), await gateway.entry()
    assert (b"".join(CHAT.events), True, "reported") == (got.body, got.ended, line["usage"])


@each
@pytest.mark.parametrize("terms", ["", 'cache = "private"'], ids=["", "cached"])
async def test_who_leaves_at_the_end_has_it_all(serve: Serve, spoken: Spoken, terms: str) -> None:
    """A2 A4: SDKs hang up at the last event they read, before the stream's own end; that is a call that went well."""
    going_on = asyncio.Event()

    async def play(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pieces = chunked(*spoken.events)
        writer.write(b"".join(pieces[:-1]))
        await going_on.wait()
        writer.write(pieces[-1])

    async with serve(play, terms=terms) as (gateway, _):
        async with gateway.http.stream("POST", spoken.path, json=spoken.asked | {"stream": True}) as response:
            body = b""
            async for chunk in response.aiter_raw():
                body += chunk
                if body == b"".join(spoken.events):
                    break
        going_on.set()
        line = await gateway.entry()
        assert ("ok", 200, "reported", *spoken.tokens) == (
            line["outcome"], line["status"], line["usage"], line["tokens_in"], line["tokens_out"],
        )  # fmt: skip
        assert 1 == gateway.metric("gateway_requests_total", outcome="ok")


@each
async def test_no_stream_announces_that_its_connection_closes(serve: Serve, spoken: Spoken) -> None:
    """X1: Node's fetch takes any end of an answer that says so for its whole body, a cut too; while draining as well."""
    async with serve(saying(*chunked(*spoken.begun, spoken.end, *spoken.rest))) as (gateway, _):
        gateway.app.begin_drain()
        got = await ask(gateway, spoken)
    assert (200, True, "chunked") == (got.status, got.ended, got.headers["transfer-encoding"])
    assert "connection" not in got.headers


@each
async def test_a_connection_outlives_its_streams(serve: Serve, spoken: Spoken) -> None:
    """A whole stream leaves its connection to the upstream for the next call: each new one would cost a TLS handshake."""
    async with serve(saying(*chunked(*spoken.events), close=False)) as (gateway, upstream):
        for _ in range(3):
            assert (await ask(gateway, spoken)).ended
    assert 1 == upstream.connections
