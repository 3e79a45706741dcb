"""Bodies that nobody would write, on every route that takes JSON: does the gateway ever fail, or let a model slip past?

The relay behind us reads a body twice: its router takes the first `model` and minds case, what stands behind that takes
the last one and does not.  Both readers stand here, more lenient than the gateway's own.  FUZZ_EXAMPLES sets how many
bodies are tried.
"""

import asyncio
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.gateway import GENERATE, STREAM, running
from tests.support.valkey import Valkey
from tests.support.wire import Wire, answer, saying, wire

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
ALLOWED, FORBIDDEN = "allowed-1", "forbidden-1"
MODEL_IN_PATH = (GENERATE, STREAM, GENERATE.replace("generateContent", "countTokens"))
MODEL_IN_BODY = (
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/responses/compact",
    "/v1/messages", "/v1/messages/count_tokens",
)  # fmt: skip
PATHS = [*MODEL_IN_BODY, *MODEL_IN_BODY, *(path.replace("gemini-2.5-flash", ALLOWED) for path in MODEL_IN_PATH)]
WHOLE = {  # an answer of every dialect at once
    "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}], "data": [], "input_tokens": 1,
    "status": "completed", "output": [], "type": "message", "stop_reason": "end_turn", "totalTokens": 1,
    "candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}],
}  # fmt: skip


MODELS = st.sampled_from([
    '"allowed-1"', '"\\u0061llowed-1"', '"allowed\\u002d1"', '"forbidden-1"', '"forbidden\\u002D1"',
])  # fmt: skip
NAMES = st.sampled_from([
    '"model"', '"Model"', '"MODEL"', '"\\u006dodel"', '"mod\\u0065L"', '"model "', '"model\\u0000"', '"\\uff4dodel"',
    '"m\\u043edel"', '"stream"', '"Stream"', '"messages"', '"input"', '"tools"', '"n"', '"store"', '""', '"\\ud83d"',
])  # fmt: skip
ODD = st.sampled_from([
    "null", "true", "false", "-0", "1e999", "1E-400", "01", "NaN", "-Infinity", "123456789012345678901234567890", '""',
    '"\\ud83d"', '"\\ude00\\ud83d"', '"\\u0000"', "[]", "{}", '["x",]', "{,}", "'x'", '"\t"', "[" * 200 + "]" * 200,
    '"data:image/png;base64,AAAA"', '{"model":"forbidden-1"}', "[{}]", '[{"role":"user","content":[{"type":"text"}]}]',
])  # fmt: skip
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
).map(json.dumps)
SPACE = st.sampled_from(["", "", "", "", " ", "\n", "\r\n\t", "\x0b", "\xa0", "/**/"])
MEMBERS = st.tuples(NAMES, SPACE, SPACE, MODELS | ODD | PLAIN).map(lambda one: f"{one[0]}{one[1]}:{one[2]}{one[3]}")
GOOD = st.tuples(st.text(max_size=6).map(json.dumps), PLAIN).map(":".join)
PLAUSIBLE = st.tuples(st.text(max_size=6).map(json.dumps), PLAIN | ODD).map(":".join)
NAMED = st.tuples(st.just('"model"'), MODELS).map(":".join)
AROUND = st.sampled_from([("", "")] * 6 + [
    (" ", "\r\n"), ("\ufeff", ""), ("", "{}"), ("x", ""), ("", "\0"), ("", '{"model":"forbidden-1"}'), ("{}", ""),
])  # fmt: skip


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """A body that is nearly always an object, and nearly always names a model."""
    members = draw(st.lists(draw(st.sampled_from([GOOD, GOOD, PLAUSIBLE, MEMBERS])), max_size=4))
    if draw(st.integers(0, 9)):
        members.insert(draw(st.integers(0, len(members))), draw(NAMED))
    before, behind = draw(AROUND)
    return f"{before}{{{','.join(members)}}}{behind}".encode(errors="surrogatepass")


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A body with a few bytes put in, left out or exchanged."""
    body = bytearray(draw(texts()))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        body[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=2))
    return bytes(body)


BODIES = texts() | texts() | texts() | damaged() | st.binary(max_size=64)


def members(body: bytes) -> list[tuple[str, Any]]:
    """The members of the first object in a body, all of them, as a lenient reader finds them; none where there is none."""
    text = body.decode(errors="replace").lstrip("\ufeff \t\r\n\0")
    try:
        found, _ = json.JSONDecoder(object_pairs_hook=Pairs, strict=False).raw_decode(text)
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, Pairs) else []


class Pairs(list[tuple[str, Any]]):
    """An object whose members may stand twice."""


def first_wins(body: bytes) -> Any:
    """The model that a router finds which minds case."""
    return next((value for name, value in members(body) if name == "model"), None)


def last_wins(body: bytes) -> Any:
    """The model that a decoder finds which does not."""
    return next((value for name, value in reversed(members(body)) if name.casefold() == "model"), None)


class Fuzz:
    """Sends bodies from a thread, while gateway and upstream run in the loop."""

    def __init__(self, http: httpx.Client, heard: Wire) -> None:
        self.http, self.heard, self.passed = http, heard, 0

    def run(self) -> None:
        body = given(path=st.sampled_from(PATHS), body=BODIES)(self.ask)
        for path in MODEL_IN_BODY:
            body = example(path=path, body=b' {"n":1,"model":"allowed-1"}\n')(body)
            body = example(path=path, body=b'{"model":"allowed-1","Model":"forbidden-1"}')(body)
            body = example(path=path, body=b'{"model":"allowed-1"}{"model":"forbidden-1"}')(body)
        health = [HealthCheck.too_slow, HealthCheck.differing_executors]
        settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=health)(body)()

    def ask(self, path: str, body: bytes) -> None:
        before = len(self.heard.hashes)
        response = self.http.post(path, content=body, headers={"content-type": "application/json"})
        assert response.status_code in {200, 400, 403}, (response.status_code, response.content)
        sent = self.heard.hashes[before:]
        assert sent == ([hashlib.sha256(body).hexdigest()] if response.status_code == 200 else [])
        if sent and path in MODEL_IN_BODY:
            assert (ALLOWED, ALLOWED) == (first_wins(body), last_wins(body))
            self.passed += 1


@pytest.mark.timeout(60 + EXAMPLES // 10)
async def test_no_body_fails_or_slips_past(tmp_path: Path, state: Valkey) -> None:
    """P1 P7 D9: whatever stands in a body, it is refused or passes as it came, and no reader finds a forbidden model."""
    play = saying(answer(json.dumps(WHOLE).encode()), close=False)
    terms = {"design": f'models = ["{ALLOWED}"]'}
    async with wire(play) as heard, running(tmp_path, heard.url, redis_url=state.url, clients=terms) as gateway:
        with httpx.Client(
            base_url=gateway.url, headers={"authorization": f"Bearer {gateway.key}"}, timeout=30, trust_env=False
        ) as http:
            fuzz = Fuzz(http, heard)
            await asyncio.to_thread(fuzz.run)
        await gateway.at_rest()
        assert [] == [line for line in gateway.lines() if line["event"] == "defect"]
    assert fuzz.passed >= len(MODEL_IN_BODY), "each route lets the good one through"
