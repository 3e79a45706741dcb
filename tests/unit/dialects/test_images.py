"""What do pictures cost, are they complete, may they be kept, and what does a body ask for?"""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.asgi.request import Request
from gateway.call import Call, Demand, Event, Kind, Modality, State, Usage
from gateway.config.clients import Client
from gateway.dialects.openai import IMAGES
from gateway.dialects.openai.images_meter import ImagesMeter
from gateway.errors.tree import BadRequest, ModelMissing
from gateway.framing import AsItCame
from tests.support.calls import understood

RECORDED = Path(__file__).parent / "images"
MIB = 2**20
Ask = Callable[..., Request]
Tokens = dict[tuple[Kind, Modality], int]
PREFIXES = [b"/v1/", b"/", b"//v1//", b"/v1/v1/", b"/openai/v1/", b"/v1beta/openai/"]


def metered(*events: Any, **facts: Any) -> ImagesMeter:
    """Show a meter whole events: JSON, or bytes as they are."""
    meter = ImagesMeter(**facts)
    for event in events:
        meter.see(Event(b"", event if isinstance(event, bytes) else json.dumps(event).encode()))
    return meter


def recorded(name: str, **facts: Any) -> ImagesMeter:
    """Show a meter a recorded answer."""
    meter, body = ImagesMeter(**facts), (RECORDED / name).read_bytes()
    framing = AsItCame("text/event-stream" if ".sse" in name else "application/json", done=True)
    for _, event in [*framing.feed(body), *framing.end()]:
        if event is not None:
            meter.see(event)
    return meter


@pytest.mark.parametrize(
    ("name", "tokens", "total", "images", "size", "state", "storable"),
    [
        ("gpt.json", {("input", "text"): 10, ("input", "image"): 40, ("output", "image"): 3168}, 3218, 2, "1024x1536", "complete", True),
        ("gpt.sse", {("input", "text"): 13, ("output", "image"): 372}, 385, 1, "1024x1024", "complete", True),
        ("edit_failed.sse", {("input", "text"): 10, ("input", "image"): 50, ("output", "image"): 272}, 332, 1, "1024x1024", "failed", False),
        ("seedream.json", {("output", "image"): 32768}, 32768, 2, "2048x2048", "complete", False),
        ("seedream_crlf.sse", {("output", "image"): 16384}, 16384, 1, "2048x2048", "complete", False),
        ("wan_flattened.json", {("input", "text"): 15, ("cached", "text"): 5, ("thoughts", "text"): 30, ("output", "image"): 70}, 120, 2, "auto", "complete", False),
        ("wan.sse", {("input", "text"): 20, ("output", "image"): 5}, 25, 1, "auto", "complete", False),
        ("qwen.json", {}, 0, 1, "auto", "complete", False),
        ("dall_e.json", {}, 0, 1, "auto", "complete", False),
    ],
)  # fmt: skip
def test_recorded_answers(
    name: str, tokens: Tokens, total: int, images: int, size: str, state: State, storable: bool
) -> None:
    """U18, C7: each family counts its pictures its own way; kept are only those whose every picture is in the answer."""
    meter = recorded(name, size="auto", quality="auto")
    usage = meter.usage
    assert (tokens, total, images, size, "reported") == (
        usage.tokens,
        usage.total,
        usage.images_out,
        usage.size,
        usage.source,
    )
    assert (state, storable) == (meter.state, meter.storable)


@pytest.mark.parametrize(
    ("due", "events", "state"),
    [
        (1, ["image_generation.partial_image"], "open"), (1, ["image_generation.completed"], "complete"),
        (2, ["image_generation.completed"], "open"), (2, ["image_edit.completed", "image_edit.completed"], "complete"),
    ],
)  # fmt: skip
def test_a_stream_is_whole_when_every_picture_is_there(due: int, events: list[str], state: State) -> None:
    """U4: as many pictures complete a stream as were asked for, and partial ones are none."""
    assert state == metered(*({"type": kind, "b64_json": "iVBORw0KGgo="} for kind in events), due=due).state


def test_names_of_events_count_where_they_have_no_type() -> None:
    """U4: an event is what its line says where its data does not."""
    meter = ImagesMeter()
    meter.see(Event(b"image_generation.completed", b'{"b64_json":"iVBORw0KGgo="}'))
    assert ("complete", 1) == (meter.state, meter.usage.images_out)


def test_a_picture_that_failed_is_no_end() -> None:
    """U4: a stream goes on behind a picture that failed; a real error is its end."""
    failed = {"type": "image_generation.partial_failed", "error": {"code": "x", "message": "no"}}
    assert ("open", False) == ((meter := metered(failed)).state, meter.storable)
    assert "failed" == metered(failed, {"error": {"message": "no more"}}).state
    assert "failed" == metered({"type": "error", "message": "no more"}).state
    assert "complete" == metered({"data": [], "error": {"code": "", "message": ""}}).state


@pytest.mark.parametrize(
    ("entry", "storable"),
    [
        ({"b64_json": "iVBORw0KGgo="}, True), ({"url": "data:image/png;base64,iVBORw0KGgo="}, True), ({"url": "https://x/a.png"}, False),
        ({"b64_json": None, "url": "https://x/a.png"}, False), ({"b64_json": "", "url": "https://x/a.png"}, False), ({"url": None}, False),
        ({"b64_json": "iVBORw0KGgo=", "url": "https://x/a.png"}, True), ({"error": {"code": "x"}}, False), ({}, False), ({"b64_json": 7}, False),
    ],
)  # fmt: skip
def test_only_pictures_that_are_in_the_answer_are_kept(entry: dict[str, Any], storable: bool) -> None:
    """C7: an answer with a picture's address, or without a picture, is kept by nobody."""
    assert storable == metered({"data": [entry]}).storable
    assert not metered({"data": [{"b64_json": "iVBORw0KGgo="}, {"url": "https://x/a.png"}]}).storable


def test_usage_of_several_events_is_never_added() -> None:
    """U18: each event may count all until then, so the largest usage counts."""
    events = [
        {"type": "image_generation.completed", "b64_json": "aa", "usage": {"output_tokens": size, "total_tokens": size}}
        for size in (5, 9, 7)
    ]
    assert (9, 3) == ((usage := metered(*events, due=3).usage).total, usage.images_out)


@pytest.mark.parametrize(
    "usage", [None, {}, 7, [], {"total_tokens": "many"}, {"output_tokens": -1}, {"generated_images": None}]
)
def test_usage_that_says_nothing(usage: Any) -> None:
    """U18: pictures are counted where no usage is told, and nothing is made up."""
    read = metered({"data": [{"url": "https://x/a.png"}], "usage": usage}).usage
    assert ({}, 0, 1, "reported") == (read.tokens, read.total, read.images_out, read.source)
    assert Usage() == metered({"data": [], "usage": usage}).usage


@given(data=st.recursive(st.none() | st.text(max_size=5) | st.integers(), lambda one: st.lists(one, max_size=3) | st.dictionaries(
    st.sampled_from(["data", "output", "usage", "error", "type", "choices", "message", "content", "image", "url", "size"]), one, max_size=3), max_leaves=9))  # fmt: skip
def test_other_shapes_harm_nobody(data: Any) -> None:
    """U11: whatever stands in an answer, it is read as far as it can be."""
    if isinstance(data, dict):
        assert metered(data).usage.images_out >= 0


def test_large_pictures_are_not_copied() -> None:
    """D8: a picture of megabytes is passed over."""
    body = b'{"data":[{"b64_json":"%b"}],"usage":{"output_tokens":7,"total_tokens":7}}' % (b"A" * (20 * MIB))
    tracemalloc.start()
    try:
        meter = metered(body)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    assert (7, 1, True) == (meter.usage.total, meter.usage.images_out, meter.storable)


def test_an_answer_of_too_many_values() -> None:
    """D9: one that is not looked into still says what it cost, and is not kept; a cut one is no answer."""
    many = b'{"data":[%b],"usage":{"total_tokens":5,"output_tokens":5}}' % b",".join([b"{}"] * 30_000)
    assert (5, False) == ((meter := metered(many)).usage.total, meter.storable)
    with pytest.raises(ValueError, match="many"):
        metered(many[:-1])


# --- what is asked for ---------------------------------------------------------------------------------------------
def asked(ask: Ask, client: Client, body: Any, tail: bytes = b"images/generations", **headers: str) -> Call:
    """What is understood of a body."""
    text = body if isinstance(body, bytes) else json.dumps({"model": "m", **body}).encode()
    return understood(IMAGES, ask(b"/v1/" + tail, **headers), text, client)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(
    ("tail", "name"), [(b"images/generations", "imagesGenerations"), (b"images/edits", "imagesEdits")]
)
def test_paths(ask: Ask, client: Client, prefix: bytes, tail: bytes, name: str) -> None:
    """P1: whatever stands around the tail, the path that goes upstream is made of constants."""
    for end in (b"", b"/"):
        call = understood(IMAGES, ask(prefix + tail + end), b'{"model":"gpt-image-1.5"}', client)
        assert (name, f"/v1/{tail.decode()}", False) == (
            call.operation.name,
            call.upstream.target,
            call.operation.repeatable,
        )
    assert IMAGES.route(ask(prefix + tail + b"/x")) is None


@pytest.mark.parametrize(
    ("body", "candidates", "images", "stream"),
    [
        ({}, 1, 0, False), ({"n": 3}, 3, 0, False), ({"n": None, "stream": None}, 1, 0, False), ({"n": 0}, 1, 0, False), ({"n": "4"}, 4, 0, False),
        ({"stream": True, "partial_images": 2}, 1, 0, True), ({"stream": "true"}, 1, 0, False),
        ({"sequential_image_generation": "auto"}, 15, 0, False), ({"sequential_image_generation": "disabled"}, 1, 0, False),
        ({"sequential_image_generation": "auto", "sequential_image_generation_options": {"max_images": 4}}, 4, 0, False),
        ({"sequential_image_generation_options": {"max_images": 4}}, 1, 0, False), ({"parameters": {"n": 4, "stream": True}}, 4, 0, True),
        ({"parameters": {"max_images": 5}}, 1, 0, False), ({"parameters": {"max_images": 5, "enable_interleave": True}}, 5, 0, False),
        ({"image": "https://x/a.png"}, 1, 1, False), ({"image": ["a", "b"]}, 1, 2, False), ({"image": None}, 1, 0, False),
        ({"images": [{"image_url": "https://x/a.png"}, {"file_id": "f"}], "mask": "m"}, 1, 2, False),
        ({"input": {"messages": [{"role": "user", "content": [{"image": "https://x/a.png"}, {"text": "a cat"}]}]}}, 1, 1, False),
        ({"input": 7, "parameters": [], "images": "a", "size": {}}, 1, 1, False),
    ],
)  # fmt: skip
def test_bodies(ask: Ask, client: Client, body: dict[str, Any], candidates: int, images: int, stream: bool) -> None:
    """L3: each family says in its own way how many pictures it wants, which it gives, and whether it streams."""
    call = asked(ask, client, body)
    demand = call.plan.demand
    assert (candidates, images, stream, True) == (demand.candidates, demand.images, call.stream, demand.image_output)


def test_pictures_are_no_text(ask: Ask, client: Client) -> None:
    """L3: the bytes of a picture are not counted as text, whether few or many."""
    words: dict[str, Any] = {
        "model": "m",
        "prompt": "a cat",
        "size": "1024x1024",
        "quality": "high",
        "image": [],
        "mask": "",
        "parameters": {"size": "1*1"},
    }
    empty = len(json.dumps(words))
    for size in (100, 300_000):
        demand = asked(ask, client, words | {"image": ["A" * size] * 2, "mask": "B" * size}).plan.demand
        assert (2, "1024x1024", "high") == (demand.images, demand.size, demand.quality)
        assert empty - 10 <= demand.text_chars <= empty + 10
    assert "1*1" == asked(ask, client, {"parameters": {"size": "1*1"}}).plan.demand.size
    assert "" == asked(ask, client, {"size": 'a"b', "quality": "x" * 99}).plan.demand.size


def test_a_form(ask: Ask, client: Client) -> None:
    """L3, P4: the same of a form, which goes up under the boundary that was checked, and is not kept."""
    files = [("image[]", ("a.png", b"A" * 5000)), ("image[]", ("b.png", b"B")), ("mask", ("m.png", b"C"))]
    data = {
        "model": "gpt-image-1.5",
        "prompt": "a cat",
        "n": "2",
        "size": "1024x1024",
        "quality": "low",
        "stream": "true",
    }
    request = httpx.Request("POST", "http://x", files=files, data=data)
    said = request.headers["content-type"].replace("multipart/form-data", "Multipart/Form-DATA; charset=utf-8")
    call = asked(ask, client, request.read(), b"images/edits", content_type=said)
    assert ("gpt-image-1.5", True, False) == (call.model, call.stream, call.plan.cacheable)
    expected = Demand(
        text_chars=sum(map(len, data.values())),
        images=2,
        candidates=2,
        image_output=True,
        size="1024x1024",
        quality="low",
    )
    assert expected == call.plan.demand
    assert ("content-type", request.headers["content-type"]) in call.upstream.headers
    assert call.upstream.body == request.content


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"prompt":"a"}', ModelMissing),
        (b'{"model":"a","Model":"b"}', BadRequest),
        (b"[]", BadRequest),
        (b"--b--", BadRequest),
    ],
)
def test_bodies_that_are_refused(ask: Ask, client: Client, body: bytes, error: type[Exception]) -> None:
    """D9, K4: a body is one JSON object that names one model."""
    with pytest.raises(error):
        asked(ask, client, body)


def test_a_body_of_too_many_values(ask: Ask, client: Client) -> None:
    """D9: a body that is not looked into may ask for anything."""
    demand = asked(ask, client, b'{"model":"m","x":[%b]}' % b",".join([b"{}"] * 30_000)).plan.demand
    assert (True, True) == (demand.unread, demand.image_output)


def test_dashscopes_header(ask: Ask, client: Client) -> None:
    """P4: the header by which Alibaba streams crosses on its route, and with its one value."""
    call = asked(ask, client, {}, x_dashscope_sse="enable")
    assert ("x-dashscope-sse", "enable") in call.upstream.headers
    with pytest.raises(BadRequest, match="enable"):
        asked(ask, client, {}, x_dashscope_sse="disable")
