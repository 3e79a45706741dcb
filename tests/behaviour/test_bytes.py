"""What was sent is what arrived, byte for byte at both ends and in every dialect, by SHA-256."""

import base64
import hashlib
import json
import secrets
from pathlib import Path

import pytest

from tests.support.gateway import GENERATE, STREAM, TEXT, Gateway, Upstream, running
from tests.support.valkey import Valkey
from tests.support.wire import answer, chunked, saying, wire

IMAGE = GENERATE.replace("gemini-2.5-flash", "gemini-2.5-flash-image")
IMAGE_STREAM = STREAM.replace("gemini-2.5-flash", "gemini-2.5-flash-image")
TINY = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def sha256(data: bytes) -> str:
    """As the sandbox's log writes it."""
    return hashlib.sha256(data).hexdigest()


def body_with(picture: bytes, prompt: str) -> bytes:
    """A request body with odd spacing and both casings, which nobody may tidy up."""
    data = base64.urlsafe_b64encode(picture).decode()
    part = {"inlineData": {"data": data, "mime_type": "image/png"}}
    return json.dumps({"contents": [{"parts": [{"text": prompt}, part]}]}, indent=3).encode() + b"\n \n"


@pytest.mark.parametrize(
    "path", [IMAGE, IMAGE_STREAM, IMAGE_STREAM.removesuffix("?alt=sse")], ids=["unary", "events", "array"]
)
@pytest.mark.parametrize(
    ("picture", "prompt"),
    [(TINY, "Make it blue"), (secrets.token_bytes(8_000_000), "sandbox-size: 8000000 ")],
    ids=["1x1", "8 MB"],
)
async def test_bytes_are_the_same_at_both_ends(
    gateway: Gateway, upstream: Upstream, path: str, picture: bytes, prompt: str
) -> None:
    """A10: the upstream received what the caller sent, and the caller what the upstream sent."""
    body = body_with(picture, prompt)

    response = await gateway.http.post(path, content=body, headers={"content-type": "application/json"}, timeout=60)

    (seen,) = await upstream.log()
    entry = await gateway.entry()
    assert 200 == response.status_code
    assert (sha256(body), len(body)) == (seen["body_sha256"], seen["body_bytes"])
    assert (sha256(response.content), len(response.content)) == (seen["answer_sha256"], seen["answer_bytes"])
    assert ("ok", "reported", len(body), len(response.content)) == (
        entry["outcome"], entry["usage"], entry["bytes_in"], entry["bytes_out"],
    )  # fmt: skip
    assert 1 == gateway.metric("gateway_images_total", direction="in")
    assert 1 == gateway.metric("gateway_images_total", direction="out")


def event(text: str, end: str = "") -> bytes:
    """One event's payload, spaced as no encoder of ours would and with what text splitters stumble over."""
    reason = f', "finishReason" : "{end}"' if end else ""
    return f'{{ "candidates":[ {{"content":{{"parts":[{{"text": {json.dumps(text)}}}]}}{reason}}} ]}}'.encode()


EVENTS = [  # in the framings that relays use; each of these passes byte for byte
    b"data: %b\r\n\r\n" % event("a\\u2028b"),
    b"data:%b\n\n" % event("\u2028 \x85 \u00e9"),
    b"data: %b\n\n" % event("x" * 70_000),
    b"data: %b\n\n" % event("end", "STOP"),
]
NOISE = [b": PING\n\n", b"event: message\nid: 7\n", b"retry: 5\n\n", b": PING\r\n\r\n"]


@pytest.mark.parametrize("size", [1, 7, 1000, 1_000_000])
async def test_events_pass_unchanged(tmp_path: Path, state: Valkey, size: int) -> None:
    """A10: whatever stands between the events and wherever they are cut, each arrives as it was sent."""
    events = [event for event in EVENTS if len(event) < 20_000 * size]
    said = b"".join(noise + event for noise, event in zip(NOISE, events, strict=False)) + b"data: [DONE]\n\n"
    pieces = [said[at : at + size] for at in range(0, len(said), size)]
    async with (
        wire(saying(*chunked(*pieces), close=False)) as heard,
        running(tmp_path, heard.url, redis_url=state.url) as gateway,
    ):
        response = await gateway.http.post(STREAM, json=TEXT)
        entry = await gateway.entry()
    assert b"".join(events) == response.content
    assert ("ok", len(response.content)) == (entry["outcome"], entry["bytes_out"])


# Text that splitters, encoders and decoders stumble over: line separators that are none to JSON, half a surrogate pair,
# a pair, an escaped slash, a number that no double holds, a character beyond the BMP, CRLF as white space.
ODD = (
    b'"a\\u2028\xe2\x80\xa8\xc2\x85b \\ud83d \\ud83d\\ude00 \xf0\x9f\x98\x80 \\/ \\u0000 \\r\\n \x7f",\r\n\t'
    b'"n" : [1.0e+2, 12345678901234567890123, -0, 0.1000 ] , "" : null'
)
ASKED = {  # by path: how a body begins that asks for something
    "/v1/chat/completions": b'{ "model":"gpt-5-mini", "messages":[ ]',
    "/v1/completions": b'{"model":"gpt-5-mini","prompt":""',
    "/v1/embeddings": b'{"model":"text-embedding-3-small","input":"x"',
    "/v1/responses": b'{"model":"gpt-5-mini","input":"x"',
    "/v1/messages": b'{"model":"claude-sonnet-4-5","max_tokens":9,"messages":[]',
    "/v1/messages/count_tokens": b'{"model":"claude-sonnet-4-5","messages":[]',
}
ANSWERED = {  # what makes an answer to it whole, without the last brace
    "/v1/chat/completions": b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]',
    "/v1/completions": b'{"choices":[{"index":0,"text":"x","finish_reason":"stop"}]',
    "/v1/embeddings": b'{"data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":1}',
    "/v1/responses": b'{"status":"completed","output":[]',
    "/v1/messages": b'{"type":"message","content":[],"stop_reason":"end_turn"',
    "/v1/messages/count_tokens": b'{"input_tokens":7',
}
SIZES = {"odd": 0, "5 MB": 5_000_000}


def with_odd(begun: bytes, size: int, end: bytes = b"\r\n}\r\n \n") -> bytes:
    """A JSON object that begins so, with everything odd in it, and a text of so many bytes."""
    return begun + b', "odd" :' + ODD + b',"text":"' + b"x" * size + b'"' + end


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("path", ASKED)
async def test_odd_bytes_pass_in_every_dialect(tmp_path: Path, state: Valkey, path: str, size: int) -> None:
    """A10: neither a request nor a whole answer is written anew, whatever its JSON looks like."""
    body, said = with_odd(ASKED[path], size), with_odd(ANSWERED[path], size)
    async with wire(saying(answer(said))) as heard, running(tmp_path, heard.url, redis_url=state.url) as gateway:
        response = await gateway.http.post(path, content=body, headers={"content-type": "application/json"})
        entry = await gateway.entry()
    assert [sha256(body)] == heard.hashes
    assert (200, sha256(said)) == (response.status_code, sha256(response.content))
    assert ("ok", len(body), len(said)) == (entry["outcome"], entry["bytes_in"], entry["bytes_out"])


LINES = {"LF": b"\n", "CRLF": b"\r\n"}
STREAMS = {  # by path: the members of an event's data that say nothing, and the names and data of events that end
    "/v1/chat/completions": ("", b'{"choices":[]', [("", ANSWERED["/v1/chat/completions"].replace(b"message", b"delta"))]),
    "/v1/completions": ("", b'{"choices":[]', [("", ANSWERED["/v1/completions"])]),
    "/v1/responses": (
        "response.anything", b'{"type":"response.anything"',
        [("response.completed", b'{"type":"response.completed","response":{"status":"completed"}')],
    ),
    "/v1/messages": (
        "ping", b'{"type":"ping"',
        [("message_delta", b'{"type":"message_delta","delta":{"stop_reason":"end_turn"}'),
         ("message_stop", b'{"type":"message_stop"')],
    ),
}  # fmt: skip


def sent_event(name: str, data: bytes, line: bytes) -> bytes:
    """An event as relays frame it."""
    named = b"event: " + name.encode() + line if name else b""
    return named + b"data: " + data + line + line


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("path", STREAMS)
async def test_odd_events_pass_in_every_dialect(
    tmp_path: Path, state: Valkey, path: str, size: int, line: bytes
) -> None:
    """A10: nor is an event; a text of megabytes comes in one event, and line separators within texts end no line."""
    name, begun, ends = STREAMS[path]
    data = with_odd(begun, size, b"}").replace(b"\r\n", b" ")
    events = [(name, data), *((name, with_odd(end, 0, b"}").replace(b"\r\n", b" ")) for name, end in ends)]
    said = b"".join(sent_event(*event, line) for event in events)
    if "completions" in path:
        said += b"data: [DONE]" + line + line
    body = with_odd(ASKED[path] + b',"stream":true', size)
    pieces = [said[at : at + 70_001] for at in range(0, len(said), 70_001)]
    async with (
        wire(saying(*chunked(*pieces))) as heard,
        running(tmp_path, heard.url, redis_url=state.url) as gateway,
    ):
        response = await gateway.http.post(path, content=body, headers={"content-type": "application/json"})
        entry = await gateway.entry()
    assert [sha256(body)] == heard.hashes
    assert (200, sha256(said)) == (response.status_code, sha256(response.content))
    assert ("ok", len(body), len(said)) == (entry["outcome"], entry["bytes_in"], entry["bytes_out"])
