"""Does the sandbox write Anthropic's messages as they are written upstream?"""

import json
import math
from typing import Any

import pytest

from .conftest import KEY, MESSAGES, Caller, Named, named_events_of

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [{"name": "weather", "input_schema": SCHEMA}]


def events_of(caller: Caller, text: str, **body: Any) -> list[Named]:
    """The events of a stream, each with its name, framed with two empty lines."""
    answer = caller.ask(MESSAGES, text, stream=True, **body).text
    assert answer.count("\n\n\n") == answer.count("event: ")
    events = named_events_of(answer.replace("\n\n\n", "\n\n"))
    assert all(event.name == event.data["type"] for event in events)
    return events


def joined(events: list[Named], field: str) -> str:
    """What the deltas of a stream say."""
    return "".join(event.data["delta"].get(field, "") for event in events if event.name == "content_block_delta")


def test_text_and_usage(caller: Caller) -> None:
    """One block of text, why it ended, and usage without a sum."""
    answer = caller.answered(MESSAGES, "12345678", system="1234")
    (block,) = answer["content"]
    assert "“12345678”" in block["text"]
    assert ("message", "assistant", "end_turn", None) == tuple(
        answer[field] for field in ("type", "role", "stop_reason", "stop_sequence")
    )
    assert (3, math.ceil(len(block["text"]) / 4)) == (answer["usage"]["input_tokens"], answer["usage"]["output_tokens"])


def test_a_stream_says_what_the_unary_answer_says(caller: Caller) -> None:
    """Start, ping, one block from start to stop, message_delta with reason and whole usage, message_stop."""
    whole, events = caller.answered(MESSAGES, "same"), events_of(caller, "same")
    names = [event.name for event in events]
    assert ["message_start", "ping", "content_block_start"] == names[:3]
    assert ["content_block_stop", "message_delta", "message_stop"] == names[-3:]
    assert whole["content"][0]["text"] == joined(events, "text")
    assert {"stop_reason": "end_turn", "stop_sequence": None} == events[-2].data["delta"]
    assert whole["usage"] == events[-2].data["usage"]
    assert 1 == events[0].data["message"]["usage"]["output_tokens"]
    assert whole["usage"] == caller.log()[1]["usage"]


def test_thinking_comes_first_and_is_signed(caller: Caller) -> None:
    """Thinking is a block of its own before the text, streamed with a signature, and counted in the output."""
    wish = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    whole, events = caller.answered(MESSAGES, "why", **wish), events_of(caller, "why", **wish)
    thinking, text = whole["content"]
    assert ("thinking", "text") == (thinking["type"], text["type"])
    assert thinking["thinking"] == joined(events, "thinking")
    assert joined(events, "signature")
    thoughts = math.ceil(len(thinking["thinking"]) / 4)
    assert thoughts == whole["usage"]["output_tokens_details"]["thinking_tokens"] < whole["usage"]["output_tokens"]
    assert [0, 1] == [event.data["index"] for event in events if event.name == "content_block_start"]
    assert thoughts == caller.log()[0]["tokens"]["thoughts"]


@pytest.mark.parametrize(
    "choice", [None, {"type": "any"}, {"type": "tool", "name": "weather"}], ids=["asked", "any", "named"]
)
def test_tools_are_used(caller: Caller, choice: Any) -> None:
    """A tool named in the prompt, or forced, is used; the pieces of its input join to JSON."""
    text = "the weather?" if choice is None else "please"
    body = {"tools": TOOLS, **({"tool_choice": choice} if choice else {})}
    whole, events = caller.answered(MESSAGES, text, **body), events_of(caller, text, **body)
    (block,) = whole["content"]
    assert ("tool_use", "tool_use", "weather") == (whole["stop_reason"], block["type"], block["name"])
    assert {"city": text} == block["input"] == json.loads(joined(events, "partial_json"))
    assert "tool_use" == events[-2].data["delta"]["stop_reason"]


def test_a_tools_result_is_answered_by_text(caller: Caller) -> None:
    """The result that comes back is quoted, and no tool is used again."""
    used = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [{"type": "text", "text": "sunny"}]}
    messages = [
        {"role": "user", "content": "the weather?"},
        {"role": "assistant", "content": [used]},
        {"role": "user", "content": [result]},
    ]
    answer = caller.answered(MESSAGES, "", messages=messages, tools=TOOLS)
    assert "“sunny”" in answer["content"][0]["text"]
    assert "end_turn" == answer["stop_reason"]
    assert caller.answered(MESSAGES, "weather", tools=TOOLS, tool_choice={"type": "none"})["content"][0]["text"]


def test_caches_have_their_kinds(caller: Caller) -> None:
    """What is marked is reported as written, by how long it is kept; the rest is input; none is counted twice."""
    system = [
        {"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "text", "text": "y" * 200, "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "sandbox-cached: 0"},
    ]
    usage = caller.answered(MESSAGES, "12345678", system=system)["usage"]
    kinds = {"ephemeral_5m_input_tokens": 50, "ephemeral_1h_input_tokens": 100}
    assert (150, 0, kinds) == tuple(
        usage[field] for field in ("cache_creation_input_tokens", "cache_read_input_tokens", "cache_creation")
    )
    assert math.ceil((8 + len("sandbox-cached: 0")) / 4) == usage["input_tokens"]
    tokens = caller.log()[0]["tokens"]
    assert (50, 100, 150 + usage["input_tokens"]) == tuple(
        tokens[kind] for kind in ("cache_written_5m", "cache_written_1h", "input")
    )


def test_what_comes_from_a_cache_is_beside_the_input(caller: Caller) -> None:
    """`sandbox-cached` moves tokens from the input to those read from a cache."""
    usage = caller.answered(MESSAGES, "sandbox-cached: 4 " + "z" * 42)["usage"]
    assert (4, 11) == (usage["cache_read_input_tokens"], usage["input_tokens"])
    assert 4 == caller.log()[0]["tokens"]["cached"]


@pytest.mark.parametrize(
    ("body", "reason", "word"),
    [({"max_tokens": 5}, "max_tokens", None), ({"stop_sequences": ["sandbox"]}, "stop_sequence", "sandbox")],
)
def test_other_ends(caller: Caller, body: dict[str, Any], reason: str, word: str | None) -> None:
    """A small bound and a stop sequence end the text, and the answer says which."""
    answer = caller.answered(MESSAGES, "long", **body)
    assert (reason, word) == (answer["stop_reason"], answer["stop_sequence"])
    assert "sandbox" not in answer["content"][0]["text"]


def test_tokens_are_counted_as_a_call_counts_them(caller: Caller) -> None:
    """count_tokens says what the call itself would report, with or without `?beta=true`."""
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "look"}, picture]}]
    body = {"model": "claude-opus-4-6", "messages": messages, "tools": TOOLS}
    counted = caller.http.post("/v1/messages/count_tokens?beta=true", json=body).json()
    answer = caller.http.post("/v1/messages?beta=true", json={**body, "max_tokens": 50}).json()
    assert {"input_tokens": answer["usage"]["input_tokens"]} == counted
    assert counted["input_tokens"] > 258


def test_the_key_may_stand_in_x_api_key(caller: Caller) -> None:
    """Without Authorization the key is read where Anthropic's SDK puts it; a wrong one is refused."""
    for key, status in ((KEY, 200), ("no", 401)):
        headers = {"authorization": "", "x-api-key": key}
        response = caller.http.post("/v1/messages", json=MESSAGES.body("hi"), headers=headers)
        assert status == response.status_code
