"""A picture passes byte for byte: what was sent is what arrived, at both ends, by SHA-256."""

import base64
import hashlib
import json
import secrets
from pathlib import Path

import pytest

from tests.support.gateway import GENERATE, STREAM, TEXT, Gateway, Upstream, running
from tests.support.valkey import Valkey
from tests.support.wire import chunked, saying, wire

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
