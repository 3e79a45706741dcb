"""Do streams of the text routes break as each fault says?"""

import json
from typing import Any

import httpx
import pytest

from .conftest import CHAT, COMPLETIONS, MESSAGES, RESPONSES, STREAMING, Ask, Caller, Named, named_events_of

on_text_routes = pytest.mark.parametrize("route", STREAMING, ids=[route.path for route in STREAMING])
ENDS = {
    CHAT: '"finish_reason":"stop"',
    COMPLETIONS: '"finish_reason":"stop"',
    RESPONSES: "response.completed",
    MESSAGES: '"stop_reason":"end_turn"',
}
DONE = (CHAT, COMPLETIONS)


def received(caller: Caller, spec: str, route: Ask, **body: Any) -> tuple[str, bool]:
    """What a stream said, and whether it ended cleanly."""
    data = b""
    asked = route.body(f"sandbox-gap: 0.001 sandbox-fault: {spec}", stream=True, **body)
    with caller.http.stream("POST", route.path, json=asked) as response:
        assert (200, "text/event-stream") == (response.status_code, response.headers["content-type"])
        try:
            for chunk in response.iter_raw():
                data += chunk
        except httpx.RemoteProtocolError:
            return data.decode(), False
    return data.decode(), True


def events_of(text: str) -> list[Named]:
    """The events of a stream, however many empty lines lie between them."""
    return named_events_of(text.replace("\n\n\n", "\n\n"))


@on_text_routes
def test_a_stream_without_a_fault(caller: Caller, route: Ask) -> None:
    """The measure of all others: the sign of the end is there, and the log calls it whole."""
    text, clean = received(caller, "slow=0", route)
    assert clean
    assert ENDS[route] in text
    assert (route in DONE) == text.endswith("data: [DONE]\n\n")
    assert caller.ended()["whole"]


@on_text_routes
def test_cut_before_the_sign_of_the_end(caller: Caller, route: Ask) -> None:
    """All of the text is there, nothing that ends it, and the connection breaks."""
    text, clean = received(caller, "cutend", route)
    assert not clean
    assert ENDS[route] not in text
    assert len(events_of(text)) > 4
    assert "[DONE]" not in text
    record = caller.ended()
    assert (False, "complete") == (record["whole"], record["end"])
    text, clean = received(caller, "cut", route)
    assert (2, False) == (len(events_of(text)), clean)


@on_text_routes
def test_cut_and_ended_cleanly_all_the_same(caller: Caller, route: Ask) -> None:
    """Half of the events, then a clean end, by `[DONE]` where there is one: a short success, unless one looks."""
    text, clean = received(caller, "cutdone", route)
    assert clean
    assert ENDS[route] not in text
    assert (route in DONE) == text.endswith("data: [DONE]\n\n")
    assert len(events_of(text)) > 2
    assert not caller.ended()["whole"]


@on_text_routes
def test_the_last_event_is_missing(caller: Caller, route: Ask) -> None:
    """No `[DONE]`, no message_stop, no response.completed; only the last makes the stream less than whole."""
    text, clean = received(caller, "nolast", route)
    assert clean
    assert "[DONE]" not in text
    assert "event: message_stop" not in text
    assert (route != RESPONSES) == (ENDS[route] in text) == caller.ended()["whole"]


@on_text_routes
def test_it_is_never_said_why_it_ended(caller: Caller, route: Ask) -> None:
    """No finish_reason, no stop_reason, no last event of a response; the rest is there, `[DONE]` too."""
    text, clean = received(caller, "nofinish", route)
    assert clean
    assert ENDS[route] not in text
    assert "event: message_stop" not in text
    assert (route in DONE) == text.endswith("data: [DONE]\n\n")
    assert not caller.ended()["whole"]


@on_text_routes
def test_no_usage_anywhere(caller: Caller, route: Ask) -> None:
    """A whole stream in which no usage is reported."""
    text, _ = received(caller, "nousage", route)
    usages = [event.data.get("usage") or event.data.get("response", {}).get("usage") for event in events_of(text)]
    assert {None} == set(usages)
    record = caller.ended()
    assert (True, None) == (record["whole"], record["usage"])
    assert record["tokens"]["output"] > 0


@on_text_routes
def test_an_error_event_in_the_dialects_shape(caller: Caller, route: Ask) -> None:
    """Two good events, then the error as this dialect writes it, then a clean end."""
    text, clean = received(caller, "streamerror", route)
    *good, error = events_of(text)
    assert (2, True) == (len(good), clean)
    if route in DONE:
        assert ("", "overloaded") == (error.name, error.data["error"]["code"])
    elif route == MESSAGES:
        assert ("error", "error", "overloaded_error") == (error.name, error.data["type"], error.data["error"]["type"])
    else:
        assert ("error", "error", 2) == (error.name, error.data["type"], error.data["sequence_number"])
        assert "error" not in error.data
    assert not caller.ended()["whole"]


@on_text_routes
def test_bare_json_in_an_open_stream(caller: Caller, route: Ask) -> None:
    """An error body stands at the end of the stream, in no event."""
    text, clean = received(caller, "bareerror", route)
    assert clean
    assert 2 == len(events_of(text))
    assert "overloaded" in json.loads(text.split("\n")[-1])["error"]["message"]
    assert (route == MESSAGES) == text.split("\n")[-1].startswith('{"type":"error"')


@on_text_routes
def test_comments_before_the_first_event(caller: Caller, route: Ask) -> None:
    """Three comments, and then either the stream or an error in bare JSON, with status 200."""
    text, _ = received(caller, "earlyping", route)
    assert text.startswith(": PING\n\n" * 3)
    assert ENDS[route] in text
    assert (True, True) == ((record := caller.ended())["whole"], bool(record["usage"]))
    caller.http.delete("/sandbox/log")
    text, clean = received(caller, "earlyerror", route)
    assert clean
    assert "error" in json.loads(text.removeprefix(": PING\n\n" * 3))
    assert (False, None) == ((record := caller.ended())["whole"], record["usage"])


@on_text_routes
@pytest.mark.parametrize("spec", ["ping", "oddfields", "crlf", "nonewline"])
def test_other_framings_of_the_same_stream(caller: Caller, route: Ask, spec: str) -> None:
    """Comments, ids, retry times, empty events and line ends change the frame and not one event."""
    text, clean = received(caller, spec, route)
    plain = text.replace("\r\n", "\n")
    assert clean
    assert ENDS[route] in plain
    signs = {
        "ping": ": PING\n\n",
        "oddfields": "id: 0\nretry: 3000\n\nevent: keepalive\n\n",
        "crlf": "event: " if route in {RESPONSES, MESSAGES} else "data: ",
        "nonewline": "",
    }
    assert plain.startswith(signs[spec])
    assert (spec == "crlf") == ("\r\n" in text)
    assert len([line for line in plain.split("\n") if line.startswith("data: {")]) > 4
    assert caller.ended()["whole"]


@pytest.mark.parametrize("route", [MESSAGES, RESPONSES], ids=["messages", "responses"])
def test_events_without_names(caller: Caller, route: Ask) -> None:
    """The data is all there, and no line says which event it is."""
    text, _ = received(caller, "noevents", route)
    assert "event:" not in text
    assert ENDS[route] in text


@pytest.mark.parametrize("route", DONE, ids=["chat", "completions"])
def test_usage_on_every_chunk(caller: Caller, route: Ask) -> None:
    """Usage grows from chunk to chunk, and the last is the true one."""
    text, _ = received(caller, "usageall", route)
    totals = [event.data["usage"]["total_tokens"] for event in events_of(text)]
    assert len(totals) > 4
    assert totals == sorted(totals)
    assert totals[0] < totals[-1] == caller.ended()["tokens"]["total"]
    text, _ = received(caller, "usageall", route, stream_options={"include_usage": False})
    assert all(not event.data.get("usage") for event in events_of(text))


def test_blocks_that_are_numbered_wrongly_or_never_close(caller: Caller) -> None:
    """Indices with holes, and blocks without a stop, as some conversions write them."""
    body = {"thinking": {"type": "enabled"}}
    text, _ = received(caller, "holes", MESSAGES, **body)
    assert [1, 3] == [event.data["index"] for event in events_of(text) if event.name == "content_block_start"]
    text, _ = received(caller, "unclosed", MESSAGES, **body)
    assert "content_block_stop" not in text
    assert "event: message_stop" in text


def test_a_response_that_fails(caller: Caller) -> None:
    """The last event is response.failed with its error and usage, and that is an end."""
    text, clean = received(caller, "failed", RESPONSES)
    last = events_of(text)[-1]
    assert (True, "response.failed", 3) == (clean, last.name, last.data["sequence_number"])
    assert ("failed", "server_error") == (last.data["response"]["status"], last.data["response"]["error"]["code"])
    record = caller.ended()
    assert (True, last.data["response"]["usage"]) == (record["whole"], record["usage"])


@on_text_routes
@pytest.mark.parametrize(("spec", "events"), [("late", False), ("silence", True)])
def test_silence_after_the_head_or_midway(caller: Caller, route: Ask, spec: str, events: bool) -> None:
    """The head is there, with or without half of the events; then nothing, for as long as the caller waits."""
    chunks: list[str] = []
    asked = route.body(f"sandbox-gap: 0 sandbox-fault: {spec}", stream=True)
    with (
        caller.http.stream("POST", route.path, json=asked, timeout=0.5) as response,
        pytest.raises(httpx.ReadTimeout),
    ):
        chunks.extend(response.iter_text())
    assert bool(chunks) is events
    assert ENDS[route] not in "".join(chunks)
    assert ("cancelled", False) == ((record := caller.ended())["end"], record["whole"])
    text, clean = received(caller, f"{spec}=0.01", route)
    assert clean
    assert ENDS[route] in text


@on_text_routes
def test_drip_reports_usage_in_the_end(caller: Caller, route: Ask) -> None:
    """Byte by byte, and still the record has usage and knows that it was whole."""
    text, clean = received(caller, "drip=0", route)
    assert clean
    assert ENDS[route] in text
    record = caller.ended()
    assert (True, True) == (record["whole"], bool(record["usage"]))


@pytest.mark.parametrize("spec", ["cutend", "cutdone", "nolast", "late", "usageall", "holes", "failed", "noevents"])
def test_faults_of_streams_leave_unary_answers_alone(caller: Caller, spec: str) -> None:
    """A fault of streams changes nothing where there is no stream."""
    for route in STREAMING:
        assert (
            ENDS[route].split(":")[-1].strip('"').removeprefix("response.")
            in caller.ask(route, f"sandbox-fault: {spec}").text
        )


@pytest.mark.parametrize("spec", ["usageall", "holes", "unclosed", "failed"])
def test_faults_of_one_dialect_leave_the_others_alone(caller: Caller, spec: str) -> None:
    """A stream of another dialect is whole, and its blocks and choices are numbered as ever."""
    route = {"usageall": MESSAGES, "failed": CHAT}.get(spec, RESPONSES)
    text, clean = received(caller, spec, route)
    assert clean
    assert ENDS[route] in text
    assert caller.ended()["whole"]
