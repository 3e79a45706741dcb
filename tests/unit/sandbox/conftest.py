"""One sandbox for all tests of this folder, in a process of its own, and a caller that knows its key."""

import base64
import io
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from PIL import Image

from tests.support.waiting import wait_until

KEY = "sk-sandbox-test"


class Caller:
    """Asks the sandbox as a gateway would."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def call(
        self, text: str, *, model: str = "gemini-2.5-flash", method: str = "generateContent", **body: Any
    ) -> httpx.Response:
        """One prompt; `body` is added to the request's JSON, `?alt=sse` stands in `method`."""
        asked = {"contents": [{"role": "user", "parts": [{"text": text}]}], **body}
        return self.http.post(f"/v1beta/models/{model}:{method}", json=asked)

    def said(self, text: str, **options: Any) -> dict[str, Any]:
        """The JSON of an answer that went well."""
        response = self.call(text, **options)
        assert 200 == response.status_code, response.text[:300]
        value: dict[str, Any] = response.json()
        return value

    def ask(self, route: "Ask", text: str, /, **body: Any) -> httpx.Response:
        """One prompt on a text route; `body` is added to the request's JSON."""
        return self.http.post(route.path, json=route.body(text, **body))

    def answered(self, route: "Ask", text: str, /, **body: Any) -> dict[str, Any]:
        """The JSON of an answer of a text route that went well."""
        response = self.ask(route, text, **body)
        assert 200 == response.status_code, response.text[:300]
        value: dict[str, Any] = response.json()
        return value

    def log(self) -> list[dict[str, Any]]:
        """What the sandbox noted."""
        records: list[dict[str, Any]] = self.http.get("/sandbox/log").json()
        return records

    def ended(self) -> dict[str, Any]:
        """The only record, once the sandbox has closed it; two seconds are plenty."""
        wait_until(lambda: (records := self.log()) and records[0]["end"], 2, tell=self.log)
        (record,) = self.log()
        return record


@pytest.fixture(scope="session")
def address() -> Iterator[tuple[str, int]]:
    """Where the sandbox listens; it inherits the socket, so that no port is guessed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        code = f"from gateway.sandbox.app import run; run({KEY!r}, faults=True, fd={fd})"
        with subprocess.Popen([sys.executable, "-W", "error", "-c", code], pass_fds=[fd]) as process:
            yield listener.getsockname()
            process.terminate()
            process.wait(10)


@pytest.fixture
def caller(address: tuple[str, int]) -> Iterator[Caller]:
    """A caller with the right key, and an empty log."""
    url = f"http://{address[0]}:{address[1]}"
    with httpx.Client(base_url=url, headers={"authorization": f"Bearer {KEY}"}, timeout=20, trust_env=False) as http:
        http.delete("/sandbox/log")
        yield Caller(http)


@pytest.fixture
def photo() -> bytes:
    """A small PNG to be edited."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((320, 200)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def picture_of(answer: dict[str, Any], candidate: int = 0) -> Image.Image:
    """The picture in an answer, decoded."""
    data = blob_of(answer, "image/png", candidate)
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def blob_of(answer: dict[str, Any], mime_type: str, candidate: int = 0) -> bytes:
    """The inline data of an answer."""
    parts = answer["candidates"][candidate]["content"]["parts"]
    (blob,) = [part["inlineData"] for part in parts if "inlineData" in part]
    assert mime_type == blob["mimeType"]
    return base64.b64decode(blob["data"], validate=True)


def text_of(answer: dict[str, Any], candidate: int = 0) -> str:
    """The text of an answer."""
    return "".join(part.get("text", "") for part in answer["candidates"][candidate]["content"]["parts"])


def events_of(body: str) -> list[dict[str, Any]]:
    """The events of a well-formed stream."""
    assert body.endswith("\n\n")
    return [json.loads(event.removeprefix("data: ")) for event in body.removesuffix("\n\n").split("\n\n")]


class Named(NamedTuple):
    """One server-sent event of a stream: its name, if it has one, and its data."""

    name: str
    data: dict[str, Any]


def named_events_of(body: str) -> list[Named]:
    """The events of a stream as it stands, without comments, `[DONE]` and events that hold no data."""
    found = []
    for block in body.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
        if fields.get("data", "[DONE]") != "[DONE]":
            found.append(Named(fields.get("event", ""), json.loads(fields["data"])))
    return found


class Ask(NamedTuple):
    """A text route, and the smallest body that asks it for a stream."""

    path: str
    model: str
    key: str  # of the body, where the prompt stands

    def body(self, text: str, /, **more: Any) -> dict[str, Any]:
        """A body that asks this."""
        said: Any = [{"role": "user", "content": text}] if self.key == "messages" else text
        return {"model": self.model, self.key: said, "max_tokens": 500, **more}


CHAT = Ask("/v1/chat/completions", "gpt-5", "messages")
COMPLETIONS = Ask("/v1/completions", "gpt-5", "prompt")
RESPONSES = Ask("/v1/responses", "gpt-5", "input")
MESSAGES = Ask("/v1/messages", "claude-opus-4-6", "messages")
EMBEDDINGS = Ask("/v1/embeddings", "text-embedding-3-small", "input")
STREAMING = (CHAT, COMPLETIONS, RESPONSES, MESSAGES)
