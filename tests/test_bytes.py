"""A picture passes byte for byte: what was sent is what arrived, at both ends, by SHA-256."""

import base64
import hashlib
import json
import secrets

import pytest

from tests.support.gateway import GENERATE, STREAM, Gateway, Upstream

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


@pytest.mark.parametrize("path", [IMAGE, IMAGE_STREAM], ids=["unary", "streamed"])
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
