"""Does the sandbox write chat completions and completions as new-api does?"""

import base64
import json
import math
from typing import Any

import pytest

from .conftest import CHAT, COMPLETIONS, Caller, named_events_of

WEATHER = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
TOOLS = [{"type": "function", "function": WEATHER}]


def chunks_of(caller: Caller, text: str, **body: Any) -> list[dict[str, Any]]:
    """The chunks of a chat stream that ends by `[DONE]`."""
    answer = caller.ask(CHAT, text, stream=True, **body).text
    assert answer.endswith("data: [DONE]\n\n")
    return [event.data for event in named_events_of(answer)]


def joined(chunks: list[dict[str, Any]], field: str, index: int = 0) -> str:
    """What the deltas of one choice say."""
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get(field) or "" for choice in choices)


def test_text_quotes_the_prompt_and_is_counted(caller: Caller) -> None:
    """A chat answer has the prompt in it, one choice that stopped, and usage that adds up."""
    answer = caller.answered(CHAT, "12345678")
    (choice,) = answer["choices"]
    assert "“12345678”" in choice["message"]["content"]
    assert ("chat.completion", "gpt-5", "stop") == (answer["object"], answer["model"], choice["finish_reason"])
    usage = answer["usage"]
    assert (2, math.ceil(len(choice["message"]["content"]) / 4)) == (usage["prompt_tokens"], usage["completion_tokens"])
    assert usage["prompt_tokens"] + usage["completion_tokens"] == usage["total_tokens"]


def test_a_stream_says_what_the_unary_answer_says(caller: Caller) -> None:
    """Role, deltas, one chunk with the reason, one with usage and no choices, `[DONE]`: nothing else."""
    whole, chunks = caller.answered(CHAT, "same"), chunks_of(caller, "same")
    assert "assistant" == chunks[0]["choices"][0]["delta"]["role"]
    assert whole["choices"][0]["message"]["content"] == joined(chunks, "content")
    reasons = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"]]
    assert "stop" == reasons[-1]
    assert {None} == set(reasons[:-1])
    assert ([], whole["usage"]) == (chunks[-1]["choices"], chunks[-1]["usage"])
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert 1 == len({chunk["id"] for chunk in chunks})


def test_usage_goes_away_only_on_request(caller: Caller) -> None:
    """`include_usage: false` takes the usage chunk away; nothing said, and true, leave it."""
    assert "usage" not in json.dumps(chunks_of(caller, "x", stream_options={"include_usage": False})[-1]["choices"])
    assert chunks_of(caller, "x", stream_options={"include_usage": False})[-1]["choices"]
    assert [] == chunks_of(caller, "x", stream_options={"include_usage": True})[-1]["choices"]


@pytest.mark.parametrize("bounds", [{"max_tokens": 5}, {"max_completion_tokens": 5, "max_tokens": 9}])
def test_a_small_bound_cuts_the_text(caller: Caller, bounds: dict[str, int]) -> None:
    """The smaller bound counts, and the reason is `length`."""
    answer = caller.answered(CHAT, "long", **bounds)
    assert ("length", 5) == (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"])
    assert "Hello from the sandb" == answer["choices"][0]["message"]["content"]


def test_each_of_n_choices_ends(caller: Caller) -> None:
    """Three choices have three texts and three ends, in a stream too, and all are paid."""
    whole, chunks = caller.answered(CHAT, "three", n=3), chunks_of(caller, "three", n=3)
    said = [choice["message"]["content"] for choice in whole["choices"]]
    assert 3 == len(set(said))
    assert said == [joined(chunks, "content", index) for index in range(3)]
    ends = [choice["index"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    assert [0, 1, 2] == ends
    assert sum(math.ceil(len(text) / 4) for text in said) == chunks[-1]["usage"]["completion_tokens"]
    assert 400 == caller.ask(CHAT, "none", n=0).status_code


def test_stop_words_end_the_text(caller: Caller) -> None:
    """The text ends before a stop word, and the word is not in it."""
    choice = caller.answered(CHAT, "x", stop=["sandbox", "nowhere"])["choices"][0]
    assert ("Hello from the ", "stop") == (choice["message"]["content"], choice["finish_reason"])


@pytest.mark.parametrize(
    "wish", [{"reasoning_effort": "low"}, {"reasoning": {"effort": "high"}}, {"model": "o3-mini"}, {"model": "o3"}]
)
def test_reasoning_is_shown_and_counted(caller: Caller, wish: dict[str, Any]) -> None:
    """Reasoning comes before the text, in a field of its own, and counts as reasoning inside the completion."""
    whole, chunks = caller.answered(CHAT, "why", **wish), chunks_of(caller, "why", **wish)
    message, usage = whole["choices"][0]["message"], whole["usage"]
    assert "“why”" in message["reasoning_content"]
    assert message["reasoning_content"] == joined(chunks, "reasoning_content")
    thoughts = usage["completion_tokens_details"]["reasoning_tokens"]
    assert math.ceil(len(message["reasoning_content"]) / 4) == thoughts
    assert thoughts < usage["completion_tokens"]
    assert "reasoning_content" not in caller.answered(CHAT, "why", reasoning_effort="none")["choices"][0]["message"]


def test_media_are_counted(caller: Caller) -> None:
    """Pictures and sounds have their own fields in the usage; `sandbox-cached` says what came from a cache."""
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    parts = [{"type": "text", "text": "sandbox-cached: 7"}, picture, picture, sound]
    answer = caller.answered(CHAT, "", messages=[{"role": "user", "content": parts}])
    assert "2 pictures" in answer["choices"][0]["message"]["content"]
    details = answer["usage"]["prompt_tokens_details"]
    assert (7, 516, 258) == (details["cached_tokens"], details["image_tokens"], details["audio_tokens"])
    assert 5 + 516 + 258 == answer["usage"]["prompt_tokens"]
    assert {"input": 772, "cached": 7} == {kind: caller.log()[0]["tokens"][kind] for kind in ("input", "cached")}


@pytest.mark.parametrize(
    "choice", [None, "required", {"type": "function", "function": {"name": "weather"}}], ids=["asked", "any", "named"]
)
def test_tools_are_called(caller: Caller, choice: Any) -> None:
    """A tool named in the prompt, or forced, is called with arguments that fit; the pieces of a stream join to them."""
    text = "the weather?" if choice is None else "please"
    whole = caller.answered(CHAT, text, tools=TOOLS, tool_choice=choice)["choices"][0]
    chunks = chunks_of(caller, text, tools=TOOLS, tool_choice=choice)
    (call,) = whole["message"]["tool_calls"]
    assert ("tool_calls", None) == (whole["finish_reason"], whole["message"]["content"])
    assert ("weather", {"city": text}) == (call["function"]["name"], json.loads(call["function"]["arguments"]))
    calls = [call for chunk in chunks for each in chunk["choices"] for call in each["delta"].get("tool_calls", ())]
    assert "weather" == calls[0]["function"]["name"]
    assert {"city": text} == json.loads("".join(call["function"]["arguments"] for call in calls))
    assert "tool_calls" == chunks[-2]["choices"][0]["finish_reason"]


def test_no_tool_is_called_where_none_is_wanted(caller: Caller) -> None:
    """Other words, `tool_choice: none` and a tool's result get text, which quotes the result."""
    assert caller.answered(CHAT, "hello", tools=TOOLS)["choices"][0]["message"]["content"]
    assert caller.answered(CHAT, "weather", tools=TOOLS, tool_choice="none")["choices"][0]["message"]["content"]
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "the weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    choice = caller.answered(CHAT, "", messages=messages, tools=TOOLS)["choices"][0]
    assert "“sunny”" in choice["message"]["content"]
    assert "stop" == choice["finish_reason"]


def test_json_is_answered_where_json_is_asked_for(caller: Caller) -> None:
    """An answer in JSON fits its schema: all kinds of values, nested ones too."""
    inner = {"type": "object", "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}}}
    schema = {"type": "object", "properties": {"list": {"type": "array", "items": inner}, "pick": {"enum": ["a", "b"]}}}
    wish = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    said = caller.answered(CHAT, "q", response_format=wish)["choices"][0]["message"]["content"]
    assert {"list": [{"n": 1, "ok": True}], "pick": "a"} == json.loads(said)
    said = caller.answered(CHAT, "q", response_format={"type": "json_object"})["choices"][0]["message"]["content"]
    assert {"answer": "q"} == json.loads(said)


def test_speech_is_heard_and_counted(caller: Caller) -> None:
    """With `audio` in the modalities the answer is sound and transcript; a stream joins to both; both are paid."""
    wish = {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "pcm16"}, "max_tokens": 5}
    whole, chunks = caller.answered(CHAT, "hi", **wish), chunks_of(caller, "hi sandbox-gap: 0", **wish)
    message, usage = whole["choices"][0]["message"], whole["usage"]
    assert (None, "Hello from the sandb") == (message["content"], message["audio"]["transcript"])
    heard = [chunk["choices"][0]["delta"].get("audio", {}) for chunk in chunks if chunk["choices"]]
    assert message["audio"]["transcript"] == "".join(each.get("transcript", "") for each in heard)
    sound = base64.b64decode(message["audio"]["data"], validate=True)
    assert sound == b"".join(base64.b64decode(each.get("data", "")) for each in heard)
    spoken = usage["completion_tokens_details"]["audio_tokens"]
    assert (math.ceil(len(sound) / 2 / 960), 5 + spoken) == (spoken, usage["completion_tokens"])


def test_size_marker_beats_the_bound(caller: Caller) -> None:
    """A benchmark gets a text of exactly the size it names."""
    answer = caller.answered(CHAT, "sandbox-size: 5000", max_tokens=1)
    assert 5000 == len(answer["choices"][0]["message"]["content"])


def test_completions_have_text(caller: Caller) -> None:
    """Completions end at 16 tokens when nothing else is said; a stream says the same in pieces."""
    whole = caller.answered(COMPLETIONS, "Once", max_tokens=None)
    assert ("text_completion", "length") == (whole["object"], whole["choices"][0]["finish_reason"])
    assert 16 == whole["usage"]["completion_tokens"]
    answer = caller.ask(COMPLETIONS, "Once", max_tokens=None, stream=True).text
    chunks = [event.data for event in named_events_of(answer)]
    assert whole["choices"][0]["text"] == "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])
    assert "length" == chunks[-2]["choices"][0]["finish_reason"]
    assert whole["usage"] == chunks[-1]["usage"]
    assert answer.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize(("prompt", "tokens"), [(["abcd", "efgh"], 2), ([1, 2, 3], 3), ([[1, 2], [3]], 3)])
def test_prompts_of_completions_are_counted(caller: Caller, prompt: Any, tokens: int) -> None:
    """A prompt may be texts or tokens, in one list or several."""
    assert tokens == caller.answered(COMPLETIONS, "", prompt=prompt)["usage"]["prompt_tokens"]
