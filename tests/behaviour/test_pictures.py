"""Pictures through the real gateway: what passes, what ends, what is counted, what is kept, and what is never paid twice."""

import asyncio
import base64
import hashlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.caching import PRIVATE, status
from tests.support.gateway import GENERATE, Gateway, Upstream, running
from tests.support.valkey import Valkey
from tests.support.waiting import until
from tests.support.wire import Wire, answer, chunked, saying, wire

GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
ASKED = {"model": "gpt-image-1.5", "prompt": "a red cube", "size": "1024x1024"}
MIB = 2**20
PICTURE = base64.b64encode(secrets.token_bytes(300_000))
WHOLE = (
    b'{"created":1764000000,"data":[{"b64_json":"%b"},{"b64_json":"%b"}],\n "size":"1024x1024","quality":"low","usage":'
    b'{"input_tokens":13,"input_tokens_details":{"image_tokens":0,"text_tokens":13},"output_tokens":544,"total_tokens":557}}'
) % (PICTURE, PICTURE[::-1])
LINKED = b'{"created":1,"data":[{"url":"https://cdn.example/a.png?Expires=9"}]}'
PARTIAL = (
    b'event: image_generation.partial_image\ndata: {"type":"image_generation.partial_image","b64_json":"%b"}\n\n'
    % PICTURE
)
COMPLETED = (
    b'event: image_generation.completed\ndata: {"type":"image_generation.completed","b64_json":"%b",'
    b'"usage":{"input_tokens":13,"output_tokens":372,"total_tokens":385}}\n\n' % PICTURE
)
SUCCEEDED = b'event: image_generation.partial_succeeded\ndata: {"type":"image_generation.partial_succeeded","image_index":0,"url":"https://x/0"}\n\n'
FAILED = (
    b'event: image_generation.partial_failed\ndata: {"type":"image_generation.partial_failed","image_index":1,'
    b'"error":{"code":"OutputImageSensitiveContentDetected","message":"no"}}\n\n'
)
SERIES = (
    b'event: image_generation.completed\ndata: {"type":"image_generation.completed","usage":{"generated_images":1,'
    b'"output_tokens":16384,"total_tokens":16384}}\n\n'
)
DONE = b"data: [DONE]\n\n"
TINY = b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
BUSY = b'{"error":{"message":"busy","type":"new_api_error","param":null,"code":"system_cpu_overloaded"}}'
Serve = Callable[..., AbstractAsyncContextManager[tuple[Gateway, Wire]]]


@pytest.fixture
def serve(tmp_path: Path, state: Valkey) -> Serve:
    """A gateway in front of an upstream that says these bytes to every call."""

    @asynccontextmanager
    async def started(
        *pieces: bytes, terms: str = "", close: bool = True, **settings: Any
    ) -> AsyncIterator[tuple[Gateway, Wire]]:
        async with (
            wire(saying(*pieces, close=close)) as upstream,
            running(tmp_path, upstream.url, clients={"design": terms}, redis_url=state.url, **settings) as gateway,
        ):
            yield gateway, upstream
            await gateway.at_rest()

    return started


def form(
    *fields: tuple[str, bytes], name: str = "image", file: bytes = b"\x89PNG", boundary: str = "----form-4711"
) -> bytes:
    """A form whose file stands before its fields, as curl sends it when it is told so."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    rest = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n'.encode() + value + b"\r\n"
        for key, value in fields
    ]
    return b"".join([head.encode(), file, b"\r\n", *rest, f"--{boundary}--\r\n".encode()])


MODEL = ("model", b"gpt-image-1.5")
FORM = {"content-type": "multipart/form-data; boundary=----form-4711"}


async def test_pictures_pass_untouched(serve: Serve) -> None:
    """A4, A10: the bytes of an answer are the upstream's; tokens and pictures are counted."""
    async with serve(answer(WHOLE)) as (gateway, upstream):
        response = await gateway.http.post("/v1/images/generations/", json=ASKED | {"n": 2})
        assert (200, WHOLE) == (response.status_code, response.content)
        line = await gateway.entry()
        assert ("imagesGenerations", "ok", 13, 544, "reported") == (
            line["method"], line["outcome"], line["tokens_in"], line["tokens_out"], line["usage"],
        )  # fmt: skip
        assert 2 == gateway.metric("gateway_images_total", direction="out", model="gpt-image-1.5")
        assert 544 == gateway.metric("gateway_tokens_total", kind="output", modality="image")
    assert upstream.heads[0].startswith(b"POST /v1/images/generations HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("pieces", "images", "tokens"),
    [((PARTIAL, b": PING\n\n", COMPLETED, DONE), 1, 372), ((SUCCEEDED, FAILED, SERIES, DONE), 1, 16384)],
    ids=["partial pictures", "a picture that failed"],
)
async def test_a_stream_passes_untouched(serve: Serve, pieces: tuple[bytes, ...], images: int, tokens: int) -> None:
    """A4, A10, U4: events pass with their names, large ones too; a picture that failed among others ends nothing."""
    said = b"".join(pieces)
    async with serve(*chunked(*[said[at : at + 10_007] for at in range(0, len(said), 10_007)])) as (gateway, _):
        response = await gateway.http.post(GENERATIONS, json=ASKED | {"stream": True})
        assert (200, said) == (response.status_code, response.content)
        assert response.headers["content-type"].startswith("text/event-stream")
        assert ("ok", tokens, "reported") == (
            (line := await gateway.entry())["outcome"],
            line["tokens_out"],
            line["usage"],
        )
        assert images == gateway.metric("gateway_images_total", direction="out")


@pytest.mark.parametrize(
    ("body", "pieces"),
    [
        (ASKED, (PARTIAL,)), (ASKED, (PARTIAL, DONE)), (ASKED | {"n": 2}, (COMPLETED, DONE)), (ASKED, (SUCCEEDED, FAILED, DONE)),
        (ASKED, (PARTIAL, b'data: {"error":{"message":"no more","code":"do_request_failed"}}\n\n')),
    ],
    ids=["no end", "terminator alone", "one of two", "no completion", "error"],
)  # fmt: skip
async def test_a_stream_that_broke_off_never_ends_cleanly(
    serve: Serve, body: dict[str, Any], pieces: tuple[bytes, ...]
) -> None:
    """U4: a stream without the sign of its end is cut behind an error, whatever stands behind it."""
    async with serve(*chunked(*pieces)) as (gateway, _):
        received, ended = b"", True
        async with gateway.http.stream("POST", GENERATIONS, json=body | {"stream": True}) as response:
            try:
                async for chunk in response.aiter_raw():
                    received += chunk
            except httpx.RemoteProtocolError:
                ended = False
        assert not ended
        assert received.startswith(pieces[0])
        assert DONE not in received
        assert "error" in json.loads(received.split(b"data: ")[-1])
        assert (await gateway.entry())["outcome"] in {"upstream_broke", "upstream_error"}


async def test_a_stream_may_be_answered_in_one_piece_and_the_other_way_round(serve: Serve) -> None:
    """A10: what the upstream answers with passes as what it is, whatever was asked for."""
    for pieces, body in (((answer(WHOLE),), {"stream": True}), (chunked(COMPLETED, DONE), {})):
        async with serve(*pieces) as (gateway, _):
            response = await gateway.http.post(GENERATIONS, json=ASKED | body)
            assert (200, WHOLE if body else COMPLETED + DONE) == (response.status_code, response.content)
            assert "ok" == (await gateway.entry())["outcome"]


@pytest.mark.parametrize("size", [1000, 25 * 10**6], ids=["small", "25 MB"])
async def test_a_form_passes_untouched(serve: Serve, size: int) -> None:
    """A10, P4: the upstream receives the form byte for byte, with its model behind the file, under a header of ours."""
    body = form(("prompt", b"make it blue"), MODEL, ("n", b"2"), name="image[]", file=secrets.token_bytes(size))
    async with serve(answer(WHOLE)) as (gateway, upstream):
        said = {"content-type": 'Multipart/Form-Data; charset=utf-8; Boundary="----form-4711"'}
        response = await gateway.http.post(EDITS, content=body, headers=said)
        assert (200, WHOLE) == (response.status_code, response.content)
        line = await gateway.entry()
        assert ("imagesEdits", "gpt-image-1.5", len(body)) == (line["method"], line["model"], line["bytes_in"])
        assert 1 == gateway.metric("gateway_images_total", direction="in")
    assert [hashlib.sha256(body).hexdigest()] == upstream.hashes
    assert b"\r\ncontent-type: multipart/form-data; boundary=----form-4711\r\n" in upstream.heads[0]


async def test_an_edit_may_be_json(serve: Serve) -> None:
    """A10: so may pictures be named by their addresses."""
    async with serve(answer(WHOLE)) as (gateway, upstream):
        edit = ASKED | {"images": [{"image_url": "https://x/a.png"}]}
        assert 200 == (await gateway.http.post(EDITS, json=edit)).status_code
        assert 1 == (await gateway.entry() and gateway.metric("gateway_images_total", direction="in"))
    assert b"\r\ncontent-type: application/json\r\n" in upstream.heads[0]


@pytest.mark.parametrize(
    ("path", "body", "said", "code", "word"),
    [
        (GENERATIONS, form(MODEL), FORM["content-type"], 415, "content_type"), (EDITS, form(MODEL), "text/plain", 415, "content_type"),
        (EDITS, b"a=b", "application/x-www-form-urlencoded", 415, "content_type"), (EDITS, form(), FORM["content-type"], 400, "model_missing"),
        (EDITS, form(MODEL, MODEL), FORM["content-type"], 400, "bad_request"), (EDITS, form(MODEL, ("Model", b"o9")), FORM["content-type"], 400, "bad_request"),
        (EDITS, form(MODEL, ("n", b"1"), ("n", b"9")), FORM["content-type"], 400, "bad_request"), (EDITS, form(MODEL)[:-9], FORM["content-type"], 400, "bad_request"),
        (EDITS, form(MODEL), "multipart/form-data", 400, "bad_request"), (EDITS, form(MODEL), "multipart/form-data; boundary=c", 400, "bad_request"),
        (EDITS, form(MODEL, *[("x", b"")] * 10_000), FORM["content-type"], 400, "bad_request"), (EDITS, form(("n" * 20_000, b""), MODEL), FORM["content-type"], 400, "bad_request"),
        (EDITS, form(MODEL, ("prompt", b"p" * 70_000)), FORM["content-type"], 400, "bad_request"), (EDITS, b"[object FormData]", FORM["content-type"], 400, "bad_request"),
        (EDITS, form(MODEL, file=b"\n------form-4711\nContent-Disposition: form-data; name=model\n\no9\n"), FORM["content-type"], 400, "bad_request"),
        (EDITS, form(("model", b"o9")), FORM["content-type"], 403, "model_not_allowed"),
    ],
)  # fmt: skip
async def test_forms_that_are_refused(serve: Serve, path: str, body: bytes, said: str, code: int, word: str) -> None:
    """D9, K4, P11: a form that two readers could read differently is refused before anything is sent."""
    async with serve(answer(WHOLE), terms='models = ["gpt-image-*"]') as (gateway, upstream):
        refused = await gateway.http.post(path, content=body, headers={"content-type": said})
        assert (code, word) == (refused.status_code, refused.json()["error"]["code"])
    assert [] == upstream.heads


@pytest.mark.parametrize(
    ("said", "code", "retry"),
    [
        ((answer(BUSY, status="503 Busy"),), 503, "false"), ((answer(BUSY, status="500 No", more="x-should-retry: true\r\n"),), 500, "false"),
        ((answer(BUSY, status="429 Slow down"),), 429, None), ((answer(BUSY, status="400 Bad"),), 400, None),
        ((answer(WHOLE)[:-5],), 502, "false"), ((), 502, "false"), ((answer(b""),), 502, "false"), ((answer(b"<html>", content_type="text/html"),), 502, "false"),
    ],
    ids=["503", "500", "429", "400", "cut", "closed", "empty", "page"],
)  # fmt: skip
async def test_what_may_be_paid_is_sent_once(
    serve: Serve, said: tuple[bytes, ...], code: int, retry: str | None
) -> None:
    """U9: nothing is sent again once it was sent, by us or by an SDK, unless the upstream refused it."""
    async with serve(*said) as (gateway, upstream):
        failed = await gateway.http.post(GENERATIONS, json=ASKED)
        assert (code, retry) == (failed.status_code, failed.headers.get("x-should-retry"))
        assert 1 == (await gateway.entry())["attempts"]
    assert 1 == len(upstream.heads)


async def test_a_call_that_takes_too_long_may_be_paid(tmp_path: Path, state: Valkey) -> None:
    """U9: so does a deadline that is over; where nothing could be sent, everybody may try again."""
    async with (
        wire(saying(before=30)) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url) as gateway,
    ):
        late = await gateway.http.post(GENERATIONS, json=ASKED, headers={"x-server-timeout": "1"})
        assert (504, "false") == (late.status_code, late.headers["x-should-retry"])
    async with running(tmp_path, "http://127.0.0.1:1", redis_url=state.url) as gateway:
        nowhere = await gateway.http.post(GENERATIONS, json=ASKED)
        assert (502, None) == (nowhere.status_code, nowhere.headers.get("x-should-retry"))


async def test_only_pictures_in_the_answer_are_kept(serve: Serve) -> None:
    """C7: addresses of pictures expire, so an answer with one is kept by nobody, and neither is that to a form."""
    async with serve(answer(WHOLE), terms=PRIVATE) as (gateway, _):
        assert "fwd=miss; stored" == status(await gateway.http.post(GENERATIONS, json=ASKED))
        hit = await gateway.http.post(GENERATIONS, json=ASKED)
        assert (True, WHOLE) == (status(hit).startswith("hit"), hit.content)
        assert ("cache_hit", 0) == ((line := (await gateway.entries(2))[1])["outcome"], line["tokens_out"])
        assert "fwd=bypass" == status(await gateway.http.post(EDITS, content=form(MODEL), headers=FORM))
    async with serve(answer(LINKED), terms=PRIVATE) as (gateway, upstream):
        for _ in range(2):
            assert "fwd=miss" == status(await gateway.http.post(GENERATIONS, json=ASKED | {"prompt": "a link"}))
    assert 2 == len(upstream.heads)


async def test_pictures_of_a_day_are_counted_over_all_dialects(tmp_path: Path, state: Valkey) -> None:
    """L5: pictures of every dialect and family fill one budget, in which each call reserves what it may get."""
    google = b'{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":"iVBORw0K"}}]},"finishReason":"STOP"}]}'
    wan = b'{"output":[{"type":"image","text":"https://x/a.png"}],"usage":{"image_count":1}}'
    answers = {b"generateContent": google, b"images/edits": WHOLE, b"images/generations": wan}

    async def play(head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(next(answer(body) for part, body in answers.items() if part in head))

    terms = {"design": "images_per_day = 4"}
    async with wire(play) as upstream, running(tmp_path, upstream.url, redis_url=state.url, clients=terms) as gateway:
        wan_asked = {"model": "wan2.6-image", "parameters": {"n": 3}, "input": {"messages": []}}
        path = GENERATE.replace("flash", "flash-image")
        assert 200 == (await gateway.http.post(path, json={"contents": [{"parts": [{"text": "a cat"}]}]})).status_code
        assert 200 == (await gateway.http.post(GENERATIONS, json=wan_asked)).status_code  # three reserved, one made
        edited = await gateway.http.post(EDITS, content=form(MODEL, ("n", b"2")), headers=FORM)
        assert (200, True) == (edited.status_code, '"images-day";r=0' in edited.headers["ratelimit"])
        refused = await gateway.http.post(GENERATIONS, json=wan_asked)
        assert (429, "insufficient_quota") == (refused.status_code, refused.json()["error"]["code"])
        assert "false" == refused.headers["x-should-retry"]
        assert 4 == gateway.metric("gateway_images_total", direction="out")
        assert 0 == gateway.metric("gateway_usage_missing_total", model="wan2.6-image")


async def test_many_large_edits_stay_within_the_budget(tmp_path: Path, state: Valkey) -> None:
    """D8: 64 forms of 10 MB at once hold no more than the worker may; each passes whole, or is told to come back."""
    body = form(MODEL, file=secrets.token_bytes(10**7))
    waits = asyncio.Event()

    async def play(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await waits.wait()
        writer.write(answer(LINKED))

    async with (
        wire(play) as upstream,
        running(tmp_path, upstream.url, redis_url=state.url, clients={"design": "concurrent = 100"}) as gateway,
    ):
        budget = gateway.app.parts.memory_budget
        sent = [
            asyncio.create_task(gateway.http.post(EDITS, content=body, headers=FORM, timeout=60)) for _ in range(64)
        ]
        await until(lambda: len(upstream.hashes) + sum(one.done() for one in sent) == 64, 50)
        assert len(upstream.hashes) * len(body) <= budget.held <= budget.limit
        waits.set()
        answers = await asyncio.gather(*sent)
        await gateway.at_rest()
    assert {200, 503} >= {response.status_code for response in answers}
    assert all("retry-after" in response.headers for response in answers if response.status_code == 503)
    assert {hashlib.sha256(body).hexdigest()} == set(upstream.hashes)
    assert len(upstream.hashes) >= 40


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
@pytest.mark.parametrize(
    "model", ["gpt-image-1.5", "doubao-seedream-4-5-251128", "dall-e-3", "wan2.6-image", "qwen-image-max"]
)
async def test_each_family_as_the_sandbox_has_it(
    gateway: Gateway, upstream: Upstream, model: str, stream: bool
) -> None:
    """A10, U18: each family's answer passes by SHA-256, whole, and its picture is counted."""
    dashscope = {
        "input": {"messages": [{"role": "user", "content": [{"text": "a red cube"}]}]},
        "parameters": {"n": 1, "stream": stream},
    }
    body = {"model": model, **(dashscope if model[0] in "wq" else {"prompt": "a red cube", "stream": stream})}
    response = await gateway.http.post(GENERATIONS, json=body)
    (seen,) = await upstream.log()
    assert (200, seen["answer_sha256"]) == (response.status_code, hashlib.sha256(response.content).hexdigest())
    assert "ok" == (await gateway.entry())["outcome"]
    assert 1 == gateway.metric("gateway_images_total", direction="out", model=model)


async def test_an_edit_as_the_sandbox_has_it(gateway: Gateway, upstream: Upstream) -> None:
    """A10: a form reaches it byte for byte, and is understood there."""
    body = form(MODEL, ("prompt", b"make it blue"), file=base64.b64decode(TINY))
    response = await gateway.http.post(EDITS, content=body, headers=FORM)
    (seen,) = await upstream.log()
    assert (200, hashlib.sha256(body).hexdigest()) == (response.status_code, seen["body_sha256"])
    assert 1 == gateway.metric("gateway_images_total", direction="out", model="gpt-image-1.5")
