"""What a response cost, whether it is complete, and whether it may be kept."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.call import Event, Kind, Modality, State, Usage
from gateway.dialects.openai.responses_meter import ResponsesMeter
from gateway.framing import AsItCame, TooManyObjects

RECORDED = Path(__file__).parent / "responses"
MIB = 2**20
Tokens = dict[tuple[Kind, Modality], int]
USAGE = {"input_tokens": 10, "output_tokens": 4, "total_tokens": 14}
PICTURE = {"type": "image_generation_call", "result": "iVBORw0KGgoAAAANSUhEUg"}


def metered(*events: Any, name: bytes = b"", **facts: Any) -> ResponsesMeter:
    """Show a meter whole events: JSON, or bytes as they are."""
    meter = ResponsesMeter(**facts)
    for event in events:
        meter.see(Event(name, event if isinstance(event, bytes) else json.dumps(event).encode()))
    return meter


def event(kind: str, *output: Any, **response: Any) -> dict[str, Any]:
    """An event that holds a response."""
    return {"type": kind, "sequence_number": 1, "response": {"output": output, **response}}


def text(words: str) -> dict[str, Any]:
    """What a model says."""
    return {"type": "message", "content": [{"type": "output_text", "text": words}]}


@pytest.mark.parametrize(
    ("name", "tokens", "total", "images", "state", "storable"),
    [
        ("tools", {("input", "text"): 44, ("cached", "text"): 256, ("output", "text"): 30, ("thoughts", "text"): 60},
         390, 0, "complete", True),
        ("incomplete_crlf",
         {("input", "text"): 44, ("cached", "text"): 256, ("output", "text"): 4, ("thoughts", "text"): 60},
         364, 0, "complete", False),
        ("failed_unnamed", {("input", "text"): 12, ("output", "text"): 3}, 15, 0, "complete with error", False),
        ("picture", {("input", "text"): 44, ("cached", "text"): 256, ("output", "text"): 30, ("thoughts", "text"): 60},
         390, 1, "complete", True),
    ],
)  # fmt: skip
def test_recorded_streams(*, name: str, tokens: Tokens, total: int, images: int, state: State, storable: bool) -> None:
    """A4: the usage of a recorded stream is exact, by kind and modality; its last event says how it ended."""
    meter, framing = ResponsesMeter(), AsItCame("text/event-stream", done=False)
    for _, found in [*framing.feed((RECORDED / f"{name}.sse").read_bytes()), *framing.end()]:
        if found is not None:
            meter.see(found)
    assert Usage(tokens=tokens, total=total, images_out=images, source="reported") == meter.usage
    assert (state, storable, "gpt-5-codex") == (meter.state, meter.storable, meter.served_model)


@pytest.mark.parametrize(("name", "storable"), [("response", True), ("compaction", False)])
def test_recorded_answers(name: str, storable: bool) -> None:
    """A4: the same of an answer that came in one piece."""
    meter = metered((RECORDED / f"{name}.json").read_bytes())
    assert (390, "reported", "complete", storable) == (
        meter.usage.total, meter.usage.source, meter.state, meter.storable,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], "open"),
        ([event("response.created")], "open"),
        ([event("response.in_progress", status="completed", usage=USAGE)], "open"),
        ([{"type": "response.output_text.done", "text": "x"}], "open"),
        ([event("response.completed")], "complete"),
        ([event("response.incomplete")], "complete"),
        ([event("response.failed", error={"code": "x"})], "complete with error"),
        ([{"type": "response.completed"}], "complete"),
        ([{"type": "error", "code": "x", "message": "no"}], "complete with error"),
        ([{"type": "error", "error": {"message": "no"}}], "complete with error"),
        ([{"error": {"message": "no"}}], "failed"),
        ([{"error": {"message": ""}}], "open"),
        ([{}], "open"),
        ([{"status": "completed", "output": [], "error": None}], "complete"),
        ([{"status": "failed", "output": [], "error": {"code": "x"}}], "complete with error"),
        ([{"status": "failed", "output": []}], "complete with error"),
        ([{"status": "incomplete", "output": []}], "complete"),
        ([{"type": 7, "response": []}], "open"),
    ],
)  # fmt: skip
def test_the_end(events: list[Any], state: State) -> None:
    """U4, U17: the last event says how a response ended; without it a stream is cut."""
    assert state == metered(*events).state


def test_a_name_stands_in_for_a_type() -> None:
    """U4: a relay that loses the type inside an event still names the event."""
    assert "complete" == metered({"response": {}}, name=b"response.completed").state
    assert "open" == metered({"response": {}}, name=b"response.created").state


@pytest.mark.parametrize(
    ("usage", "tokens", "total"),
    [
        (USAGE, {("input", "text"): 10, ("output", "text"): 4}, 14),
        (
            {"input_tokens": 10, "input_tokens_details": {"cached_tokens": 12}, "output_tokens": 4,
             "output_tokens_details": {"reasoning_tokens": 1}},
            {("cached", "text"): 12, ("output", "text"): 3, ("thoughts", "text"): 1},
            16,
        ),
        # reasoning beside the output
        (
            {"input_tokens": 10, "output_tokens": 4, "output_tokens_details": {"reasoning_tokens": 6}, "total_tokens": 20},
            {("input", "text"): 10, ("output", "text"): 4, ("thoughts", "text"): 6},
            20,
        ),
        # another API's names beside its own
        ({**USAGE, "prompt_tokens": 99, "completion_tokens": 99}, {("input", "text"): 10, ("output", "text"): 4}, 14),
    ],
)  # fmt: skip
def test_usage_of_any_relay(usage: dict[str, Any], tokens: Tokens, total: int) -> None:
    """A4: kinds do not overlap, whatever counts in which; nothing is negative."""
    expected = Usage(tokens=tokens, total=total, source="reported")
    assert expected == metered(event("response.completed", usage=usage)).usage
    assert expected == metered({"status": "completed", "output": [], "usage": usage}).usage


def test_an_estimate_counts_all_that_was_written() -> None:
    """U18: where usage is missing, text, thoughts and what tools are called with are counted, by events or by the end."""
    kinds = ("output_text", "reasoning_summary_text", "reasoning_text", "function_call_arguments", "refusal")
    deltas = [{"type": f"response.{kind}.delta", "delta": "four"} for kind in kinds]
    sound = {"type": "response.audio.delta", "delta": "A" * 400}
    broken = metered(*deltas, sound)
    assert Usage(tokens={("output", "text"): 5}, total=5, source="estimated") == broken.usage
    assert 5 == metered(*deltas, event("response.completed", usage=None)).usage.total
    calls = {"type": "function_call", "arguments": "four"}, {"type": "custom_tool_call", "input": "four"}
    thoughts = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "four"}], "content": None}
    assert 4 == metered({"status": "completed", "output": [text("four"), *calls, thoughts]}).usage.total
    assert "none" == metered({"type": "error", "message": "no"}).usage.source


@pytest.mark.parametrize(
    ("output", "facts", "kept"),
    [
        ([text("Hello.")], {}, True),
        ([text("Hello.")], {"keeps": False}, False),
        ([text("![a](https://example.com/a)")], {}, False),
        ([text("See [it](https://example.com/a).")], {"pictures": True}, False),
        ([PICTURE], {"pictures": True}, True),
        ([{**PICTURE, "result": "https://example.com/a"}], {}, False),
        ([{**PICTURE, "result": None}], {}, False),
        ([], {}, False),
        (["x"], {}, False),
    ],
)
def test_what_may_be_kept(output: list[Any], facts: dict[str, Any], kept: bool) -> None:
    """C5, U20: only what ended by itself, is wholly in the last event, and holds its pictures."""
    assert kept == metered(event("response.completed", *output), **facts).storable
    assert kept == metered({"status": "completed", "output": output}, **facts).storable
    for kind in ("response.incomplete", "response.failed", "response.done"):
        assert not metered(event(kind, *output), **facts).storable
    assert not metered({"status": "incomplete", "output": output}, **facts).storable


def test_large_events_are_not_copied() -> None:
    """D9: a last event with 16 MiB of a picture passes without a second 16 MiB, and the usage behind it is found."""
    body = json.dumps(event("response.completed", {**PICTURE, "result": "AAAA"}, usage=USAGE)).encode()
    body = body.replace(b"AAAA", b"A" * (16 * MIB))
    meter = ResponsesMeter()
    tracemalloc.start()
    try:
        meter.see(Event(b"response.completed", body))
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    assert (14, 1, "complete", True) == (meter.usage.total, meter.usage.images_out, meter.state, meter.storable)


def test_events_that_are_not_looked_into() -> None:
    """D9: one that holds more than anybody looks at still ends its stream and says what it cost; cut it does not."""
    many = text("x")
    many["content"][0]["annotations"] = [{"type": "url_citation", "title": "a" * 20}] * 30_000
    body = json.dumps(event("response.completed", many, usage=USAGE)).encode()
    for meter in (metered(body), metered(body.replace(b'"type": ', b'"kind": ', 1), name=b"response.completed")):
        assert (14, "complete", False) == (meter.usage.total, meter.state, meter.storable)
    assert "open" == metered(body.replace(b"response.completed", b"response.created")).state
    with pytest.raises(TooManyObjects):
        metered(body[:-1])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine fails no test
@given(
    st.recursive(
        st.sampled_from([None, 7, "response.completed", "x", "response.output_text.delta"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
            st.sampled_from(["type", "response", "output", "usage", "content", "item", "delta", "status", "error"]),
            inner, max_size=4,
        ), max_leaves=10,
    )
)  # fmt: skip
def test_any_json_object_is_read(said: Any) -> None:
    """U11: whatever an object holds, it is metered; what is none raises `ValueError`."""
    try:
        meter = metered(said)
    except ValueError:
        assert not isinstance(said, dict)
    else:
        assert meter.usage.total >= 0
