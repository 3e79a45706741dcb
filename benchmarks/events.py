"""An upstream of streams that costs little: every answer is 50 small events, 10 ms apart.

    python -m benchmarks.events PORT [PEM]        with a certificate and its key: over TLS

It reads no more of a request than where it ends, and its path, which says whose events they are.
"""

import asyncio
import contextlib
import json
import re
import ssl
import sys
from collections.abc import Callable
from typing import cast

import uvloop

from benchmarks.cases import CHAT_ROUTE, EVENT_SECONDS, EVENTS, MESSAGES_ROUTE

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def gemini(number: int) -> bytes:
    """One event, as Gemini sends them: usage in each, the reason of the end in the last."""
    candidate = {"content": {"parts": [{"text": "a few more words "}], "role": "model"}, "index": 0}
    usage = {"promptTokenCount": 20, "candidatesTokenCount": 4 * number, "totalTokenCount": 20 + 4 * number}
    ending = {"finishReason": "STOP"} if number == EVENTS else {}
    return f"data: {json.dumps({'candidates': [candidate | ending], 'usageMetadata': usage})}\r\n\r\n".encode()


def chat(number: int) -> bytes:
    """One event, as OpenAI sends them: the reason of the end, then the usage; the terminator goes with it."""
    said: dict[str, object] = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-5-mini"}
    if number == EVENTS:
        usage = {"prompt_tokens": 20, "completion_tokens": 90, "total_tokens": 110}
        return f"data: {json.dumps(said | {'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n".encode()
    delta = {"content": "a few more words "}
    choice = {"index": 0, "delta": delta, "finish_reason": "stop" if number == EVENTS - 1 else None}
    return f"data: {json.dumps(said | {'choices': [choice]})}\n\n".encode()


def messages(number: int) -> bytes:
    """One event, as Anthropic sends them."""
    said: dict[str, object] = {"type": "content_block_delta", "index": 0}
    said |= {"delta": {"type": "text_delta", "text": "a few more words "}}
    if number == 1:
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "content": []}
        said = {"type": "message_start", "message": message | {"usage": {"input_tokens": 20, "output_tokens": 1}}}
    elif number == EVENTS - 1:
        said = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 90}}
    elif number == EVENTS:
        said = {"type": "message_stop"}
    return f"event: {said['type']}\ndata: {json.dumps(said)}\n\n".encode()


def chunks(event: Callable[[int], bytes]) -> tuple[bytes, ...]:
    """One stream."""
    return tuple(b"%x\r\n%b\r\n" % (len(said), said) for said in map(event, range(1, EVENTS + 1)))


GEMINI, BY_PATH = chunks(gemini), {CHAT_ROUTE.encode(): chunks(chat), MESSAGES_ROUTE.encode(): chunks(messages)}


class Streams(asyncio.Protocol):
    """One connection: a request at a time, each answered by a stream."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        if end and len(body) >= int(length[1] if length else 0):
            self._chunks = BY_PATH.get(bytes(head.split(b" ", 2)[1]), GEMINI)
            self._received.clear()
            self._transport.write(HEAD)
            self._send(0, self._loop.time())

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()

    def _send(self, number: int, due: float) -> None:
        """The times are those of the plan, so that a delay does not add up."""
        if number < EVENTS:
            self._transport.write(self._chunks[number])
            due += EVENT_SECONDS
            self._timer = self._loop.call_at(due, self._send, number + 1, due)
        else:
            self._transport.write(LAST)


async def serve(port: int, *certificate: str) -> None:
    """Serve until interrupted."""
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
    server = await asyncio.get_running_loop().create_server(Streams, "127.0.0.1", port, ssl=context)
    await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(serve(int(sys.argv[1]), *sys.argv[2:]))
