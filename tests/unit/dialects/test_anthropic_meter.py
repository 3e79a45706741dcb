"""What a message cost, whether it is complete, and whether it may be kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.asgi.request import Request
from gateway.call import Event, Framing, Kind, Meter, Modality, State, Usage
from gateway.config.clients import Client
from gateway.dialects.anthropic import ANTHROPIC
from gateway.dialects.anthropic.meter import CountMeter, MessageMeter
from gateway.framing import SSE, AsItCame
from tests.support.calls import understood

RECORDED = Path(__file__).parent / "anthropic"
STREAMS = sorted(RECORDED.glob("*.sse"))
MIB = 2**20
Tokens = dict[tuple[Kind, Modality], int]
Ask = Callable[..., Request]


def framing() -> Framing:
    """What splits a streamed answer."""
    return AsItCame(SSE, done=False)


def read(meter: Meter, *chunks: bytes) -> bytes:
    """Show a meter a stream as the relay does; return what is written of it."""
    found, written = framing(), b""
    for frames in [*map(found.feed, chunks), found.end()]:
        for piece, event in frames:
            if event is not None:
                meter.see(event)
            written += piece
    assert 0 == found.pending
    return written


def recorded(name: str) -> MessageMeter:
    """The meter behind a recorded stream."""
    meter = MessageMeter(keeps=True)
    read(meter, (RECORDED / f"{name}.sse").read_bytes())
    return meter


def metered(*events: Any) -> MessageMeter:
    """Show a meter events: JSON with its type, or bytes as they are."""
    meter = MessageMeter(keeps=True)
    for event in events:
        data = event if isinstance(event, bytes) else json.dumps(event).encode()
        meter.see(Event(b"" if isinstance(event, bytes) else event.get("type", "").encode(), data))
    return meter


def start(**usage: Any) -> dict[str, Any]:
    """How a stream begins."""
    return {
        "type": "message_start",
        "message": {"model": "claude-x", "content": [], "stop_reason": None, "usage": usage},
    }


def text(said: str) -> dict[str, Any]:
    """Some text."""
    return {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": said}}


def end(reason: Any = "end_turn", **usage: Any) -> dict[str, Any]:
    """How a stream ends."""
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


def message(**members: Any) -> dict[str, Any]:
    """A unary answer."""
    block = {"type": "text", "text": "Hi"}
    return {"type": "message", "model": "claude-x", "content": [block], "stop_reason": "end_turn", **members}


@pytest.mark.parametrize(
    ("name", "tokens", "state", "storable", "model"),
    [
        ("text", {("input", "unknown"): 25, ("output", "text"): 15}, "complete", True, "claude-sonnet-4-5-20250929"),
        (
            "tool_use_cached",
            {("input", "unknown"): 2124, ("cached", "unknown"): 18432, ("output", "text"): 67},
            "complete", False, "claude-sonnet-4-5-20250929",
        ),
        (
            "thinking",
            {("input", "unknown"): 51, ("output", "text"): 12, ("thoughts", "text"): 80},
            "complete", True, "claude-sonnet-4-5-20250929",
        ),
        (
            "server_tool", {("input", "unknown"): 10682, ("output", "text"): 510},
            "complete", False, "claude-sonnet-4-5-20250929",
        ),
        (
            "converted", {("input", "unknown"): 12, ("cached", "unknown"): 7, ("output", "text"): 9},
            "complete", False, "claude-haiku-4-5",
        ),
        (
            "without_names", {("input", "unknown"): 25, ("output", "text"): 15},
            "complete", True, "claude-sonnet-4-5-20250929",
        ),
        (
            "unknown_events_crlf", {("input", "unknown"): 25, ("output", "text"): 15},
            "complete", False, "claude-sonnet-4-5-20250929",
        ),
    ],
)  # fmt: skip
def test_recorded_streams(*, name: str, tokens: Tokens, state: State, storable: bool, model: str) -> None:
    """A4, U17: the usage of a recorded stream is exact, by kind, and so is its end."""
    meter = recorded(name)
    assert (tokens, sum(tokens.values()), "reported") == (meter.usage.tokens, meter.usage.total, meter.usage.source)
    assert (state, storable, model) == (meter.state, meter.storable, meter.served_model)
    assert not MessageMeter(keeps=False).storable


@pytest.mark.parametrize("name", ["error_midway", "bare_error"])
def test_streams_that_fail(name: str) -> None:
    """U17: an error with its event, or as bare JSON, fails the stream; what was counted until then stays."""
    meter = recorded(name)
    assert ("failed", False, "estimated") == (meter.state, meter.storable, meter.usage.source)
    assert {("input", "unknown"): 25, ("output", "text"): 1} == meter.usage.tokens


def test_recorded_answers() -> None:
    """A4: the usage of a unary answer is exact; a count of tokens costs none, and is complete with its number."""
    meter = metered((RECORDED / "message.json").read_bytes())
    tokens: Tokens = {
        ("input", "unknown"): 2395, ("cached", "unknown"): 1200, ("output", "text"): 500, ("thoughts", "text"): 3,
    }  # fmt: skip
    assert Usage(tokens=tokens, total=4098, cache_writes_5m=300, source="reported") == meter.usage
    assert ("complete", True) == (meter.state, meter.storable)
    counter = CountMeter(keeps=True)
    assert ("open", False) == (counter.state, counter.storable)
    counter.see(Event(b"", (RECORDED / "count.json").read_bytes()))
    assert (Usage(), "complete", True, "") == (counter.usage, counter.state, counter.storable, counter.served_model)


@pytest.mark.parametrize("file", STREAMS, ids=lambda file: file.stem)
def test_a_stream_passes_as_it_came(file: Path) -> None:
    """U5: events keep their names and bytes, pings and unknown ones too; none is invented, and empty lines are one."""
    whole, newline = file.read_bytes(), b"\r\n" if "crlf" in file.stem else b"\n"
    written = read(MessageMeter(keeps=True), whole)
    if file.stem == "bare_error":
        begun, _, error = whole.partition(b'{"error"')
        assert begun + b'data: {"error"' + error + b"\n" == written
        return
    events = [piece.strip(newline) for piece in whole.split(2 * newline)]
    assert b"".join(piece + 2 * newline for piece in events if piece) == written
    assert whole.count(b"event:") == written.count(b"event:")


def test_every_prefix_of_a_stream_is_open() -> None:
    """U6: a stream is complete with its reason to stop and not before, wherever its upstream breaks off."""
    whole = (RECORDED / "thinking.sse").read_bytes()
    ends = whole.index(b"\n\n", whole.index(b'"stop_reason":"end_turn"')) + 1
    for cut in range(0, ends, 7):
        meter = MessageMeter(keeps=True)
        found = framing()
        for _, event in found.feed(whole[:cut]) if cut else ():
            if event is not None:
                meter.see(event)
        assert ("open", False) == (meter.state, meter.storable)


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([start(), end("tool_use")], "complete"),
        ([start(), end("a_new_reason")], "complete"),
        ([start(), end(None)], "open"),
        ([start(), end(None), {"type": "message_stop"}], "complete"),
        ([start(), {"type": "message_delta"}, {"type": "message_delta", "delta": 5, "usage": []}], "open"),
        ([start(), end(), end(None)], "complete"),
        ([{"type": "message_start", "message": message()}], "open"),
        ([message()], "complete"),
        ([message(stop_reason=None)], "open"),
        ([{"type": "ping"}, {"type": "error"}], "failed"),
        ([{"error": {"message": "no"}}], "failed"),
        ([{"error": "no"}], "failed"),
        ([start(), end(), {"error": {"message": "no"}}], "failed"),
        ([{"error": {"message": "", "code": None}}], "open"),
        ([start(), {"type": "content_block_delta", "error": "x", "delta": None}, end()], "complete"),
    ],
)
def test_when_a_message_is_complete(events: list[Any], state: State) -> None:
    """U6: complete by `message_stop` or a reason to stop, failed by an error; all else leaves it open."""
    assert state == metered(*events).state
    assert state == metered(*(json.dumps(event).encode() for event in events)).state


def test_the_name_of_an_event_counts() -> None:
    """U6: SDKs act by an event's name, so that one decides where it differs from the data's type."""
    for name, kind, state in ((b"noise", "message_stop", "open"), (b"error", "ping", "failed")):
        meter = MessageMeter(keeps=True)
        meter.see(Event(name, json.dumps({"type": kind}).encode()))
        assert state == meter.state


@pytest.mark.parametrize(
    ("events", "tokens", "source"),
    [
        ([start(input_tokens=0, output_tokens=0), end(input_tokens=12, output_tokens=9)], (12, 0, 9), "reported"),
        ([start(input_tokens=12, output_tokens=1), end(output_tokens=9)], (12, 0, 9), "reported"),
        ([start(input_tokens=12, output_tokens=1), end(input_tokens=None, output_tokens=9)], (12, 0, 9), "reported"),
        ([start(input_tokens=12, output_tokens=1), end(input_tokens=0, output_tokens=9)], (12, 0, 9), "reported"),
        ([start(input_tokens=12, cache_read_input_tokens=5), end(output_tokens=9)], (12, 5, 9), "reported"),
        ([start(input_tokens=20, output_tokens=1), end(input_tokens=12, output_tokens=9)], (12, 0, 9), "reported"),
        ([start(input_tokens=12, output_tokens=1), end(output_tokens=4), end(output_tokens=9)], (12, 0, 9), "reported"),
        ([start(input_tokens=12, output_tokens=1), text("x" * 40)], (12, 0, 10), "estimated"),
        ([start(input_tokens=12, output_tokens=1), text("x" * 40), end()], (12, 0, 10), "estimated"),
        ([start(input_tokens=12, output_tokens=1), text("x" * 400), end(output_tokens=0)], (12, 0, 100), "estimated"),
        ([start(input_tokens=12, output_tokens=1), end(output_tokens=0)], (12, 0, 1), "reported"),
        ([start(input_tokens=12, output_tokens=30), text("x" * 40)], (12, 0, 30), "estimated"),
        ([start(input_tokens=12), text("x" * 400), end(output_tokens=9), end(output_tokens=0)], (12, 0, 9), "reported"),
        ([start(), text("x" * 40), end()], (0, 0, 10), "estimated"),
        ([start(), text("x" * 40), end(output_tokens=9)], (0, 0, 9), "estimated"),
        ([start(input_tokens=0, output_tokens=0)], (0, 0, 0), "none"),
        ([start(), end()], (0, 0, 0), "none"),
        ([end(input_tokens="7", output_tokens=3.0)], (7, 0, 3), "reported"),
        ([end(input_tokens=-7, output_tokens=[3])], (0, 0, 0), "none"),
        ([{"type": "message_start", "message": 5}, {"type": "message_delta", "usage": "x"}], (0, 0, 0), "none"),
    ],
)  # fmt: skip
def test_counts_of_a_stream(events: list[Any], tokens: tuple[int, int, int], source: str) -> None:
    """A4: each field's last count that says something; the output of an end that says none is by its text, never 0."""
    usage = metered(*events).usage
    cached = usage.tokens.get(("cached", "unknown"), 0)
    assert (tokens, source) == ((usage.tokens_in - cached, cached, usage.tokens_out), usage.source)
    assert usage.total == sum(usage.tokens.values()) == sum(tokens)


@pytest.mark.parametrize(
    ("counts", "five", "hour"),
    [
        ({}, 0, 0),
        ({"cache_creation_input_tokens": 9}, 9, 0),
        ({"cache_creation_input_tokens": 9, "cache_creation": None}, 9, 0),
        ({"cache_creation_input_tokens": 9, "cache_creation": {"ephemeral_1h_input_tokens": 4}}, 5, 4),
        ({"cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 4}}, 5, 4),
        ({"cache_creation_input_tokens": 3, "cache_creation": {"ephemeral_1h_input_tokens": 4}}, 0, 4),
    ],
)
def test_what_was_written_into_the_providers_cache(counts: dict[str, Any], five: int, hour: int) -> None:
    """A4: writes count as input, and by how long they last; where only their sum is known, for five minutes."""
    usage = metered(message(usage={"input_tokens": 10, "output_tokens": 1, **counts})).usage
    assert (five, hour) == (usage.cache_writes_5m, usage.cache_writes_1h)
    assert {("input", "unknown"): 10 + five + hour, ("output", "text"): 1} == usage.tokens


def test_thoughts_are_part_of_the_output() -> None:
    """A4: and never more than it."""
    for thinking, expected in ((80, 80), (100, 92), (0, 0)):
        details = {"thinking_tokens": thinking}
        usage = metered(message(usage={"input_tokens": 1, "output_tokens": 92, "output_tokens_details": details})).usage
        assert expected == usage.tokens.get(("thoughts", "text"), 0)
        assert (93, 92) == (usage.total, usage.tokens_out)


def test_all_that_is_written_is_estimated() -> None:
    """A4: thoughts and what tools are called with are output like text; a signature is none."""
    deltas: list[dict[str, Any]] = [
        {"type": "thinking_delta", "thinking": "x" * 40},
        {"type": "input_json_delta", "partial_json": "x" * 40},
        {"type": "signature_delta", "signature": "x" * 40},
        {"type": "citations_delta", "citation": {"cited_text": "x" * 40}},
    ]
    assert 20 == metered(*({"type": "content_block_delta", "delta": one} for one in deltas)).usage.tokens_out
    blocks = [{"type": "text", "text": "x" * 40}, {"type": "tool_use", "input": {"a": "x" * 33}}, {"type": "odd"}]
    assert 20 == metered(message(content=blocks)).usage.tokens_out


@pytest.mark.parametrize(
    ("events", "storable"),
    [
        ([message()], True),
        ([message(stop_reason="stop_sequence")], True),
        ([message(stop_reason="max_tokens")], False),
        ([message(stop_reason="refusal")], False),
        ([message(stop_reason="pause_turn")], False),
        ([message(content=[{"type": "thinking", "thinking": "x"}, {"type": "text", "text": "y"}])], True),
        ([message(content=[{"type": "image", "source": {"type": "url", "url": "https://x.example"}}])], False),
        ([message(content=[{"type": "server_tool_use", "name": "web_search"}, {"type": "text", "text": "y"}])], False),
        ([start(), {"type": "content_block_start", "content_block": {"type": "container_upload"}}, end()], False),
        ([start(), {"type": "content_block_start", "content_block": {"type": "text"}}, end()], True),
        ([start(), end(), {"type": "error", "error": {"type": "api_error"}}], False),
        ([start(), text("Here: ![a cat](https://x.exa"), text("mple/cat.png)"), end()], False),
        ([start(), text("As https://x.example/page says."), end()], True),
        ([message(content=[{"type": "text", "text": "x" * 100_000 + "![](https://x.example/1)"}])], False),
        ([start()], False),
    ],
)
def test_what_may_be_kept(events: list[Any], storable: bool) -> None:
    """C2: an answer that ended normally and is all text; none that a server's tool has had a part in."""
    assert storable == metered(*events).storable


@given(data=st.binary(max_size=200) | st.text(alphabet='{}[]",:typerusag01', max_size=60).map(str.encode))
def test_garbage(data: bytes) -> None:
    """U11: what is no JSON object raises `ValueError` and nothing else, for both meters."""
    for meter in (MessageMeter(keeps=True), CountMeter(keeps=True)):
        try:
            meter.see(Event(b"", data))
        except ValueError:
            continue
        assert data.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
        assert ("none", False) == (meter.usage.source, meter.storable)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = ["message", "delta", "usage", "content_block", "content", "stop_reason", "model", "error", "index", "text"]
EVENTS = ["message_start", "content_block_start", "content_block_delta", "message_delta", "message", "x", "error"]


@given(
    events=st.lists(
        st.tuples(st.sampled_from(EVENTS), st.dictionaries(st.sampled_from(MEMBERS), ODD, max_size=5)), max_size=5
    )
)
def test_no_shape_raises(events: list[tuple[str, dict[str, Any]]]) -> None:
    """U11: an event of any shape passes, and no count is ever negative."""
    meter = metered(*({**members, "type": kind} for kind, members in events))
    assert all(count > 0 for count in meter.usage.tokens.values())
    assert meter.usage.total == sum(meter.usage.tokens.values())
    assert meter.state in {"open", "complete", "failed"}


def test_very_large_answers() -> None:
    """U11: one of too many values passes unread and is not kept; one that is cut is none; a long text is counted."""
    crowded = b'{"type":"message","stop_reason":"end_turn","content":[' + b"{}," * 30_000 + b"{}]}"
    for meter in (MessageMeter(keeps=True), CountMeter(keeps=True)):
        meter.see(Event(b"", crowded))
        assert ("open", "none", False) == (meter.state, meter.usage.source, meter.storable)
        with pytest.raises(ValueError, match="too many"):
            meter.see(Event(b"", crowded[:-2]))
    long = metered(message(content=[{"type": "text", "text": "x" * MIB}]))
    assert (MIB // 4, True) == (long.usage.tokens_out, long.storable)
    assert not metered(message(content=[{"type": "text", "text": "x:" * 2 * MIB}])).storable  # more than is searched


def test_errors_of_a_count() -> None:
    """U17: an error instead of a count is one, whatever its status was."""
    for said in (b'{"type":"error","error":{"type":"x","message":"y"}}', b'{"error":{"message":"y"}}'):
        meter = CountMeter(keeps=True)
        meter.see(Event(b"", said))
        assert ("failed", False) == (meter.state, meter.storable)


def test_each_operation_has_its_meter(ask: Ask, client: Client) -> None:
    """A4: what is asked decides which meter reads, and whether the answer may be kept at all."""
    body, plain = b'{"model":"m","tools":[{"type":"web_search_20250305"}]}', b'{"model":"m"}'
    for path, kind in ((b"/v1/messages", MessageMeter), (b"/v1/messages/count_tokens", CountMeter)):
        for keeps, cache, asked in (
            (True, "private", plain),
            (False, "off", plain),
            (False, "private", body),
        ):
            caller = client.model_copy(update={"cache": cache})
            meter = ANTHROPIC.meter(understood(ANTHROPIC, ask(path), asked, caller))
            assert isinstance(meter, kind)
            meter.see(Event(b"", b'{"input_tokens":1,"type":"message","stop_reason":"end_turn"}'))
            assert keeps == meter.storable
