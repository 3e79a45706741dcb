"""What is read of a message, and who may it be for?"""

import json
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.asgi.request import Request
from gateway.call import Demand, Plan
from gateway.config.clients import Client
from gateway.dialects.anthropic import ANTHROPIC
from gateway.errors.tree import BadRequest, ModelMissing
from tests.support.calls import understood

Ask = Callable[..., Request]
MIB = 2**20
PICTURE = "iVBORw0KGgo" * 50
MESSAGES, COUNT = b"/v1/messages", b"/v1/messages/count_tokens"


@pytest.fixture(scope="session")
def plan(ask: Ask) -> Callable[..., Plan]:
    """Plan a body: members beside the model, or bytes as they are."""

    def make(body: Any, path: bytes = MESSAGES) -> Plan:
        request = ask(path)
        route = ANTHROPIC.route(request)
        assert route is not None
        data = body if isinstance(body, bytes) else json.dumps({"model": "claude-sonnet-4-5", **body}).encode()
        return ANTHROPIC.plan(route, request, data)

    return make


def user(*blocks: Any) -> dict[str, Any]:
    """A body of one turn."""
    return {"max_tokens": 32000, "messages": [{"role": "user", "content": list(blocks)}]}


def base64(data: str = PICTURE, **more: str) -> dict[str, Any]:
    """A source whose bytes are there."""
    return {"type": "base64", "media_type": "image/png", "data": data, **more}


IMAGE = {"type": "image", "source": base64()}
PDF = {"type": "document", "source": base64(media_type="application/pdf"), "title": "x"}
LINKED = {"type": "image", "source": {"type": "url", "url": "https://x.example/y.png"}}
TEXT = {"type": "text", "text": "What is this?"}


@pytest.mark.parametrize(
    ("blocks", "media", "images", "others"),
    [
        ([TEXT], 0, 0, 0),
        ([TEXT, IMAGE, IMAGE], 2, 2, 0),
        ([PDF, IMAGE], 2, 1, 1),
        ([{"type": "tool_result", "tool_use_id": "t", "content": [TEXT, IMAGE]}], 1, 1, 0),
        ([{"type": "tool_result", "tool_use_id": "t", "content": "all is text"}], 0, 0, 0),
        ([{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": PICTURE}}], 0, 0, 0),
        ([{"type": "document", "source": {"type": "content", "content": [TEXT, IMAGE]}}], 1, 1, 0),
        ([{"type": "tool_result", "content": [{"type": "document", "source": {"type": "content", "content": [IMAGE]}}]}], 1, 1, 0),
        ([LINKED, {"type": "document", "source": {"type": "file", "file_id": "file_1"}}], 0, 1, 1),
        ([{"type": "redacted_thinking", "data": PICTURE}, TEXT], 1, 0, 0),
        ([{"type": "tool_use", "id": "t", "name": "f", "input": {"source": {"data": PICTURE}}}], 0, 0, 0),
        ([{"type": "search_result", "source": "https://x.example", "content": [TEXT]}], 0, 0, 0),
        ([{"type": "hologram", "source": base64()}, 5, IMAGE], 0, 0, 0),
        ([{"type": "image", "source": PICTURE}, {"type": "image"}], 0, 0, 0),
    ],
)  # fmt: skip
def test_media_are_counted_and_not_weighed(
    plan: Callable[..., Plan], blocks: list[Any], media: int, images: int, others: int
) -> None:
    """L1: of pictures and documents, wherever they stand, only their number counts; all else is text."""
    body = user(*blocks)
    demand = plan(body).demand
    size = len(json.dumps({"model": "claude-sonnet-4-5", **body}))
    assert (
        Demand(
            text_chars=size - media * len(f'"{PICTURE}"'), images=images, other_media=others, max_output_tokens=32000
        )
        == demand
    )


def test_text_of_any_shape(plan: Callable[..., Plan]) -> None:
    """L1: contents and system prompts are strings or blocks, and whatever has another shape is text."""
    odd: Any
    for odd in ("hello", None, 5, {}, [[]], [{"content": 5}], [{"content": "hi"}, 5], {"source": []}):
        body = json.dumps({"model": "m", "messages": odd, "system": "be kind", "tools": odd, "source": 1}).encode()
        assert Demand(text_chars=len(body)) == plan(body).demand
    assert None is plan({"max_tokens": "many"}).demand.max_output_tokens


def test_operations(plan: Callable[..., Plan]) -> None:
    """A4: a count of tokens makes nothing and never streams; a message streams where `stream` is true and no other."""
    body = user(TEXT) | {"stream": True}
    assert (True, True) == (plan(body).stream, plan(body).demand.generates)
    assert (False, False) == (plan(body, COUNT).stream, plan(body, COUNT).demand.generates)
    others: list[Any] = [False, None, "true", 1, {}]
    assert not any(plan(user(TEXT) | {"stream": other}).stream for other in others)


@pytest.mark.parametrize(
    ("members", "cacheable"),
    [
        ({}, True),
        ({"tools": [], "mcp_servers": [], "container": None}, True),
        ({"tools": None}, True),
        ({"tools": [{"name": "f", "input_schema": {}}, {"type": "custom", "name": "g"}, {"type": None}]}, True),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}, {"type": "text_editor_20250728"}]}, True),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, False),
        ({"tools": [{"name": "f"}, {"type": "code_execution_20250825", "name": "code_execution"}]}, False),
        ({"tools": [{"type": "something_new"}]}, False),
        ({"tools": "all"}, False),
        ({"mcp_servers": [{"type": "url", "url": "https://x.example"}]}, False),
        ({"container": "container_1"}, False),
        (user(IMAGE, PDF), True),
        (user(LINKED), False),
        (user({"type": "tool_result", "content": [LINKED]}), False),
    ],
)
def test_what_may_be_cached(plan: Callable[..., Plan], members: Any, cacheable: bool) -> None:
    """C2: what runs upstream or is fetched there is not the same twice, so no answer to it is kept."""
    assert cacheable == plan(members).cacheable


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)
NAMES = st.sampled_from(
    ["model", "Model", "MODEL", "m\\u006fdel", "\u006d\u006f\u0064\u0065\u006c", "mode\u017f", "stream", "messages"]
)
MEMBERS = st.lists(
    st.tuples(NAMES | st.text(max_size=6), st.sampled_from(["claude-a", "claude-b", "", " x"]) | JSON), max_size=5
)


def readers(body: bytes) -> set[Any]:
    """What a reader that takes the first and minds case, and one that takes the last and does not, take for the model."""
    pairs: list[tuple[str, Any]] = json.loads(body, object_pairs_hook=lambda found: found)
    first = next((value for name, value in pairs if name == "model"), None)
    last = next((value for name, value in reversed(pairs) if name.casefold() == "model"), None)
    return {first, last}


@given(
    members=MEMBERS, around=st.sampled_from([("", ""), (" ", "\n"), ("", "x"), ("\ufeff", ""), ("", "{}"), ("[", "]")])
)
def test_nobody_reads_another_model(
    plan: Callable[..., Plan], members: list[tuple[str, Any]], around: tuple[str, str]
) -> None:
    """P2: a body is refused, or everybody who reads it reads the same model in it, and it is ours."""
    written = ",".join(
        f'"{name}":{json.dumps(value)}' if "\\u" in name else f"{json.dumps(name)}:{json.dumps(value)}"
        for name, value in members
    )
    body = f"{around[0]}{{{written}}}{around[1]}".encode()
    try:
        found = plan(body)
    except (BadRequest, ModelMissing):
        return
    assert {found.model} == readers(body) - {None}


@given(
    body=st.binary(max_size=200)
    | JSON.map(lambda one: json.dumps(one).encode())
    | st.text(alphabet='{}[]",:model1e\\u0', max_size=40).map(str.encode)
)
def test_garbage(plan: Callable[..., Plan], body: bytes) -> None:
    """D9: whatever comes is a bad request, names no model or is understood; nothing else is raised."""
    try:
        assert plan(body).model
    except (BadRequest, ModelMissing):
        return


BLOCKS = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from([IMAGE, PDF, LINKED, TEXT]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "source", "content", "data", "messages", "tools"]),
            inner | st.sampled_from(["image", "document", "tool_result", "base64", "content", "redacted_thinking"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(messages=BLOCKS, tools=BLOCKS)
def test_any_shape_is_read(plan: Callable[..., Plan], messages: Any, tools: Any) -> None:
    """D9: no shape of messages or tools raises, and media are never more than the body."""
    body = json.dumps({"model": "m", "messages": messages, "tools": tools}).encode()
    assert 0 < plan(body).demand.text_chars <= len(body)


@pytest.mark.parametrize("path", [MESSAGES, COUNT])
def test_the_body_crosses_untouched(ask: Ask, client: Client, path: bytes) -> None:
    """P7: what goes upstream is the body as it came, whatever stands in it."""
    body = b'{ "model" : "claude-x[1m]" ,"system":[{"type":"text","text":"\\ud83d"}], "new": [1.0, 1e5] }\n'
    assert body == understood(ANTHROPIC, ask(path), body, client).upstream.body


def history(size: int) -> dict[str, Any]:
    """As a coding agent sends it: every turn so far, eighty tools."""
    code = 'def read(self, path: str) -> bytes:\n    """Read {path}."""\n    return self.files["a"]\n' * 40
    turn = [
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Let me see. " * 50, "signature": "EqQB" * 150}, TEXT,
            {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"file_path": "/x/y", "limit": 10}},
        ]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": code}]},
    ]  # fmt: skip
    schema = {"type": "object", "properties": {f"p{n}": {"type": "string", "description": code[:80]} for n in range(9)}}
    tools = [{"name": f"tool{n}", "description": code[:900], "input_schema": schema} for n in range(80)]
    turns = turn * (size // len(json.dumps(turn)))
    return {"max_tokens": 32000, "stream": True, "system": [TEXT], "tools": tools, "messages": turns}


HISTORY = history(5 * MIB)
LARGE = {
    "history": json.dumps({"model": "m", **HISTORY}).encode(),
    "history with a picture": json.dumps({"model": "m", **HISTORY, "messages": [*HISTORY["messages"], *user(IMAGE)["messages"]]}).encode(),
    "pictures": json.dumps({"model": "m", **user(*[{"type": "image", "source": base64("iVBO" * MIB)}] * 2)}).encode(),
    "braces in texts, and a picture": json.dumps({"model": "m", **user({"type": "text", "text": "{}" * MIB}, IMAGE)}).encode(),
    "objects": b'{"model":"m","source":1,"messages":[' + b"{}," * (10 * MIB // 3) + b"{}]}",
    "nearly as many objects as are read": b'{"model":"m","source":1,"messages":[' + b"{}," * 49_000 + b"{}]}",
    "tools": b'{"model":"m","tools":[' + b"{}," * (10 * MIB // 3) + b"{}]}",
    "brackets": b'{"model":"m","source":1,"messages":[' + b"[]," * (10 * MIB // 3) + b"[]]}",
    "contents in contents": b'{"model":"m","source":1,"messages":' + b'[{"content":' * 400 + b'"%b"' % (b"x" * 5 * MIB) + b"}]" * 400 + b"}",
}  # fmt: skip


@pytest.mark.parametrize("case", LARGE)
def test_large_bodies(plan: Callable[..., Plan], case: str) -> None:
    """D9: megabytes of history are read without a copy of a medium, and no body takes much memory (printed)."""
    body, took = LARGE[case], []
    for _ in range(3):
        begin = time.perf_counter()
        plan(body)
        took.append(time.perf_counter() - begin)
    tracemalloc.start()
    found = plan(body).demand
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    figures = f"{case}: {len(body) / MIB:.1f} MiB, {1e3 * min(took):.1f} ms, peak {peak / MIB:.2f} MiB"
    print(figures)  # noqa: T201  for the reader: a busy machine fails no test
    assert peak < len(body) + 8 * MIB  # each member is compared with the bytes where it stands
    assert ("picture" in case, "objects" == case) == (found.images > 0, found.unread)
