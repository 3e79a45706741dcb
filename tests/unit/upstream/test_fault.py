"""How errors are written, and what is read of the upstream's."""

import base64
import json
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GOOGLE as SHAPE
from gateway.errors.tree import KeyInvalid, RateLimited
from gateway.upstream.fault import code_within, fault_of
from gateway.upstream.redact import redacted

SECRET = "sk-canary/+\"7f>>>??~'Zq=="  # its base64 differs in the two alphabets
GOOGLE = {"error": {"code": 429, "message": "Slow down.", "status": "RESOURCE_EXHAUSTED", "details": [{"x": 1}]}}


def new_api(message: str, code: Any, **more: Any) -> bytes:
    """Make an error as the vendor writes it."""
    return json.dumps(
        {"error": {"message": message, "type": "new_api_error", "param": "", "code": code}, **more}
    ).encode()


def passed(status: int, content_type: str, body: bytes, secret: str) -> bytes:
    """What a caller of Google's dialect reads of an error."""
    return SHAPE.pass_on(fault_of(status, content_type, body, secret))


def code_of(body: bytes) -> str:
    """The vendor's own code, or the number of the error that it quotes."""
    return code_within(body)


def mended(status: int, body: bytes, content_type: str = "application/json", secret: str = SECRET) -> dict[str, Any]:
    """Mend and read; asserts Google's shape."""
    error: dict[str, Any] = json.loads(passed(status, content_type, body, secret))["error"]
    assert [status, str, str, list] == [
        error["code"],
        type(error["status"]),
        type(error["message"]),
        type(error["details"]),
    ]
    return error


def test_an_error_of_ours() -> None:
    """The interface's own example, to the letter."""
    refusal = RateLimited(
        "tokens_per_minute: 100000 are allowed. Please retry after 7 seconds.",
        retry_after=7,
        metadata={"limit": "tokens_per_minute"},
    )
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "RATE_LIMITED",
        "domain": "tokenhot-gateway",
        "metadata": {"limit": "tokens_per_minute", "client": "design"},
    }
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}
    expected = {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": refusal.message, "details": [info, retry]}
    assert {"error": expected} == json.loads(SHAPE.write(refusal, "r-1", "design"))


def test_an_error_of_ours_without_wait_and_client() -> None:
    """RetryInfo stands only where a wait is known, and the client only where it is known."""
    error = json.loads(SHAPE.write(KeyInvalid()))["error"]
    assert (401, "UNAUTHENTICATED") == (error["code"], error["status"])
    assert [("KEY_INVALID", {})] == [(one["reason"], one["metadata"]) for one in error["details"]]


def test_googles_shape_passes_byte_for_byte() -> None:
    """An error in Google's shape is not touched: not its spacing, not its escapes, not its details."""
    for body in (
        json.dumps(GOOGLE, indent=3).encode(),
        b' {"error":{"status":"X","code":429,"message":"\\u00e9"},"a":1}\n',
    ):
        assert body == passed(429, "application/json", body, SECRET)


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, "INVALID_ARGUMENT"), (401, "UNAUTHENTICATED"), (403, "PERMISSION_DENIED"), (404, "NOT_FOUND"),
        (409, "ABORTED"),
        (413, "INVALID_ARGUMENT"), (429, "RESOURCE_EXHAUSTED"), (500, "INTERNAL"), (501, "UNIMPLEMENTED"),
        (502, "UNAVAILABLE"),
        (503, "UNAVAILABLE"), (504, "DEADLINE_EXCEEDED"), (599, "INTERNAL"),
    ],
)  # fmt: skip
def test_the_vendors_shape_is_rewritten(status: int, word: str) -> None:
    """The vendor's message and code are kept, its request id is not: some clients read numbers out of the text."""
    error = mended(status, new_api("No channel for m (request id: 2026403429)", "model_not_found"))
    assert (word, "No channel for m") == (error["status"], error["message"])
    info = error["details"][0]
    assert ("UPSTREAM_ERROR", {"upstream_code": "model_not_found"}) == (info["reason"], info["metadata"])


@pytest.mark.parametrize(
    ("body", "message", "metadata"),
    [
        (b'{"error":{"message":"m","code":""}}', "m", {}),
        (b'{"error":{"message":"m","code":null}}', "m", {}),
        (b'{"error":{"message":"m","code":[1]}}', "m", {}),
        (b'{"error":{"message":"m","code":1213}}', "m", {"upstream_code": "1213"}),
        (b'{"error":"text"}', "text", {}),
        (b'{"type":"error","error":{"type":"x","message":"m"}}', "m", {}),
        (b'{"code":"task_not_exist","message":"m","data":null}', "m", {"upstream_code": "task_not_exist"}),
        (b'{"error":null,"message":"m"}', "m", {}),
        (b'{"code":503,"status":"X","message":"m"}', "m", {"upstream_code": "503"}),
    ],
)
def test_other_shapes(body: bytes, message: str, metadata: dict[str, str]) -> None:
    """Message and code are found wherever relays put them."""
    error = mended(503, body)
    assert (message, metadata) == (error["message"], error["details"][0]["metadata"])


def test_googles_shape_is_filled() -> None:
    """Where code or status is missing or wrong it is filled from HTTP, and details stay; a list is unwrapped."""
    details = [{"@type": "x", "retryDelay": "3s"}]
    for broken in (
        {"message": "m", "status": "NOT_FOUND"},
        {"message": "m", "code": 404},
        {"message": "m", "code": 5, "status": "OK"},
    ):
        error = mended(404, json.dumps({"error": {**broken, "details": details}}).encode())
        assert ("NOT_FOUND", "m", details) == (error["status"], error["message"], error["details"])
    assert GOOGLE["error"] == mended(429, json.dumps([GOOGLE]).encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html><h1>502</h1></html>",
        b"null",
        b"[]",
        b"[1]",
        b'{"error":{}}',
        b'{"error":{"message":""}}',
        b'{"error":{"message":5}}',
        b'{"error":{"message":"cut',
        b"[" * 10**5,
        b"\xff",
        b" " * 10**6,
    ],
)
def test_nothing_readable(body: bytes) -> None:
    """U11: HTML, nothing or a cut body becomes a plain sentence."""
    assert "The upstream answered 502 and gave no readable reason." == mended(502, body, "text/html")["message"]


def test_plain_text_and_long_messages() -> None:
    """A plain text is its own message; a message without end is cut."""
    assert "no healthy upstream" == mended(503, b"no healthy upstream\n", "text/plain; charset=utf-8")["message"]
    assert 16_000 == len(mended(503, new_api("x" * 50_000, ""))["message"])


SPELLINGS = {
    "raw": SECRET,
    "url": quote(SECRET, safe=""),
    "hex": SECRET.encode().hex(),
    "HEX": SECRET.encode().hex().upper(),
    "json in json": json.dumps(SECRET),
    **{f"base64 after {n}": base64.b64encode(b"B" * n + SECRET.encode() + b"tail").decode() for n in range(6)},
    **{f"urlsafe after {n}": base64.urlsafe_b64encode(b"B" * n + SECRET.encode()).decode() for n in range(3)},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("shape", ["google", "vendor", "escaped", "text", "twice", "broken"])
def test_the_key_is_cut_out(spelling: str, shape: str) -> None:
    """U12, S1: whatever spelling of our key the upstream echoes, in whatever shape, it reaches nobody."""
    echo = f"Bearer {SPELLINGS[spelling]} is bad"
    google = {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "m", "details": [{"echo": echo}]}}
    body = {
        "google": json.dumps(google).encode(),
        "vendor": new_api(echo, SPELLINGS[spelling]),
        "escaped": b'{"error":{"code":400,"status":"X","message":"%b"}}'
        % b"".join(b"\\u%04x" % ord(char) for char in echo),
        "text": echo.encode(),
        "twice": b'{"error":{"code":400,"status":"X","message":%b,"message":"m"}}' % json.dumps(echo).encode(),
        "broken": new_api(echo, "")[:-1],
    }[shape]
    written = passed(400, "text/plain", body, SECRET)
    read = json.dumps(json.loads(written), ensure_ascii=False)
    assert redacted(written, SECRET) is written
    for each in SPELLINGS.values():
        assert each[6:-6] not in read


def escaped(*ways: str) -> str:
    """The key with each of its characters written in one of these ways, in turn."""
    return "".join(ways[at % len(ways)].format(char, code=ord(char)) for at, char in enumerate(SECRET))


ESCAPED = [
    escaped("\\u{code:04x}"),
    escaped("\\u{code:04X}"),
    escaped("\\\\u{code:04x}"),
    escaped("\\u{code:04x}", "&#{code};"),
    escaped("&#x{code:x};", "%{code:02x}"),
    escaped("&#0{code}", "&amp;#{code};"),
    escaped("%{code:02X}"),
    escaped("%25{code:02X}", "\\x{code:02x}"),
    escaped("\\u{{{code:x}}}", "\\{code:o}"),
    SECRET.replace("/", "\\/").replace('"', '\\"'),
    SECRET[:4].replace("s", "\\u0073") + json.dumps(SECRET)[5:-1].replace("f", "\\u0066"),
    base64.b64encode(b"??" + SECRET.encode()).decode().replace("/", "\\/"),
]


@pytest.mark.parametrize("spelling", ESCAPED)
def test_an_escaped_key_is_cut_out(spelling: str) -> None:
    """S1: any of its characters may be escaped in any way, also behind a member that stands there twice."""
    echo = f"Bearer {spelling} is bad".encode()
    for body in (
        b'{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"%b"}}' % echo,
        b'{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"%b","message":"m"}}' % echo,
        b'{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"m","details":[]},"error":"%b"}' % echo,
        echo,
    ):
        assert b"[removed]" in redacted(body, SECRET)
        written = passed(400, "application/json", body, SECRET)
        for told in (redacted(body, SECRET), written):
            assert b"Bearer [removed]" in told or spelling[8:].encode() not in told
        assert written.startswith(b'{"error":{"code":400,')
    assert SECRET[4:] not in json.dumps(json.loads(written))


def test_a_search_for_escapes_is_linear() -> None:
    """No text makes the search go over itself again and again."""
    for text in (b"\\" * 10**6, b"%25" * 10**6, b"&amp;" * 10**6, b"\\u0073" * 10**6, b"\\0" * 10**6):
        began = time.process_time()
        assert redacted(text, SECRET) is text
        assert time.process_time() - began < 3


INFO = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}
INNER = {"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": [INFO]}}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(INNER),
        json.dumps(INNER, indent=2),
        json.dumps([INNER]),
        f"upstream said: {json.dumps(INNER)}",
        f"429 Too Many Requests. {json.dumps(INNER)} (request id: 2026)",
        f"429 RESOURCE_EXHAUSTED. {INNER}",
        f"got {json.dumps(INNER, indent=2).encode()!r}",
        json.dumps({"error": {"message": json.dumps(INNER), "code": "x"}}),
        f"litellm: {json.dumps({'error': {'message': f'said {INNER}'}})}",
        json.dumps({"detail": json.dumps(INNER)}),
    ],
)
@pytest.mark.parametrize("shape", ["vendor", "google", "detail", "string"])
def test_an_error_within_an_error(text: str, shape: str) -> None:
    """Google's error as a text within a relay's: its message, its word and its wait come out, however deep it is."""
    body = {
        "vendor": {"error": {"message": text, "type": "upstream_error", "code": "bad_response_status_code"}},
        "google": {"error": {"message": text, "status": "UNKNOWN", "code": 429}},
        "detail": {"detail": text},
        "string": {"error": text},
    }[shape]
    error = mended(429, json.dumps(body).encode())
    assert ("quota", "RESOURCE_EXHAUSTED") == (error["message"], error["status"])
    assert INFO in error["details"]
    assert (17.0, "429") == (
        fault_of(429, "", json.dumps(body).encode(), "").retry_after,
        code_of(json.dumps(body).encode()),
    )
    assert ("bad_response_status_code" in json.dumps(error)) == (shape == "vendor")


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        ({"detail": "Slow down"}, "Slow down", ""),
        ({"detail": [{"loc": ["body"], "msg": "field required", "type": "missing"}]}, "field required", ""),
        ({"detail": {"message": "Slow down", "code": "rate"}}, "Slow down", "rate"),
        ({"detail": {"error": {"message": "Slow down", "code": "rate"}}}, "Slow down", "rate"),
        ({"msg": "Slow down", "code": 1302}, "Slow down", "1302"),
        ({"errors": [{"message": "Slow down", "code": "rate"}, {"message": "x"}]}, "Slow down", "rate"),
        ({"errors": ["Slow down"]}, "Slow down", ""),
        ({"message": "Slow down"}, "Slow down", ""),
        ({"error": "rate", "error_description": "Slow down"}, "Slow down", "rate"),
        ({"error": "rate", "message": "Slow down"}, "Slow down", "rate"),
        ({"type": "about:blank", "title": "Rate", "detail": "Slow down", "status": 429}, "Slow down", ""),
        ({"title": "Slow down"}, "Slow down", ""),
        ({"Error": {"Message": "Slow down", "Code": "Throttling"}}, "Slow down", "Throttling"),
        ({"Message": "Slow down"}, "Slow down", ""),
        ([{"error": {"message": "Slow down", "code": "rate"}}, {}], "Slow down", "rate"),
        ([{"x": 1}, {"message": "Slow down"}], "Slow down", ""),
        ({"error": {"error": {"message": "Slow down", "code": "rate"}}}, "Slow down", "rate"),
        ({"error": {"message": "use {braces} and [brackets]", "code": "x"}}, "use {braces} and [brackets]", "x"),
    ],
)
def test_shapes_of_others(body: Any, message: str, code: str) -> None:
    """Frameworks, OAuth, RFC 9457 and clouds each write errors their own way; message and code are found in all."""
    written = json.dumps(body).encode()
    error = mended(429, written)
    assert (message, "RESOURCE_EXHAUSTED", code) == (error["message"], error["status"], code_of(written))
    assert ({"upstream_code": code} if code else {}) == error["details"][0]["metadata"]


def test_words_alone() -> None:
    """A few plain words are a message, whatever they are called; a page is none."""
    assert "upstream connect error" == mended(503, b"upstream connect error\n")["message"]
    for page in (b"<h1>503</h1>", b"\x00\x01", b"\xff", b"{cut", b"x" * 3000):
        assert "gave no readable reason" in mended(503, page)["message"]


@given(before=st.binary(max_size=8), after=st.binary(max_size=8))
def test_base64_of_any_surroundings(before: bytes, after: bytes) -> None:
    """S1: base64 hides the key behind what stands around it, in three ways."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert b"[removed]" in redacted(encode(before + SECRET.encode() + after), SECRET)


def test_no_key_and_innocent_text() -> None:
    """Nothing is cut where no key is set, or where none is."""
    body = json.dumps(GOOGLE).encode()
    assert body is passed(429, "", body, "")
    assert body is passed(429, "", body, SECRET)


@pytest.mark.parametrize(
    ("status", "body", "refused"),
    [
        (401, b"", True),
        (401, new_api("Invalid token", ""), True),
        (403, new_api("quota", "insufficient_user_quota"), True),
        (403, new_api("pre-consume failed", "err: insufficient_user_quota"), True),
        (403, new_api("insufficient_user_quota", "model_not_allowed"), False),
        (403, b"<html>", False),
        (429, new_api("quota", "insufficient_user_quota"), False),
    ],
)
def test_our_key_refused(status: int, body: bytes, refused: bool) -> None:
    """The upstream's 401, and its 403 for a spent balance, are about us and not about the caller."""
    assert refused == (fault_of(status, "", body, "").kind in {"key", "balance"})


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [("7s", 7.0), ("0.5s", 0.5), ("7", None), ("-1s", None), ("1e3s", None), (8, None), ("nans", None)],
)
def test_retry_delay(delay: Any, seconds: float | None) -> None:
    """The wait of Google's RetryInfo is read, and nothing that only looks like one."""
    retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}
    assert (
        seconds == fault_of(429, "", json.dumps({"error": {"details": [{"x": 1}, 5, retry]}}).encode(), "").retry_after
    )


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (new_api("m", "model_not_found"), "model_not_found"),
        (new_api("m", None), ""),
        (json.dumps(GOOGLE).encode(), "429"),
        (b"<html>", ""),
    ],
)
def test_upstream_code(body: bytes, code: str) -> None:
    """U19: the vendor's code tells an unknown model from an overload."""
    assert code == code_of(body)


HALVES = [
    r'{"error":{"message":"bad \ud83d half","code":"overloaded"}}',
    r"{'error': {'message': 'bad \ud83d half', 'code': 'overloaded', 'details': [{'x': '\ud83d'}]}}",
]


@pytest.mark.parametrize("quoted", HALVES)
@pytest.mark.parametrize(("status", "kind"), [(401, "key"), (503, "overloaded"), (500, "other")])
def test_half_a_character_in_a_quoted_error(quoted: str, status: int, kind: str) -> None:
    """U12: halves of surrogate pairs within an error's text are read like any text, and neither raise nor are lost."""
    body = json.dumps({"error": {"message": f"upstream said {quoted}"}}).encode()
    fault = fault_of(status, "application/json", body, SECRET)
    assert kind == fault.kind
    assert "bad" in fault.message
    assert b"half" in SHAPE.pass_on(fault)


@pytest.mark.parametrize("body", [b"[" * 5000, b"[" * 900 + b"]" * 900, b'{"error":' * 900 + b"1" + b"}" * 900])
def test_nesting_without_end(body: bytes) -> None:
    """D9: an error of any depth is an error, and never a failure of ours."""
    assert "key" == fault_of(401, "application/json", body, SECRET).kind


def test_a_large_error_is_read_in_part() -> None:
    """U12: of an error of megabytes the beginning is looked at, and no key stands in what passes."""
    for body in (SECRET.encode() * 200_000, b"x" * 8_000_000, b'{"error":{"message":"' + b"y" * 9_000_000 + b'"}}'):
        fault = fault_of(502, "text/plain", body, SECRET)
        assert len(fault.message) <= 32_000
        assert SECRET.encode() not in SHAPE.pass_on(fault)
