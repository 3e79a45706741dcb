"""Do the faults of time and framing do what they say?"""

import json
import time
from typing import Any

import httpx
import pytest

from .conftest import Caller, events_of, text_of

STREAM = "streamGenerateContent"
SSE = f"{STREAM}?alt=sse"


def spoiled(caller: Caller, spec: str, **options: Any) -> httpx.Response:
    """Call with the fault asked for in the prompt, as through a gateway."""
    return caller.call(f"please sandbox-fault: {spec} now", **options)


def received(caller: Caller, spec: str, method: str) -> tuple[bytes, list[float]]:
    """What came before the connection broke or the answer ended, and when each piece came."""
    body = {"contents": [{"parts": [{"text": f"sandbox-fault: {spec}"}]}]}
    data, times = b"", []
    with caller.http.stream("POST", f"/v1beta/models/gemini-2.5-flash:{method}", json=body) as response:
        assert 200 == response.status_code
        try:
            for chunk in response.iter_raw():
                data += chunk
                times.append(time.monotonic())
        except httpx.RemoteProtocolError:
            times.append(-1.0)
    return data, times


@pytest.mark.parametrize("method", ["generateContent", SSE])
def test_slow_waits_before_the_head(caller: Caller, method: str) -> None:
    """U2: not even the head comes before the time is over, and then everything comes."""
    body = {"contents": [{"parts": [{"text": "sandbox-fault: slow=0.2"}]}]}
    began = time.monotonic()
    with caller.http.stream("POST", f"/v1beta/models/gemini-2.5-flash:{method}", json=body) as response:
        assert 0.2 <= time.monotonic() - began < 1
        assert b"STOP" in response.read()


def test_drip_sends_byte_by_byte(caller: Caller) -> None:
    """U2: the answer is whole in the end, in hundreds of pieces over time, so that no silence is ever noticed."""
    began = time.monotonic()
    data, times = received(caller, "drip=0.001", "generateContent")
    assert "STOP" == json.loads(data)["candidates"][0]["finishReason"]
    assert len(times) > len(data) // 4
    assert time.monotonic() - began > 0.001 * len(data)
    assert json.loads(data)["usageMetadata"] == caller.ended()["usage"]


def test_hang_never_answers(caller: Caller) -> None:
    """U1: neither head nor body comes, for as long as the caller waits."""
    body = {"contents": [{"parts": [{"text": "sandbox-fault: hang"}]}]}
    with pytest.raises(httpx.ReadTimeout):
        caller.http.post("/v1beta/models/gemini-2.5-flash:generateContent", json=body, timeout=0.3)
    record = caller.ended()
    assert ("cancelled", 0, 0) == (record["end"], record["status"], record["answer_bytes"])


def test_cut_in_the_middle(caller: Caller) -> None:
    """U3: half of a unary answer or two events of a stream, then the connection breaks: no clean end."""
    data, times = received(caller, "cut", "generateContent")
    assert -1.0 == times[-1]
    assert data.startswith(b'{"candidates"')
    with pytest.raises(json.JSONDecodeError):
        json.loads(data)
    data, times = received(caller, "cut", SSE)
    assert -1.0 == times[-1]
    assert 2 == len(events := events_of(data.decode()))
    assert all("finishReason" not in event["candidates"][0] for event in events)
    data, times = received(caller, "cut", STREAM)
    assert (-1.0, True, False) == (times[-1], data.startswith(b"["), data.endswith(b"]"))
    unary, stream, _ = caller.log()
    assert ("complete", None) == (unary["end"], unary["usage"]), "the fault ran to its end, the caller did not leave"
    assert events[1]["usageMetadata"] == stream["usage"]


def test_cut_before_the_head(caller: Caller) -> None:
    """U3: the connection breaks and nothing was answered."""
    for method in ("generateContent", SSE):
        with pytest.raises(httpx.RemoteProtocolError):
            spoiled(caller, "cutstart", method=method)
    assert [("complete", 0), ("complete", 0)] == [(record["end"], record["status"]) for record in caller.log()]


def test_an_error_inside_a_stream(caller: Caller) -> None:
    """U17: after two good events an error event, then a clean end."""
    events = events_of(spoiled(caller, "streamerror", method=SSE).text)
    assert (3, 503) == (len(events), events[2]["error"]["code"])
    assert events[1]["usageMetadata"] == caller.ended()["usage"]


def test_sse_although_nobody_asked(caller: Caller) -> None:
    """A relay may answer SSE to a caller without alt=sse."""
    response = spoiled(caller, "sse", method=STREAM)
    assert "text/event-stream" == response.headers["content-type"]
    assert len(events_of(response.text)) > 2


def test_other_framings_of_the_same_stream(caller: Caller) -> None:
    """Comments, event names, [DONE], CRLF and a missing last line change the frame and not one event."""
    ping = spoiled(caller, "ping", method=SSE).text
    assert ping.startswith(": PING\n\nevent: message\nid: 0\ndata: {")
    assert ping.endswith("}\n\ndata: [DONE]\n\n")
    crlf = spoiled(caller, "crlf", method=SSE).text
    assert crlf.count("\n") == crlf.count("\r\n") > 4
    cut = spoiled(caller, "nonewline", method=SSE).text
    assert cut.endswith("}\n")
    assert not cut.endswith("\n\n")
    for text, spec in ((ping, "ping"), (crlf, "crlf"), (cut, "nonewline")):
        lines = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: {")]
        said = "".join(text_of(json.loads(line)) for line in lines)
        assert f"please sandbox-fault: {spec} now" in said
        assert said.endswith("always answer like this.")


@pytest.mark.parametrize("spec", ["ping", "crlf", "nonewline", "streamerror", "sse"])
def test_framing_faults_leave_unary_answers_alone(caller: Caller, spec: str) -> None:
    """A fault of streams changes nothing where there is no stream."""
    assert "STOP" == spoiled(caller, spec).json()["candidates"][0]["finishReason"]
