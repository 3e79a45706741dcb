"""Does each fault do what it says?"""

import gzip
import json
import zlib
from typing import Any

import httpx
import pytest

from .conftest import KEY, Caller, events_of, text_of

STREAM = "streamGenerateContent"
SSE = f"{STREAM}?alt=sse"


def spoiled(caller: Caller, spec: str, **options: Any) -> httpx.Response:
    """Call with the fault asked for in the prompt, as through a gateway."""
    return caller.call(f"please sandbox-fault: {spec} now", **options)


@pytest.mark.parametrize(
    ("spec", "status", "code"),
    [
        ("400", 400, "bad_response_status_code"),
        ("429", 429, "rate_limit"),
        ("500", 500, "bad_response_status_code"),
        ("503", 503, "overloaded"),
        ("quota", 403, "insufficient_user_quota"),
        ("key", 401, ""),
        ("echokey", 400, "invalid_request"),
        ("nonsense", 400, "invalid_request"),
        ("slow=soon", 400, "invalid_request"),
    ],
)
def test_errors_in_the_vendors_shape(caller: Caller, spec: str, status: int, code: str) -> None:
    """U9: any status, in new-api's shape; a fault that does not exist is reported."""
    for method in ("generateContent", SSE):
        response = spoiled(caller, spec, method=method)
        error = response.json()["error"]
        assert (status, "new_api_error", code) == (response.status_code, error["type"], error["code"])
        assert "retry-after" not in response.headers
        assert (f"Bearer {KEY}" in error["message"]) is (spec == "echokey")


def test_waits_are_named(caller: Caller) -> None:
    """U9: the argument of a status is Retry-After; Google's shape has RetryInfo."""
    assert "7" == spoiled(caller, "503=7").headers["retry-after"]
    response = spoiled(caller, "google=429/3")
    error = response.json()["error"]
    assert (429, 429, "RESOURCE_EXHAUSTED") == (response.status_code, error["code"], error["status"])
    assert [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "3s"}] == error["details"]


def test_times_are_counted_for_each_body(caller: Caller) -> None:
    """U9: `*2` spoils the first two calls with the same body, by marker or by header, and no other body's third."""
    assert [503, 503, 200] == [spoiled(caller, "503*2").status_code for _ in range(3)]
    assert 503 == spoiled(caller, "503*2", generationConfig={}).status_code
    header = {"x-sandbox-fault": "429=1*1"}
    body = {"contents": [{"parts": [{"text": "by header"}]}]}
    url = "/v1beta/models/gemini-2.5-flash:generateContent"
    assert [429, 200] == [caller.http.post(url, json=body, headers=header).status_code for _ in range(2)]
    caller.http.delete("/sandbox/log")
    assert 503 == spoiled(caller, "503*2").status_code, "a cleared log counts from the start"


def test_faults_reach_every_route(caller: Caller) -> None:
    """The list of models misbehaves by header, like any other route."""
    assert 503 == caller.http.get("/v1beta/models", headers={"x-sandbox-fault": "503"}).status_code


@pytest.mark.parametrize("method", ["generateContent", SSE])
def test_other_answers_altogether(caller: Caller, method: str) -> None:
    """U10, U11: HTML with either status, nothing at all, and a redirect to a thief that is not followed here."""
    html = spoiled(caller, "html", method=method)
    assert (502, "text/html") == (html.status_code, html.headers["content-type"])
    assert (200, html.text) == ((page := spoiled(caller, "html200", method=method)).status_code, page.text)
    empty = spoiled(caller, "empty", method=method)
    assert (200, b"", "0") == (empty.status_code, empty.content, empty.headers["content-length"])
    moved = spoiled(caller, "redirect", method=method)
    assert (302, "http://127.0.0.1:1/thief") == (moved.status_code, moved.headers["location"])


def test_json_cut_with_a_correct_length(caller: Caller) -> None:
    """U4: framing cannot tell that the JSON is half."""
    response = spoiled(caller, "badjson")
    assert 200 == response.status_code
    assert len(response.content) == int(response.headers["content-length"]) > 50
    with pytest.raises(json.JSONDecodeError):
        response.json()


def test_answers_that_say_something_unusual(caller: Caller) -> None:
    """U18, U20: no usage, a blocked prompt, a refused answer, a link instead of a picture, far too much text."""
    assert "usageMetadata" not in spoiled(caller, "nousage").json()
    assert None is caller.log()[0]["usage"]
    assert all("usageMetadata" not in event for event in events_of(spoiled(caller, "nousage", method=SSE).text))
    blocked = spoiled(caller, "blocked").json()
    assert "SAFETY" == blocked["promptFeedback"]["blockReason"]
    assert "candidates" not in blocked
    assert blocked["usageMetadata"]["promptTokenCount"] == blocked["usageMetadata"]["totalTokenCount"]
    assert "SAFETY" == spoiled(caller, "safety").json()["candidates"][0]["finishReason"]
    link = spoiled(caller, "link", model="gemini-2.5-flash-image").json()
    assert text_of(link).startswith("![image](http://169.254.169.254/")
    assert "usageMetadata" not in link
    assert 3_000_000 == len(text_of(spoiled(caller, "toolong=3000000").json()))


def raw(caller: Caller, spec: str, method: str) -> bytes:
    """The body of a gzip answer as it stood on the wire."""
    body = {"contents": [{"parts": [{"text": f"sandbox-fault: {spec}"}]}]}
    with caller.http.stream("POST", f"/v1beta/models/gemini-2.5-flash:{method}", json=body) as response:
        assert "gzip" == response.headers["content-encoding"]
        return b"".join(response.iter_raw())


def test_gzip_although_nobody_asked(caller: Caller) -> None:
    """U8: the answer is whole, but encoded; streams too."""
    for method in ("generateContent", SSE):
        assert b"STOP" in gzip.decompress(raw(caller, "gzip", method))


def test_bomb(caller: Caller) -> None:
    """U8: about a megabyte that expands to 200 MiB."""
    packed = raw(caller, "bomb", "generateContent")
    assert len(packed) < 2_000_000
    unpacker, size = zlib.decompressobj(wbits=31), 0
    while not unpacker.eof:
        size += len(unpacker.decompress(packed, 2**20))
        packed = unpacker.unconsumed_tail
    assert 200 * 2**20 == size
