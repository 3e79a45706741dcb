"""What does a body in OpenAI's dialect ask for, and can two readers of it read two things?"""

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.asgi.request import Request
from gateway.call import Call, Demand
from gateway.config.clients import Client
from gateway.dialects.openai import CHAT
from gateway.errors.tree import BadRequest, ModelMissing
from tests.support.calls import understood

Ask = Callable[..., Request]
MIB = 2**20
PICTURE = "data:image/png;base64," + "A" * 4000
TAILS = [b"chat/completions", b"completions", b"embeddings"]


def asked(ask: Ask, client: Client, tail: str, body: Any) -> Call:
    """What is understood of a body, as JSON or as it is."""
    text = body if isinstance(body, bytes) else json.dumps({"model": "m", **body}).encode()
    return understood(CHAT, ask(b"/v1/" + tail.encode()), text, client)


@pytest.fixture(scope="module")
def chat(ask: Ask, client: Client) -> Callable[..., Demand]:
    """What a chat completion with these members asks for."""
    return lambda **members: asked(ask, client, "chat/completions", members).plan.demand


def user(*parts: Any) -> list[Any]:
    """One turn of these parts."""
    return [{"role": "user", "content": list(parts)}]


def test_text_is_everything_that_is_no_medium(chat: Callable[..., Demand]) -> None:
    """L3: tools and schemas are input too, so text is the body without its media."""
    words = {"model": "m", "messages": [{"role": "user", "content": "Grüße"}], "tools": [{"type": "function"}]}
    assert len(json.dumps(words).encode()) == chat(**words).text_chars
    words = {"model": "m", "messages": user({"type": "image_url", "image_url": {"url": PICTURE}})}
    demand = chat(**words)
    assert (1, 0) == (demand.images, demand.other_media)
    assert len(json.dumps(words)) - len(PICTURE) - 2 == demand.text_chars


@pytest.mark.parametrize(
    ("part", "images", "others"),
    [
        ({"type": "image_url", "image_url": {"url": PICTURE}}, 1, 0),
        ({"type": "image_url", "image_url": PICTURE}, 1, 0),
        ({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}, 1, 0),
        ({"type": "image_url", "image_url": None}, 0, 0),
        ({"type": "input_audio", "input_audio": {"data": "A" * 4000, "format": "wav"}}, 0, 1),
        ({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AAAA"}}, 0, 1),
        ({"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}, 0, 1),
        ({"type": "text", "text": PICTURE}, 0, 0),
        ({"type": "image_url", "image_url": 7}, 1, 0),
        ("image_url", 0, 0),
        ([[[[[{"image_url": PICTURE}]]]]], 0, 0),
    ],
)
def test_media(chat: Callable[..., Demand], part: Any, images: int, others: int) -> None:
    """L3: each medium is counted, and one of a shape that nobody knows is text."""
    demand = chat(messages=[{"role": "user", "content": "image_url"}, *user({"type": "text", "text": "x"}, part)])
    assert (images, others) == (demand.images, demand.other_media)


@pytest.mark.parametrize(
    ("members", "bound", "answers", "pictures"),
    [
        ({}, None, 1, False),
        ({"max_tokens": 9, "n": 3}, 9, 3, False),
        ({"max_tokens": 9, "max_completion_tokens": 5}, 5, 1, False),
        ({"max_tokens": "9", "n": 2.0, "max_completion_tokens": None}, 9, 2, False),
        ({"max_tokens": -1, "n": 0, "stream": "true"}, None, 1, False),
        ({"modalities": ["text", "image"]}, None, 1, True),
        ({"modalities": ["text", "audio"]}, None, 1, False),
        ({"modalities": "image", "tools": [7, {"type": 7}]}, None, 1, False),
    ],
)
def test_what_the_answer_may_be(
    *, chat: Callable[..., Demand], members: dict[str, Any], bound: int | None, answers: int, pictures: bool
) -> None:
    """L3: the smaller bound of the output counts, the number of answers, and whether pictures are wanted."""
    demand = chat(**members)
    assert (bound, answers, pictures) == (demand.max_output_tokens, demand.candidates, demand.image_output)


@pytest.mark.parametrize(
    ("tail", "members", "answers", "tokens"),
    [
        ("completions", {"prompt": "a", "n": 2, "best_of": 5}, 5, 0),
        ("completions", {"prompt": ["a", "b"], "n": 2}, 4, 0),
        ("completions", {"prompt": [1, 2, 3]}, 1, 3),
        ("completions", {"prompt": [[1, 2], [3]]}, 2, 3),
        ("embeddings", {"input": [[1, 2], [3, 4, 5]]}, 1, 5),
        ("embeddings", {"input": ["a", "b"]}, 1, 0),
    ],
)
def test_tokens_in_place_of_text(
    ask: Ask, client: Client, tail: str, members: dict[str, Any], answers: int, tokens: int
) -> None:
    """L3: a token is counted as one, however many digits it has, and each prompt is answered."""
    demand = asked(ask, client, tail, members).plan.demand
    assert (answers, tokens, tail == "completions") == (demand.candidates, demand.tokens, demand.generates)
    length = len(json.dumps({"model": "m", **members}))
    assert (demand.text_chars < length) == bool(tokens)


@pytest.mark.parametrize(
    ("tail", "members", "stream", "cacheable"),
    [
        ("chat/completions", {"stream": True}, True, True),
        ("chat/completions", {"stream": 1}, False, True),
        ("chat/completions", {"stream": None, "store": True}, False, False),
        ("completions", {"stream": True, "store": False}, True, True),
        ("embeddings", {"stream": True}, False, True),
    ],
)
def test_streams_and_what_may_be_kept(
    *, ask: Ask, client: Client, tail: str, members: dict[str, Any], stream: bool, cacheable: bool
) -> None:
    """C5: only `true` streams, embeddings never do, and what is stored upstream is not kept here."""
    plan = asked(ask, client, tail, members).plan
    assert (stream, cacheable) == (plan.stream, plan.cacheable)


def test_large_bodies_are_not_copied(chat: Callable[..., Demand], ask: Ask, client: Client) -> None:
    """D9: 20 MiB of a picture cost no second 20 MiB, and no picture is taken for text."""
    body = json.dumps({"model": "m", "messages": user({"type": "image_url", "image_url": {"url": PICTURE}})}).encode()
    body = body.replace(b"A" * 4000, b"A" * (20 * MIB))
    request = ask(b"/v1/chat/completions")
    route = CHAT.route(request)
    assert route is not None
    tracemalloc.start()
    try:
        plan = CHAT.plan(route, request, body)
        assert tracemalloc.get_traced_memory()[1] < len(body) * 2.5
    finally:
        tracemalloc.stop()
    assert (1, True) == (plan.demand.images, plan.demand.text_chars < 1000)
    many = b'{"model":"m","messages":[{"image_url":0}' + b",{}" * 30_000 + b"]}"
    assert (True, len(many)) == (
        (demand := asked(ask, client, "chat/completions", many).plan.demand).unread,
        demand.text_chars,
    )


# --- two readers ------------------------------------------------------------------------------------------------
def first_wins(body: bytes) -> Any:
    """Read the model as a router does that takes the first member and minds case."""
    pairs = json.loads(body, object_pairs_hook=list)
    return next((value for name, value in pairs if name == "model"), None) if isinstance(pairs, list) else None


def last_wins(body: bytes) -> Any:
    """Read the model as a server does that takes the last member, in whatever case."""
    pairs = json.loads(body, object_pairs_hook=list)
    named = [value for name, value in pairs if isinstance(name, str) and name.casefold() == "model"]
    return named[-1] if named else None


NAMES = st.sampled_from(
    ["model", "Model", "MODEL", "mod\\u0065l", "\\u006dodel", "model ", "stream", "n", "messages", "\\u017ftream", "x"]
)
MODELS = st.sampled_from(
    ['"a"', '"b"', '"\\u0061"', "null", '""', "7", '["a"]', '{"model":"b"}', '"a b"', '"\\ud800"', "true", '"ä"']
)
WHITE = st.sampled_from(["", " ", "\n", "\t\r"])
MEMBERS = st.lists(st.tuples(WHITE, NAMES, WHITE, MODELS, WHITE), max_size=4).map(
    lambda members: "{" + ",".join(f'{a}"{name}"{b}:{value}{c}' for a, name, b, value, c in members) + "}"
)
AROUND = st.sampled_from(["", " ", "\ufeff", "x", "{}", '{"model":"b"}', "\x00", ","])
JSONS = st.recursive(
    st.sampled_from([None, True, False, 0, 7, -1, 1.5, "", "text", "data:image/png;base64,AA"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["content", "image_url", "url", "type", "text", "file", "output", "input_audio"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@example(before="", body='{"Model":"a"}', behind="", tail=TAILS[0])
@example(before="", body='{"model":"a","MODEL":"b"}', behind="", tail=TAILS[0])
@example(before="", body='{"model":"a","mod\\u0065l":"b"}', behind="", tail=TAILS[0])
@example(before="", body='{"model":"a"}', behind='{"model":"b"}', tail=TAILS[0])
@given(before=AROUND, body=MEMBERS, behind=AROUND, tail=st.sampled_from(TAILS))
def test_nobody_reads_another_model(ask: Ask, client: Client, before: str, body: str, behind: str, tail: bytes) -> None:
    """L7: a body passes only if a first-wins reader and a last-wins one that ignores case read the same model."""
    text = (before + body + behind).encode()
    try:
        call = understood(CHAT, ask(b"/v1/" + tail), text, client)
    except (BadRequest, ModelMissing):
        return
    assert call.model == first_wins(text) == last_wins(text)
    assert text == call.upstream.body


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine fails no test
@given(
    members=st.dictionaries(
        st.sampled_from(["messages", "prompt", "input", "n", "max_tokens", "modalities", "tools", "stream", "store"]),
        JSONS,
        max_size=4,
    ),
    tail=st.sampled_from(TAILS),
)
def test_any_json_is_understood(ask: Ask, client: Client, members: dict[str, Any], tail: bytes) -> None:
    """P1: whatever the members are, a body that names its model is understood and nothing is raised."""
    body = json.dumps({"model": "m", **members}).encode()
    demand = understood(CHAT, ask(b"/v1/" + tail), body, client).plan.demand
    assert 0 <= demand.text_chars <= len(body)
    assert min(demand.images, demand.other_media, demand.tokens, demand.candidates - 1) >= 0
    assert not demand.unread
