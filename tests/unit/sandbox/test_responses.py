"""Does the sandbox write OpenAI's responses as they are written upstream?"""

import json
import math
from typing import Any

import pytest

from .conftest import RESPONSES, Caller, Named, named_events_of

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS = [{"type": "web_search"}, {"type": "function", "name": "weather", "parameters": SCHEMA}]


def events_of(caller: Caller, text: str, **body: Any) -> list[Named]:
    """The events of a stream, named and numbered, without `[DONE]`."""
    answer = caller.ask(RESPONSES, text, stream=True, **body).text
    assert "[DONE]" not in answer
    events = named_events_of(answer)
    assert all(event.name == event.data["type"] for event in events)
    assert list(range(len(events))) == [event.data["sequence_number"] for event in events]
    return events


def joined(events: list[Named], name: str) -> str:
    """What the deltas of one kind say."""
    return "".join(event.data["delta"] for event in events if event.name == f"response.{name}.delta")


def text_of(response: dict[str, Any]) -> str:
    """The text of a response."""
    text: str = response["output"][-1]["content"][0]["text"]
    return text


def without_id(response: dict[str, Any]) -> str:
    """A response as JSON, without what differs between two calls."""
    return json.dumps(response).replace(response["id"].removeprefix("resp_"), "")


def test_text_and_usage(caller: Caller) -> None:
    """One message with the prompt in its text, status completed, and usage that adds up."""
    answer = caller.answered(RESPONSES, "12345678", instructions="1234")
    assert "“12345678”" in text_of(answer)
    assert ("response", "completed", None) == (answer["object"], answer["status"], answer["error"])
    usage = answer["usage"]
    assert (3, math.ceil(len(text_of(answer)) / 4)) == (usage["input_tokens"], usage["output_tokens"])
    assert usage["input_tokens"] + usage["output_tokens"] == usage["total_tokens"]


@pytest.mark.parametrize("body", [{}, {"reasoning": {"effort": "low"}}, {"tools": TOOLS}])
def test_the_last_event_is_the_unary_answer(caller: Caller, body: dict[str, Any]) -> None:
    """A stream begins with response.created, and its last event holds all that the unary answer has."""
    whole, events = caller.answered(RESPONSES, "the weather?", **body), events_of(caller, "the weather?", **body)
    assert ["response.created", "response.in_progress"] == [event.name for event in events[:2]]
    assert "response.completed" == events[-1].name
    last = {**events[-1].data["response"], "created_at": whole["created_at"]}
    assert without_id(whole) == without_id(last)
    done = [event.data["item"] for event in events if event.name == "response.output_item.done"]
    assert last["output"] == done
    assert len(done) == sum(event.name == "response.output_item.added" for event in events)
    assert whole["usage"] == caller.log()[1]["usage"]


def test_deltas_join_to_the_items(caller: Caller) -> None:
    """The pieces of text, reasoning and arguments join to what the items hold."""
    events = events_of(caller, "why", reasoning={"effort": "low"})
    reasoning, _ = events[-1].data["response"]["output"]
    assert text_of(events[-1].data["response"]) == joined(events, "output_text")
    assert reasoning["summary"][0]["text"] == joined(events, "reasoning_summary_text")
    usage = events[-1].data["response"]["usage"]
    thoughts = math.ceil(len(reasoning["summary"][0]["text"]) / 4)
    assert thoughts == usage["output_tokens_details"]["reasoning_tokens"] < usage["output_tokens"]
    events = events_of(caller, "the weather?", tools=TOOLS)
    (call,) = events[-1].data["response"]["output"]
    assert ("function_call", "weather") == (call["type"], call["name"])
    assert {"city": "the weather?"} == json.loads(call["arguments"])
    assert call["arguments"] == joined(events, "function_call_arguments")


def test_a_functions_output_is_answered_by_text(caller: Caller) -> None:
    """The output that comes back is quoted, and nothing is called again."""
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "the weather?"}]},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
    ]
    assert "“sunny”" in text_of(caller.answered(RESPONSES, "", input=items, tools=TOOLS))


def test_a_small_bound_leaves_it_incomplete(caller: Caller) -> None:
    """Status and last event say incomplete, and why."""
    answer = caller.answered(RESPONSES, "long", max_output_tokens=5)
    assert ("incomplete", {"reason": "max_output_tokens"}) == (answer["status"], answer["incomplete_details"])
    events = events_of(caller, "long", max_output_tokens=5)
    assert "response.incomplete" == events[-1].name
    assert 5 == events[-1].data["response"]["usage"]["output_tokens"]
    assert caller.log()[1]["whole"]


def test_media_and_json(caller: Caller) -> None:
    """Pictures and files are counted, caches reported, and JSON fits its schema."""
    content = [
        {"type": "input_text", "text": "sandbox-cached: 3"},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        {"type": "input_file", "file_data": "AAAA"},
    ]
    usage = caller.answered(RESPONSES, "", input=[{"role": "user", "content": content}])["usage"]
    assert (5 + 2 * 258, 3) == (usage["input_tokens"], usage["input_tokens_details"]["cached_tokens"])
    wish = {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}
    assert {"city": "q"} == json.loads(text_of(caller.answered(RESPONSES, "q", text=wish)))


def test_compact_is_one_item(caller: Caller) -> None:
    """A compacted conversation is one item that only the vendor reads, and costs what it costs."""
    answer = caller.http.post("/v1/responses/compact", json=RESPONSES.body("long talk")).json()
    assert ("response.compaction", ["compaction"]) == (answer["object"], [item["type"] for item in answer["output"]])
    assert caller.log()[0]["tokens"]["total"] == answer["usage"]["total_tokens"] > 0
