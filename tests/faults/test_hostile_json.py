"""What does JSON that is made to hurt cost?  Each body passes as it came, and meanwhile others are served."""

import asyncio
import contextlib
import hashlib
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import pytest

from tests.support.gateway import GENERATE, STREAM
from tests.support.served import Served
from tests.support.wire import answer, chunked, saying, wire

GOOD = b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}]}'
MIB = 2**20


def hostile() -> dict[str, bytes]:
    """The bodies, large ones first; 80 MB, so they are made when they are wanted."""
    return {
        "ten MiB of [],": b'{"contents":[%b[]]}' % (b"[]," * (10 * MIB // 3)),
        "ten MiB of {},": b'{"contents":[{"parts":[%b{}]}]}' % (b"{}," * (10 * MIB // 3)),
        "ten MiB of [], elsewhere": b'{"tools":[%b[]]}' % (b"[]," * (10 * MIB // 3)),
        "ten MiB of escapes": b'{"contents":[{"parts":[{"text":"%b"}]}]}' % (rb"\u0041" * (10 * MIB // 6)),
        "a million deep": b'{"contents":%b%b}' % (b"[" * 10**6, b"]" * 10**6),
        "a million keys": b'{"contents":[]%b}' % b"".join(b',"k%d":1' % number for number in range(10**6)),
        "a key many times": b"{%b}" % b",".join([b'"contents":[]'] * 700_000),
        "a number of 5,000 digits": b'{"contents":[],"generationConfig":{"maxOutputTokens":%b}}' % (b"9" * 5000),
        "no number": b'{"contents":[],"generationConfig":{"maxOutputTokens":NaN}}',
        "too large a number": b'{"contents":[],"generationConfig":{"maxOutputTokens":1e400}}',
        "bad UTF-8": b'{"contents":[{"parts":[{"text":"\xff\xfe\xed\xa0\x80"}]}]}',
        "a byte order mark": b'\xef\xbb\xbf{"contents":[]}',
        "nothing": b"",
        "zeros": bytes(1000),
    }


END = b'"finishReason":"STOP"}],"usageMetadata":{"totalTokenCount":3}}'


def hostile_answers() -> dict[str, tuple[bytes, str]]:
    """Answers that are made to hurt, and how their usage is known."""
    said = b'{"candidates":[{"content":{"parts":[{%b}]},%b'
    return {
        "340,000 candidates": (b'{"candidates":[%b{}]}' % (b"{}," * 340_000), "none"),
        "as many as are read": (
            b'{"candidates":[%b{%b' % (b'{"finishReason":1,"content":{"parts":[{"text":"x"}]}},' * 6_000, END),
            "reported",
        ),
        "ten MiB of [],": (b'{"candidates":[%b[]]}' % (b"[]," * (10 * MIB // 3)), "none"),
        "400,000 NaN": (b'{"x":[%bNaN]}' % (b"NaN," * 400_000), "none"),
        "400,000 deep": (b'{"x":%b%b}' % (b"[" * 400_000, b"]" * 400_000), "none"),
        "4,000 deep": (
            b'{"x":%b%b,%b' % (b"[" * 4_000, b"]" * 4_000, END.replace(b'"finish', b'"candidates":[{"finish')),
            "reported",
        ),
        "60 MB of picture": (
            said % (b'"inlineData":{"mimeType":"image/png","data":"%b"}' % (b"A" * 60_000_000), END),
            "reported",
        ),
        "20 MB of text": (said % (b'"text":"%b"' % (b"a b: " * 4_000_000), END), "reported"),
        "three MiB of links": (said % (b'"text":"%b"' % (b"https://x.y/ ![a] <img " * 140_000), END), "reported"),
        "ten MiB of halves": (said % (b'"text":"%b"' % (rb"\ud800" * (10 * MIB // 6)), END), "reported"),
    }


class Pulse(threading.Thread):
    """Asks `/healthz` every 10 ms on one connection; `slowest` is how long the worst answer took."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.slowest, self.asked = 0.0, 0
        self._enough = threading.Event()
        host, port = url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)

    def run(self) -> None:
        while not self._enough.wait(0.01):
            before, received = time.monotonic(), b""
            self._socket.sendall(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            while not received.endswith(b"}"):
                received += self._socket.recv(4096)
            self.slowest = max(self.slowest, time.monotonic() - before)
            self.asked += 1

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enough.set()
        self.join()
        self._socket.close()


async def test_hostile_bodies_pass_and_stall_nobody(tmp_path: Path) -> None:
    """D9: each alone and 20 at once reach the upstream byte for byte, and `/healthz` never waits for them for long."""
    corpus = hostile()
    async with wire(saying(answer(GOOD), close=False)) as upstream:
        with Served(tmp_path, upstream=upstream.url, workers="1") as served:
            headers = {"x-goog-api-key": served.key, "content-type": "application/json"}
            async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=30, trust_env=False) as http:
                with Pulse(served.url) as alone:
                    for name, body in corpus.items():
                        response = await http.post(GENERATE, content=body)
                        assert (200, GOOD) == (response.status_code, response.content), name
                        assert hashlib.sha256(body).hexdigest() == upstream.hashes[-1], name
                with Pulse(served.url) as together:
                    bodies = ([*corpus.values()] * 2)[:20]
                    answers = await asyncio.gather(*[http.post(GENERATE, content=body) for body in bodies])
    assert [200] * 20 == [response.status_code for response in answers]
    print(f"slowest alone {alone.slowest * 1000:.0f} ms, 20 at once {together.slowest * 1000:.0f} ms")  # noqa: T201
    assert alone.asked > 10
    assert max(alone.slowest, together.slowest) < 1, "a full parse of one of them takes two seconds"


@pytest.mark.parametrize("path", [GENERATE, STREAM])
async def test_hostile_answers_pass_and_stall_nobody(tmp_path: Path, path: str) -> None:
    """D9: each passes byte for byte, whole and as one event, metered where it can be; `/healthz` never waits for long.

    Of a stream an event that is not read ends nothing: the caller has it, and no clean end.
    """
    corpus = hostile_answers()

    async def play(head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = corpus[list(corpus)[int(head.partition(b"models/m")[2].partition(b":")[0])]][0]
        if path == STREAM:
            writer.writelines([chunked()[0], b"%x\r\ndata: " % (len(body) + 8), body, b"\n\n\r\n0\r\n\r\n"])
        else:
            writer.write(answer(body))
        await writer.drain()

    async with wire(play) as upstream:
        with Served(tmp_path, upstream=upstream.url, workers="1") as served:
            headers = {"x-goog-api-key": served.key, "content-type": "application/json"}
            async with httpx.AsyncClient(base_url=served.url, headers=headers, timeout=30, trust_env=False) as http:
                for at, (name, (body, usage)) in enumerate(corpus.items()):
                    got = bytearray()
                    with Pulse(served.url) as pulse, contextlib.suppress(httpx.RemoteProtocolError):
                        async with http.stream(
                            "POST", path.replace("gemini-2.5-flash", f"m{at}"), content=b"{}"
                        ) as response:
                            async for chunk in response.aiter_raw():
                                got += chunk
                    print(f"{name}: {pulse.slowest * 1000:.0f} ms")  # noqa: T201
                    assert pulse.slowest < 1, name
                    events = b"data: %b\n\n" % body if path == STREAM else body
                    assert got.startswith(events), name
                    assert (len(got) == len(events)) == (path == GENERATE or usage == "reported"), name
        lines = served.events("call")
    # Of what nobody reads, or was cut, nobody knows what it cost.
    assert ["estimated" if usage == "none" else usage for _, usage in corpus.values()] == [
        line["usage"] for line in lines
    ][-len(corpus) :]
