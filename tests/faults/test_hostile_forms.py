"""What do forms that are made to hurt cost?  Each is refused, or passes as it came, and meanwhile others are served."""

import asyncio
import hashlib
from pathlib import Path

import httpx

from tests.faults.test_hostile_json import Pulse
from tests.support.served import Served
from tests.support.wire import answer, saying, wire

GOOD = b'{"created":1,"data":[{"b64_json":"iVBORw0KGgo="}],"usage":{"output_tokens":1,"total_tokens":1}}'
MIB = 2**20
A = b"a" * 69


def form(boundary: bytes, file: bytes, end: bytes = b"--\r\n") -> bytes:
    """A form whose model stands behind its file."""
    head = b'--%b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' % boundary
    model = b'\r\n--%b\r\nContent-Disposition: form-data; name="model"\r\n\r\ngpt-image-1.5\r\n--%b' % (
        boundary,
        boundary,
    )
    return head + file + model + end


def hostile() -> dict[str, tuple[bytes, bytes, int]]:
    """The forms: boundary, body and what they are answered with; 200 MB, so they are made when they are wanted."""
    return {
        "the boundary but for its end": (A + b"b", form(A + b"b", (b"\r\n--" + A) * (30 * MIB // 73)), 200),
        "all but the end of the boundary": (A + b"b", form(A + b"b", b"a" * (30 * MIB)), 200),
        "dashes": (b"-" * 69 + b"x", form(b"-" * 69 + b"x", b"-" * (30 * MIB)), 200),
        "line ends": (b"b", form(b"b", b"\r\n" * (15 * MIB)), 200),
        "no end": (b"b", form(b"b", bytes(30 * MIB), end=b""), 400),
        "a head without end": (b"b", b"--b\r\n" + b"x" * (30 * MIB), 400),
        "a name of many MB": (b"b", form(b"b", b"x").replace(b"a.png", b"a" * (30 * MIB)), 400),
        "a million parts": (b"b", b"--b\r\n\r\n\r\n" * (3 * MIB), 400),
        "a part of many lines": (b"b", form(b"b", b"x").replace(b"\r\n\r\n", b"\r\n" + b"x: y\r\n" * (5 * MIB) + b"\r\n", 1), 400),
    }  # fmt: skip


async def test_hostile_forms_stall_nobody(tmp_path: Path) -> None:
    """D9: each alone and all at once, and `/healthz` never waits for them for long; what passes is what was sent."""
    corpus = hostile()
    async with wire(saying(answer(GOOD), close=False)) as upstream:
        with Served(tmp_path, upstream=upstream.url, workers="1") as served:

            async def sent(boundary: bytes, body: bytes) -> int:
                said = {"content-type": f"multipart/form-data; boundary={boundary.decode()}"}
                return (await http.post("/v1/images/edits", content=body, headers=said)).status_code

            headers = {"authorization": f"Bearer {served.key}"}
            async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=60, trust_env=False) as http:
                with Pulse(served.url) as alone:
                    for name, (boundary, body, code) in corpus.items():
                        assert code == await sent(boundary, body), name
                        if code == 200:
                            assert hashlib.sha256(body).hexdigest() == upstream.hashes[-1], name
                with Pulse(served.url) as together:
                    codes = await asyncio.gather(*[sent(boundary, body) for boundary, body, _ in corpus.values()])
    assert [code for _, _, code in corpus.values()] == codes
    print(f"slowest alone {alone.slowest * 1000:.0f} ms, all at once {together.slowest * 1000:.0f} ms")  # noqa: T201
    assert alone.asked > 10
    assert max(alone.slowest, together.slowest) < 1, "one search over all of one of them takes half a second"
