"""Do streams come in timed events that add up?"""

import json
import time
from itertools import pairwise

import pytest

from .conftest import Caller, events_of, text_of

STREAM = "streamGenerateContent"
SSE = f"{STREAM}?alt=sse"


def test_events_come_one_by_one(caller: Caller) -> None:
    """The first event is here long before the last, about 20 ms lie between two, and none is out of order."""
    arrived = []
    body = {"contents": [{"parts": [{"text": "slowly"}]}]}
    with caller.http.stream("POST", f"/v1beta/models/gemini-2.5-flash:{SSE}", json=body) as response:
        assert "text/event-stream" == response.headers["content-type"]
        arrived += [time.monotonic() for line in response.iter_lines() if line.startswith("data: ")]
    gaps = sorted(after - before for before, after in pairwise(arrived))
    assert len(arrived) >= 5
    assert 0.015 < gaps[len(gaps) // 2] < 0.1


def test_stream_says_what_the_unary_answer_says(caller: Caller) -> None:
    """Joined, the events are the unary answer: its text, and in the last one its whole usage and its end."""
    whole, events = caller.said("same"), events_of(caller.call("same", method=SSE).text)
    assert text_of(whole) == "".join(text_of(event) for event in events)
    assert whole["usageMetadata"] == events[-1]["usageMetadata"]
    assert ["STOP"] == [
        event["candidates"][0]["finishReason"] for event in events if "finishReason" in event["candidates"][0]
    ]
    totals = [event["usageMetadata"]["totalTokenCount"] for event in events]
    assert totals == sorted(totals)
    assert 1 == len({event["responseId"] for event in events})


def test_every_candidate_of_a_stream_ends(caller: Caller) -> None:
    """Candidates of different lengths each end once, and together they cost what the unary answer costs."""
    config = {"candidateCount": 3}
    events = events_of(caller.call("three", method=SSE, generationConfig=config).text)
    ended = [candidate["index"] for event in events for candidate in event["candidates"] if "finishReason" in candidate]
    assert [0, 1, 2] == sorted(ended)
    whole = caller.said("three", generationConfig=config)
    assert whole["usageMetadata"] == events[-1]["usageMetadata"]


def test_without_alt_sse_a_json_array(caller: Caller) -> None:
    """Without alt=sse the stream is one JSON array, like Google's; the vendor's broken sample query is not SSE."""
    for method in (STREAM, f"{STREAM}?alt=sse%2Fgemini-3-1-pro-preview"):
        response = caller.call("same", method=method)
        assert "application/json" == response.headers["content-type"]
        assert text_of(caller.said("same")) == "".join(text_of(event) for event in json.loads(response.text))


@pytest.mark.parametrize("model", ["gemini-2.5-flash-image", "gemini-2.5-flash-preview-tts"])
def test_media_stream_whole(caller: Caller, model: str) -> None:
    """Pictures and speech stream too, several events each, at the cost of the unary answer."""
    events = events_of(caller.call("media", method=SSE, model=model).text)
    assert len(events) >= 2
    assert "STOP" == events[-1]["candidates"][0]["finishReason"]
    assert (
        caller.said("media", model=model)["usageMetadata"]["totalTokenCount"]
        == events[-1]["usageMetadata"]["totalTokenCount"]
    )


def test_markers_shape_a_stream(caller: Caller) -> None:
    """A benchmark gets twenty events of the size and at the pace it names."""
    began = time.monotonic()
    events = events_of(caller.call("sandbox-size: 4000 sandbox-gap: 0", method=SSE).text)
    assert (20, 4000) == (len(events), sum(len(text_of(event)) for event in events))
    assert time.monotonic() - began < 0.3
