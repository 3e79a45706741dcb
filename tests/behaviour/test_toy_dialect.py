"""Is a new dialect one small class?  This one is served through the real pipeline, and no generic file knows of it."""

import json
import re
from pathlib import Path
from typing import Any

import msgspec

from gateway.call import Call, Demand, Event, Framing, Operation, Plan, Route, State, Usage
from gateway.dialects import ALL
from gateway.errors import OPENAI, BadRequest
from gateway.framing import Events, Whole
from tests.support.gateway import running
from tests.support.wire import chunked, saying, wire


# --- the dialect: JSON in, server-sent events out, the model in the body -------------------------------------------
class Asked(msgspec.Struct):
    """The body of a request."""

    model: str
    words: str
    stream: bool = False


class ToyMeter:
    """Each event says a word, the last one what it cost."""

    state: State = "open"
    storable, served_model = False, ""
    usage = Usage()

    def see(self, event: Event) -> None:
        said = json.loads(event.data)
        if "error" in said:
            self.state = "failed"
        if "cost" in said:
            self.state = "complete"
            self.usage = Usage(tokens={("output", "text"): said["cost"]}, total=said["cost"], source="reported")


class Toy:
    """One operation, `POST /toy/say`."""

    name, errors, models = "toy", OPENAI, None
    say = Operation(name="toySay", http=("POST",), bills="tokens", expects_usage=True)

    def route(self, request: Any) -> Route | None:
        if not re.fullmatch(rb"/toy/say/*", request.raw_path):
            return None
        return Route(dialect=self, operation=self.say, target="/toy/say")

    def plan(self, route: Route, request: Any, body: bytes) -> Plan:
        try:
            asked = msgspec.json.decode(body, type=Asked)
        except msgspec.MsgspecError:
            raise BadRequest("Send {model, words}.") from None
        return Plan(model=asked.model, stream=asked.stream, demand=Demand(text_chars=len(asked.words)))

    def framing(self, call: Call, content_type: str) -> Framing | None:
        return Events() if call.stream else Whole(content_type)

    def meter(self, call: Call) -> ToyMeter:
        return ToyMeter()


# -------------------------------------------------------------------------------------------------------------------

WORDS = {"model": "toy-1", "words": "hello", "stream": True}
STREAM = b'data: {"word":"hello"}\n\ndata: {"cost":7}\n\n'


def lines_of(path: Path) -> int:
    """How long the dialect is."""
    text = path.read_text()
    return text[
        text.index("# --- the dialect") : text.index("# -----------------------", text.index("class Toy:"))
    ].count("\n")


async def test_a_toy_dialect_is_served(tmp_path: Path) -> None:
    """P7, A1: a dialect of 60 lines is routed, limited, metered, counted and refused as Google's is."""
    assert lines_of(Path(__file__)) <= 60
    async with wire(saying(*chunked(STREAM))) as upstream:
        clients = {"design": 'models = ["toy-1", "gemini-*"]\ntokens_per_day = 1000'}
        async with running(tmp_path, upstream.url, clients=clients, dialects=(*ALL, Toy())) as gateway:
            streamed = await gateway.http.post("/toy/say", json=WORDS)
            assert (200, STREAM) == (streamed.status_code, streamed.content)
            line = await gateway.entry()
            assert ("toySay", "toy-1", "ok", 7) == (line["method"], line["model"], line["outcome"], line["tokens_out"])
            assert 1 == gateway.metric("gateway_requests_total", method="toySay", outcome="ok")
            refused = await gateway.http.post("/toy/say", json=WORDS | {"model": "toy-2"})
            assert (403, "model_not_allowed") == (refused.status_code, refused.json()["error"]["code"])
            broken = await gateway.http.post("/toy/say", content=b"{", headers={"content-type": "application/json"})
            assert (400, "Send {model, words}.") == (broken.status_code, broken.json()["error"]["message"])
            wrong = await gateway.http.get("/toy/say")
            assert (405, "POST") == (wrong.status_code, wrong.headers["allow"])
            stranger = await gateway.http.post("/toy/say", json=WORDS, headers={"x-goog-api-key": ""})
            assert (401, "invalid_api_key") == (stranger.status_code, stranger.json()["error"]["code"])
    assert b"POST /toy/say HTTP/1.1" in upstream.heads[0]
