"""What does a worker hold when many large bodies come and go at once?  Measured in a real worker, by the kernel."""

import asyncio
import hashlib
import os
import socket
from collections import Counter
from pathlib import Path

import httpx

from tests.support.gateway import GENERATE, TEXT
from tests.support.served import Served, memory
from tests.support.waiting import until
from tests.support.wire import answer, saying, wire

GOOD = b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}]}'
CALLS = int(os.environ.get("TEST_LARGE_BODIES", "32"))  # the full count is 100
BODY_BYTES, BUDGET = 10_000_000, 100_000_000


def body(number: int) -> bytes:
    """A body of its own for each call."""
    frame = b'{"contents":[{"parts":[{"text":"%d %b"}]}]}'
    return frame % (number, b"x" * (BODY_BYTES - len(frame % (number, b""))))


async def test_many_large_bodies_at_once(tmp_path: Path) -> None:
    """D8 A8 A10 A14: what has no room is a 503 with a wait, the rest passes whole, for 1.5 times its bytes at most."""
    room = asyncio.Event()

    async def play(_: bytes, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await room.wait()
        writer.write(answer(GOOD))

    async with wire(play) as upstream:
        with Served(tmp_path, upstream=upstream.url, workers="1", max_buffered_bytes=str(BUDGET)) as served:
            (worker,) = served.workers()
            async with httpx.AsyncClient(
                base_url=served.url,
                headers={"x-goog-api-key": served.key, "content-type": "application/json"},
                limits=httpx.Limits(max_connections=CALLS), timeout=30, trust_env=False,
            ) as http:  # fmt: skip
                room.set()
                await http.post(GENERATE, json=TEXT)
                room.clear()
                base = memory(worker, "VmRSS")
                calls = [asyncio.ensure_future(http.post(GENERATE, content=body(number))) for number in range(CALLS)]
                await until(lambda: len(upstream.hashes) - 1 + sum(call.done() for call in calls) >= CALLS, 30)
                admitted = len(upstream.hashes) - 1
                peak = memory(worker, "VmHWM")
                room.set()
                ended = await asyncio.gather(*calls, return_exceptions=True)
                await until(lambda: memory(worker, "VmRSS") <= base + 20 * 2**20)

    assert BUDGET // BODY_BYTES - 1 <= admitted <= BUDGET // BODY_BYTES
    answers = {number: one for number, one in enumerate(ended) if isinstance(one, httpx.Response)}
    # A refused body is thrown away for five seconds, and a busy machine may need longer to send it: that caller is cut off.
    assert {httpx.Response} >= {type(one) for one in ended if not isinstance(one, httpx.TransportError)}
    statuses = Counter((response.status_code, response.headers.get("retry-after")) for response in answers.values())
    assert statuses.keys() == {(200, None), (503, "1")}
    assert statuses[200, None] == admitted
    sent = [body(number) for number, response in answers.items() if response.status_code == 200]
    assert {hashlib.sha256(one).hexdigest() for one in sent} == set(upstream.hashes[1:])
    assert peak <= base + 1.5 * BUDGET, (base, peak)  # bodies that are refused half-way take of it too


async def test_many_large_answers_that_nobody_takes(tmp_path: Path) -> None:
    """D3 A8 A14: 28 answers of 10 MB that are not read cost 1.5 times their bytes at most, and then nothing."""
    large = GOOD.replace(b"hi", b"x" * BODY_BYTES)
    async with wire(saying(answer(large), close=False)) as upstream:
        with Served(tmp_path, upstream=upstream.url, workers="1", call_timeout_seconds="30") as served:
            (worker,) = served.workers()
            host, port = served.url.removeprefix("http://").split(":")
            head = (
                f"POST {GENERATE} HTTP/1.1\r\nhost: x\r\nx-goog-api-key: {served.key}\r\ncontent-length: 2\r\n\r\n{{}}"
            )

            async def ask() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
                small = socket.socket()
                small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # else the kernel takes it all for them
                small.connect((host, int(port)))
                reader, writer = await asyncio.open_connection(sock=small, limit=1024)
                writer.write(head.encode())
                assert await reader.readexactly(15) == b"HTTP/1.1 200 OK"
                return reader, writer

            _, first = await ask()
            first.transport.abort()
            base = memory(worker, "VmRSS")
            callers = await asyncio.gather(*[ask() for _ in range(28)])
            peak = memory(worker, "VmHWM")
            for _, writer in callers:
                writer.transport.abort()
            await until(lambda: memory(worker, "VmRSS") <= base + 20 * 2**20)
    assert peak >= base + 0.5 * len(callers) * BODY_BYTES, "they were held, and not by the kernel"
    assert peak <= base + 1.5 * len(callers) * BODY_BYTES, (base, peak)
