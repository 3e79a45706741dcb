"""An error that stands inside a 2xx: the caller is told it as one, and never takes what came before it for whole."""

from pathlib import Path

import httpx
import pytest

from tests.support.gateway import GENERATE, STREAM, TEXT, UPSTREAM_KEY, Gateway, running
from tests.support.wire import answer, chunked, saying, wire

HALF = b'{"candidates":[{"content":{"parts":[{"text":"h"}]}}],"usageMetadata":{"totalTokenCount":2}}'
ERROR = b'{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}'
EVENTS = (b"data: " + HALF + b"\n\n", b"data: " + ERROR + b"\n\n")
ARRAY = STREAM.removesuffix("?alt=sse")


async def received(gateway: Gateway, path: str) -> tuple[httpx.Headers, bytes, bool]:
    """Headers and bytes of the answer, and whether it had a clean end."""
    got = b""
    try:
        async with gateway.http.stream("POST", path, json=TEXT) as response:
            async for chunk in response.aiter_raw():
                got += chunk
    except httpx.RemoteProtocolError:
        return response.headers, got, False
    return response.headers, got, True


@pytest.mark.parametrize("apart", [True, False])
async def test_it_ends_a_stream_without_a_clean_end(tmp_path: Path, *, apart: bool) -> None:
    """U17: the events before it pass, then itself, once, as it came; then the connection is cut, and it is counted."""
    pieces = EVENTS if apart else (b"".join(EVENTS),)
    async with wire(saying(*chunked(*pieces), pause=0.02)) as upstream, running(tmp_path, upstream.url) as gateway:
        _, got, whole = await received(gateway, STREAM)
        entry = await gateway.entry()
    assert (b"".join(EVENTS), False) == (got, whole)
    assert ("upstream_error", 200, "reported") == (entry["outcome"], entry["status"], entry["usage"])


@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
async def test_it_ends_an_array_without_a_bracket(tmp_path: Path, kind: str) -> None:
    """U17: a caller of the array gets the whole objects before it, and no end that looks like one."""
    pieces = EVENTS if kind == "text/event-stream" else (b"[" + HALF, b"," + ERROR + b"]")
    async with (
        wire(saying(*chunked(*pieces, content_type=kind), pause=0.02)) as upstream,
        running(tmp_path, upstream.url) as gateway,
    ):
        _, got, whole = await received(gateway, ARRAY)
        entry = await gateway.entry()
    assert (b"[" + HALF, False) == (got, whole)
    assert "upstream_error" == entry["outcome"]


@pytest.mark.parametrize("path", [STREAM, ARRAY])
async def test_first_in_a_stream_it_is_a_plain_error(tmp_path: Path, path: str) -> None:
    """U17: where nothing has been passed on yet, its own code is the status, and its bytes are the body."""
    async with wire(saying(*chunked(EVENTS[1]))) as upstream, running(tmp_path, upstream.url) as gateway:
        response = await gateway.http.post(path, json=TEXT)
        entry = await gateway.entry()
    assert (503, "application/json", ERROR) == (
        response.status_code,
        response.headers["content-type"],
        response.content,
    )
    assert ("upstream_error", 503, "none") == (entry["outcome"], entry["status"], entry["usage"])


async def test_a_unary_one_passes_and_is_no_success(tmp_path: Path) -> None:
    """A4, U12: a 2xx passes byte for byte but for our key, and neither counts as ok nor as one without usage."""
    bad = ERROR.replace(b"The model", UPSTREAM_KEY.encode())
    for said, expected in ((ERROR, ERROR), (bad, ERROR.replace(b"The model", b"[removed]"))):
        async with wire(saying(answer(said))) as upstream, running(tmp_path, upstream.url) as gateway:
            response = await gateway.http.post(GENERATE, json=TEXT)
        assert (200, expected) == (response.status_code, response.content)
        assert 1 == gateway.metric("gateway_requests_total", outcome="upstream_error", code="200")
        assert 0 == gateway.metric("gateway_usage_missing_total")


async def test_an_array_in_place_of_events(tmp_path: Path) -> None:
    """Streams: a caller who asked for events gets events, each on one line, whatever the upstream made of it."""
    last = b'{"candidates": [\n {"finishReason": "STOP"}]}'
    for pieces in ((b"[" + HALF + b",", last + b"]"), (b"[", HALF + b"," + last, b"]")):
        said = chunked(*pieces, content_type="application/json")
        async with wire(saying(*said)) as upstream, running(tmp_path, upstream.url) as gateway:
            response = await gateway.http.post(STREAM, json=TEXT)
        events = b"data: " + HALF + b"\n\ndata: " + last.replace(b"\n", b" ") + b"\n\n"
        assert ("text/event-stream", events) == (response.headers["content-type"], response.content)


async def test_our_key_is_cut_out_of_it(tmp_path: Path) -> None:
    """U12, S1: an error inside a stream, a content type and a `Retry-After` are no way out for the key."""
    error = b'data: {"error":{"code":400,"message":"bad key %b"}}\n\n' % UPSTREAM_KEY.encode()
    plays = {
        STREAM: b"".join(chunked(EVENTS[0], error)),
        GENERATE: answer(b'{"candidates":[]}', content_type=f"application/json; k={UPSTREAM_KEY}"),
        ARRAY: answer(ERROR, status="429 Wait", more=f"retry-after: {UPSTREAM_KEY}\r\n"),
    }
    for path, said in plays.items():
        async with wire(saying(said)) as upstream, running(tmp_path, upstream.url) as gateway:
            headers, got, _ = await received(gateway, path)
        assert UPSTREAM_KEY not in f"{headers}{got!r}"
        assert (b"[removed]" in got) == (path == STREAM)


@pytest.mark.parametrize("path", [GENERATE, STREAM])
async def test_our_escaped_key_is_cut_out_of_it(tmp_path: Path, path: str) -> None:
    """U12, S1: an error with status 200, whole or within a stream, whose bytes spell the key in escapes."""
    escaped = "".join(f"\\u{ord(char):04x}" if at % 2 else char for at, char in enumerate(UPSTREAM_KEY)).encode()
    error = b'{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"bad %b x","message":"m"}}' % escaped
    said = b"".join(chunked(EVENTS[0], b"data: %b\n\n" % error)) if path == STREAM else answer(error)
    async with wire(saying(said)) as upstream, running(tmp_path, upstream.url) as gateway:
        _, got, _ = await received(gateway, path)
    assert error.replace(escaped, b"[removed]") in got


@pytest.mark.parametrize("path", [GENERATE, STREAM])
async def test_a_status_that_is_none(tmp_path: Path, path: str) -> None:
    """U11: a status outside of HTTP's is a 502 of ours, and no answer without a status line."""
    async with wire(saying(answer(ERROR, status="600 Odd"))) as upstream, running(tmp_path, upstream.url) as gateway:
        response = await gateway.http.post(path, json=TEXT)
        entry = await gateway.entry()
    assert (502, "UPSTREAM_ERROR") == (response.status_code, response.json()["error"]["details"][0]["reason"])
    assert (502, "upstream_error") == (entry["status"], entry["outcome"])
