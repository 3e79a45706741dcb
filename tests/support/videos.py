"""An upstream that makes videos: it creates tasks, answers polls by a script, and has files of which ranges are asked."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from tests.support.wire import answer

SEEDANCE = "doubao-seedance-2.0"
ASKED = {"model": SEEDANCE, "prompt": "A boat on a lake", "seconds": "5", "size": "1280x720"}
GENERATIONS, VIDEOS = "/v1/video/generations", "/v1/videos"
FILE = bytes(range(256)) * 4096  # one MiB

_RANGE = re.compile(rb"\r\nrange: bytes=(\d+)-(\d*)\r\n", re.IGNORECASE)

Play = Callable[[bytes, asyncio.StreamWriter], Awaitable[bool]]  # before the usual answer; True: there is none


def queued(task: str) -> dict[str, Any]:
    """What OpenAI's API says of a new video."""
    return {"id": task, "object": "video", "status": "queued", "model": SEEDANCE, "progress": 0, "error": None}


def done(task: str, tokens: int | None = None) -> dict[str, Any]:
    """What it says of one that is ready."""
    usage = {} if tokens is None else {"usage": {"total_tokens": tokens}}
    return {**queued(task), "status": "completed", "progress": 100} | usage


def relays(task: str, word: str, tokens: int | None = None) -> dict[str, Any]:
    """What the relay's own path says of a task."""
    data = {"task_id": task, "status": word, "progress": "30%", "fail_reason": "", "data": {"status": "running"}}
    if tokens is not None:
        data["data"] = {"status": "succeeded", "usage": {"completion_tokens": tokens, "total_tokens": tokens}}
    return {"code": "success", "message": "", "data": data}


class Videos:
    """What `wire` plays; it notes what it was asked."""

    def __init__(self) -> None:
        self.created: list[str] = []
        self.asked = Counter[str]()  # by method and path
        self.says: dict[str, dict[str, Any]] = {}  # by id, for whoever polls
        self.before: Play | None = None
        self.named: Callable[[str], dict[str, Any]] = queued  # how a new task is told
        self.file = FILE
        self.file_headers = 'etag: "v1"\r\naccept-ranges: bytes\r\nlast-modified: Fri, 27 Nov 2026 10:00:00 GMT\r\n'

    async def __call__(self, head: bytes, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, path = head.split(b" ", 2)[0].decode(), head.split(b" ", 2)[1].decode()
        self.asked[f"{method} {path}"] += 1
        if self.before is not None and await self.before(head, writer):
            return
        if method == "POST":
            task = f"task_{len(self.created):04}"
            self.created.append(task)
            writer.write(answer(json.dumps(self.named(task)).encode()))
        elif "/content" in path:
            for piece in self.of_the_file(head):
                writer.write(piece)
                await writer.drain()
        else:
            task = path.rsplit("/", 1)[1]
            writer.write(answer(json.dumps(self.says.get(task, queued(task))).encode()))

    def of_the_file(self, head: bytes) -> Iterable[bytes]:
        """The answer to a request for the file, or for a range of it."""
        found, size, status, more = _RANGE.search(head), len(self.file), "200 OK", ""
        begin, end = (int(found[1]), int(found[2] or size - 1)) if found else (0, size - 1)
        if begin >= size:
            body = json.dumps({"error": {"message": "range", "type": "invalid_request_error"}}).encode()
            yield answer(body, status="416 Range Not Satisfiable", more=f"content-range: bytes */{size}\r\n")
            return
        if found:
            status, more = "206 Partial Content", f"content-range: bytes {begin}-{end}/{size}\r\n"
        body = self.file[begin : end + 1]
        more += self.file_headers + "cache-control: public, max-age=86400\r\n"
        head_ = answer(b"", status=status, content_type="video/mp4", more=more)
        yield head_.replace(b"content-length: 0", b"content-length: %d" % len(body))
        for at in range(0, len(body), 65536):
            yield body[at : at + 65536]
