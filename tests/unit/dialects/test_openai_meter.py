"""What an answer in OpenAI's dialect cost, whether it is complete, and whether it may be kept."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.call import Event, Kind, Modality, State, Usage
from gateway.dialects.openai.chat_meter import ChatMeter
from gateway.dialects.openai.embeddings_meter import EmbeddingsMeter
from gateway.framing import AsItCame, TooManyObjects

RECORDED = Path(__file__).parent / "openai"
MIB = 2**20
Tokens = dict[tuple[Kind, Modality], int]


def metered(*events: Any, **facts: Any) -> ChatMeter:
    """Show a meter whole events: JSON, or bytes as they are."""
    meter = ChatMeter(**facts)
    for event in events:
        meter.see(Event(b"", event if isinstance(event, bytes) else json.dumps(event).encode()))
    return meter


def streamed(name: str, **facts: Any) -> ChatMeter:
    """Show a meter a recorded stream."""
    meter, framing = ChatMeter(**facts), AsItCame("text/event-stream", done=True)
    for _, event in [*framing.feed((RECORDED / f"{name}.sse").read_bytes()), *framing.end()]:
        if event is not None:
            meter.see(event)
    return meter


def used(**usage: Any) -> Usage:
    """Read one `usage`."""
    return metered({"choices": [], "usage": usage}).usage


def answered(content: Any = "Hello.", end: Any = "stop", **more: Any) -> dict[str, Any]:
    """A chat completion of one choice."""
    return {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content, **more}, "finish_reason": end}]
    }


def delta(end: Any = None, index: Any = 0, **more: Any) -> dict[str, Any]:
    """One event of a streamed chat completion."""
    return {"choices": [{"index": index, "delta": more, "finish_reason": end}]}


@pytest.mark.parametrize(
    ("name", "tokens", "total", "state"),
    [
        ("tools", {("input", "text"): 56, ("cached", "text"): 64, ("output", "text"): 28, ("thoughts", "text"): 20}, 168,
         "complete"),
        ("two_choices_crlf", {("input", "text"): 5, ("cached", "text"): 4, ("output", "text"): 5}, 14, "complete"),
        ("completion", {("input", "text"): 3, ("output", "text"): 2}, 5, "complete"),
        ("error_midway", {("input", "text"): 7, ("output", "text"): 1}, 8, "failed"),
    ],
)  # fmt: skip
def test_recorded_streams(name: str, tokens: Tokens, total: int, state: State) -> None:
    """A4: the usage of a recorded stream is exact, by kind and modality."""
    meter = streamed(name)
    assert Usage(tokens=tokens, total=total, source="reported") == meter.usage
    assert state == meter.state
    assert not meter.storable  # tools, one choice too many, a cut text, an error


@pytest.mark.parametrize(
    ("name", "images", "model"), [("chat", 0, "gpt-5-mini-2025"), ("picture", 1, "gemini-2.5-flash-image")]
)
def test_recorded_answers(name: str, images: int, model: str) -> None:
    """A4: the same of an answer that came in one piece; it may be kept."""
    meter = metered((RECORDED / f"{name}.json").read_bytes(), pictures=bool(images))
    assert ("reported", images, model) == (meter.usage.source, meter.usage.images_out, meter.served_model)
    assert ("complete", True) == (meter.state, meter.storable)
    assert sum(meter.usage.tokens.values()) == meter.usage.total


DETAILED = {"prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": 10}, "completion_tokens_details": {"reasoning_tokens": 5, "audio_tokens": 8}}  # fmt: skip


@pytest.mark.parametrize(
    ("usage", "tokens", "total"),
    [
        (
            {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, **DETAILED},
            {("input", "text"): 60, ("input", "audio"): 10, ("cached", "text"): 30, ("output", "text"): 7,
             ("output", "audio"): 8, ("thoughts", "text"): 5},
            120,
        ),
        # reasoning beside the completion
        (
            {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 20,
             "completion_tokens_details": {"reasoning_tokens": 6}},
            {("input", "text"): 10, ("output", "text"): 4, ("thoughts", "text"): 6},
            20,
        ),
        ({"prompt_tokens": 10, "completion_tokens": 4}, {("input", "text"): 10, ("output", "text"): 4}, 14),
        (
            {"prompt_tokens": 10, "prompt_cache_hit_tokens": 8, "completion_tokens": 1, "total_tokens": 11},
            {("input", "text"): 2, ("cached", "text"): 8, ("output", "text"): 1},
            11,
        ),
        # another API's names beside its own
        (
            {"prompt_tokens": 3, "completion_tokens": 1, "input_tokens": 3, "output_tokens": 1, "total_tokens": 4,
             "claude_cache_creation_5_m_tokens": 2},
            {("input", "text"): 3, ("output", "text"): 1},
            4,
        ),
        # details that say more than there is
        (
            {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4,
             "prompt_tokens_details": {"cached_tokens": 9}, "completion_tokens_details": {"reasoning_tokens": 9}},
            {("cached", "text"): 9, ("thoughts", "text"): 9},
            4,
        ),
        (
            {"prompt_tokens": "3", "completion_tokens": 1.0, "total_tokens": None, "prompt_tokens_details": [],
             "completion_tokens_details": None},
            {("input", "text"): 3, ("output", "text"): 1},
            4,
        ),
    ],
)  # fmt: skip
def test_usage_of_any_relay(usage: dict[str, Any], tokens: Tokens, total: int) -> None:
    """A4: kinds do not overlap, whatever counts in which; nothing is negative."""
    assert Usage(tokens=tokens, total=total, source="reported") == used(**usage)


@pytest.mark.parametrize("usage", [None, {}, [], 7, "x", {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
                                   {"input_tokens": 5, "output_tokens": 7}, {"total_tokens": 9},
                                   {"prompt_tokens": -3}, {"prompt_tokens": "x"}])  # fmt: skip
def test_usage_that_says_nothing_is_none(usage: Any) -> None:
    """U18: zeros and the names of another API are no usage: the output is estimated by what was written."""
    meter = metered({**answered("eight ch" * 10), "usage": usage})
    assert Usage(tokens={("output", "text"): 20}, total=20, source="estimated") == meter.usage
    assert "none" == metered({**answered(""), "usage": usage}).usage.source


def test_an_estimate_counts_all_that_was_written() -> None:
    """U18: text, thoughts in either spelling, refusals, and what tools are called with: four characters are a token."""
    call = {"index": 0, "function": {"name": "f", "arguments": '{"a":1}!'}}
    events = (
        delta(content="Grüß"), delta(reasoning_content="four"), delta(reasoning="four"),
        delta(reasoning="same", reasoning_content="same"), delta(refusal="four"), delta(tool_calls=[call]),
        delta(tool_calls=[{"custom": {"input": "four"}}]), delta(function_call={"arguments": "four"}),
        delta(content=[{"type": "text", "text": "four"}]), {"choices": [{"text": "four"}]},
    )  # fmt: skip
    assert 11 == metered(*events).usage.total


def test_the_last_usage_counts() -> None:
    """A4: usage on every event is of all until then; one that went back to nothing is none."""
    first, last = {"prompt_tokens": 5, "completion_tokens": 1}, {"prompt_tokens": 5, "completion_tokens": 9}
    meter = metered(
        {**delta(content="a"), "usage": first}, {**delta("stop"), "usage": last}, {"choices": [], "usage": {}}
    )
    assert 14 == meter.usage.total


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], "open"),
        ([delta(content="a")], "open"),
        ([delta(content="a"), delta("")], "open"),
        ([delta("stop")], "complete"),
        ([delta("stop"), delta()], "complete"),
        ([delta("stop", 0), delta(content="b", index=1)], "open"),
        ([delta("stop", 0), delta("length", 1)], "complete"),
        ([delta("stop", None), delta("content_filter", None)], "complete"),
        ([{"choices": [{"delta": {}}, {"delta": {}, "finish_reason": "stop"}]}], "open"),
        ([{"choices": [], "usage": {"prompt_tokens": 1}}], "open"),
        ([delta(content="a"), {"error": {"message": "no"}}], "failed"),
        ([delta("stop"), {"error": "no"}], "failed"),
        ([delta("stop"), {"error": {"message": "", "code": None}}], "complete"),
        ([{"error": None, **answered()}], "complete"),
        ([{"choices": [{"delta": 7, "finish_reason": "stop"}]}], "complete"),
        ([{"choices": [7, {"delta": {}, "finish_reason": "stop"}]}], "complete"),
        ([{"choices": {"0": {}}}], "open"),
    ],
)  # fmt: skip
def test_the_end(events: list[Any], state: State) -> None:
    """U4: an answer is complete when each choice that was seen has a reason for its end, and not before."""
    assert state == metered(*events).state


@pytest.mark.parametrize(
    ("answer", "facts", "kept"),
    [
        (answered(), {}, True),
        (answered(), {"keeps": False}, False),
        (answered(), {"choices": 2}, False),
        (answered(end="length"), {}, False),
        (answered(end="tool_calls"), {}, False),
        (answered(end="content_filter"), {}, False),
        (answered("See [the paper](https://example.com/a)."), {}, True),
        (answered("![a](https://example.com/a)"), {}, False),
        (answered("https://example.com/a.png"), {}, False),
        (answered("![a](data:image/png;base64,AAAA)"), {"pictures": True}, True),
        (answered("See [it](https://example.com/a)."), {"pictures": True}, False),
        (answered(images=[{"image_url": {"url": "data:image/png;base64,AAAA"}}]), {"pictures": True}, True),
        (answered(images=[{"image_url": {"url": "https://example.com/a"}}]), {}, False),
        (answered(images=[{"b64_json": "AAAA"}]), {}, True),
        (answered([{"type": "image_url", "image_url": {"url": "https://example.com/a"}}]), {}, False),
        ({"choices": [{"message": 7, "finish_reason": "stop"}]}, {}, False),
        ({**answered(), "error": {"message": "no"}}, {}, False),
    ],
)
def test_what_may_be_kept(answer: Any, facts: dict[str, Any], kept: bool) -> None:
    """C5, U20: only what ended by itself, is all that was asked for, and holds its pictures."""
    assert kept == metered(answer, **facts).storable


def test_pictures_are_counted() -> None:
    """A4: pictures beside the text and within it."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert 2 == metered(delta(images=[picture]), delta(images=[picture])).usage.images_out
    assert 1 == metered(delta(content="![a](data:ima"), delta(content="ge/png;base64,AAAA)")).usage.images_out


def test_large_answers_are_not_copied() -> None:
    """D9: 16 MiB of a picture pass a meter without a second 16 MiB, and the usage behind them is found."""
    body = json.dumps({**answered(images=[{"image_url": {"url": "data:image/png;base64,AAAA"}}]), "usage": {"prompt_tokens": 5, "completion_tokens": 9}}).encode()  # fmt: skip
    body = body.replace(b"AAAA", b"A" * (16 * MIB))
    meter = ChatMeter()
    tracemalloc.start()
    try:
        meter.see(Event(b"", body))
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    assert (14, 1, True) == (meter.usage.total, meter.usage.images_out, meter.storable)


def test_the_usage_of_what_is_not_looked_into() -> None:
    """D9, A4: beside more probabilities than anybody looks at, the usage is found, and the answer is not kept."""
    probable = {"content": [{"token": "a", "top_logprobs": [{"token": '"usage": {"prompt_tokens": 1}'}] * 20}] * 2000}
    answer = answered()
    answer["choices"][0]["logprobs"] = probable
    usage = {"prompt_tokens": 5, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 2}}
    meter = metered({**answer, "usage": usage})
    assert (14, "reported", False) == (meter.usage.total, meter.usage.source, meter.storable)
    with pytest.raises(TooManyObjects):
        metered(json.dumps({**answer, "usage": usage}).encode()[:-1])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine fails no test
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
            st.sampled_from(["choices", "delta", "message", "usage", "content", "tool_calls", "images", "index", "error"]),
            inner, max_size=4,
        ), max_leaves=10,
    )
)  # fmt: skip
def test_any_json_object_is_read(answer: Any) -> None:
    """U11: whatever an object holds, it is metered; what is none raises `ValueError`."""
    try:
        meter = metered(answer)
    except ValueError:
        assert not isinstance(answer, dict)
    else:
        assert meter.usage.total >= 0


def embedded(answer: Any) -> EmbeddingsMeter:
    """Show a meter an answer of vectors."""
    meter = EmbeddingsMeter()
    meter.see(Event(b"", answer if isinstance(answer, bytes) else json.dumps(answer).encode()))
    return meter


def test_embeddings() -> None:
    """A4: what was put in counts, nothing comes out; only the total may be there."""
    meter = embedded((RECORDED / "embeddings.json").read_bytes())
    assert Usage(tokens={("input", "text"): 6}, total=6, source="reported") == meter.usage
    assert ("complete", True, "text-embedding-3-small") == (meter.state, meter.storable, meter.served_model)
    assert ("none", "complete") == ((none := embedded({"data": []})).usage.source, none.state)
    failed = embedded({"error": {"message": "no"}, "data": []})
    assert ("failed", False) == (failed.state, failed.storable)
    assert ("open", False) == ((other := embedded({"object": "list"})).state, other.storable)


def test_very_many_vectors() -> None:
    """D9, A4: of 6 MiB of numbers the usage is found, wherever it stands; cut they are no answer."""
    vectors = [{"embedding": [0.125] * 1000, "index": at} for at in range(900)]
    usage = {"prompt_tokens": 6, "total_tokens": 6}
    for answer in ({"data": vectors, "usage": usage}, {"usage": usage, "data": vectors}):
        text = json.dumps(answer).encode()
        assert len(text) > 4 * MIB
        assert (6, True) == ((meter := embedded(text)).usage.total, meter.storable)
        with pytest.raises(ValueError, match="cut"):
            embedded(text[:-1])
