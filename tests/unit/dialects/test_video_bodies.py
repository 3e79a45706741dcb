"""What shall a video be, and what does an answer say of a task?"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.asgi.request import Request
from gateway.call import Event, TaskReport
from gateway.config.clients import Client
from gateway.dialects.video_tasks import GENERATIONS, VIDEOS
from gateway.dialects.video_tasks.meter import TaskMeter
from gateway.errors import BadRequest, ModelMissing
from tests.support.calls import understood

HD, FULL_HD = 1280 * 720, 1920 * 1080


@pytest.mark.parametrize(
    ("body", "seconds", "pixels"),
    [
        ({}, None, None),
        ({"seconds": "8", "size": "1280x720"}, 8, HD),
        ({"duration": 10, "resolution": "1080p"}, 10, FULL_HD),
        ({"duration": "5", "resolution": "720P"}, 5, HD),
        ({"metadata": {"duration": 4, "resolution": "4k"}}, 4, 3840 * 2160),
        ({"metadata": '{"duration": 4}'}, 4, None),
        ({"parameters": {"duration": 6, "size": "1280*720"}}, 6, HD),
        ({"duration": -1, "size": "large"}, None, None),
        ({"seconds": None, "duration": [5], "size": {}, "metadata": [], "parameters": "x"}, None, None),
        ({"content": [{"type": "text", "text": "A cat --dur 12 --rs 480p"}]}, 12, 864 * 480),
        ({"seconds": "5", "content": [{"type": "text", "text": "A cat --dur 12"}]}, 5, None),
    ],
)
def test_how_long_and_how_large(
    body: dict[str, Any], seconds: int | None, pixels: int | None, ask: Callable[..., Request], client: Client
) -> None:
    """L3: the length and the size of a video are found in OpenAI's, the relay's and the makers' own bodies."""
    sent = json.dumps({"model": "m", "prompt": "A boat"} | body).encode()
    for dialect, path in ((GENERATIONS, b"/v1/video/generations"), (VIDEOS, b"/v1/videos")):
        demand = understood(dialect, ask(path), sent, client).plan.demand
        assert (1, seconds, pixels) == (demand.videos, demand.seconds, demand.pixels)


def form(**fields: str) -> tuple[str, bytes]:
    """A form and its content type."""
    parts = [
        f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ]
    return "multipart/form-data; boundary=b", "".join([*parts, "--b--\r\n"]).encode()


def test_a_form_says_the_same(ask: Callable[..., Request], client: Client) -> None:
    """L3: so does a form, on the path that takes forms, and it goes up as it came with the boundary that was read."""
    content_type, body = form(model="sora-2", prompt="A boat", seconds="12", size="1280x720")
    call = understood(VIDEOS, ask(b"/v1/videos", content_type=content_type), body, client)
    assert ("sora-2", 12, HD) == (call.model, call.plan.demand.seconds, call.plan.demand.pixels)
    assert ("content-type", content_type) in call.upstream.headers
    content_type, body = form(prompt="A boat")
    with pytest.raises(ModelMissing):
        understood(VIDEOS, ask(b"/v1/videos", content_type=content_type), body, client)


def test_what_crosses(ask: Callable[..., Request], client: Client) -> None:
    """P6: ranges cross for a file that is read, `variant` alone of its query; a key for repeats crosses where it is good."""
    path, headers = b"/v1/videos/t-1/content", {"range": "bytes=0-9", "if_range": '"v"', "openai_beta": "x"}
    call = understood(VIDEOS, ask(path, "GET", b"variant=thumbnail&key=x", **headers), b"", client)
    assert "/v1/videos/t-1/content?variant=thumbnail" == call.upstream.target
    assert {"accept", "range", "if-range"} == {name for name, _ in call.upstream.headers}
    head = understood(VIDEOS, ask(path, "HEAD", **headers), b"", client)
    assert ("GET", {"accept"}) == (head.upstream.method, {name for name, _ in head.upstream.headers})
    sent = understood(VIDEOS, ask(b"/videos", idempotency_key="k-1"), b'{"model":"m"}', client)
    assert ("idempotency-key", "k-1") in sent.upstream.headers
    with pytest.raises(BadRequest):
        understood(VIDEOS, ask(b"/videos", idempotency_key="k" * 256), b'{"model":"m"}', client)


@pytest.mark.parametrize(
    ("said", "report"),
    [
        ({"id": "v", "status": "queued"}, TaskReport(("v",))),
        ({"id": "v", "task_id": "w", "data": {"task_id": "v", "id": 7}}, TaskReport(("v", "w", "7"))),
        ({"output": {"task_id": "o", "task_status": "PENDING"}}, TaskReport(("o",))),
        ({"id": "a/b", "task_id": None, "data": [], "output": "x"}, TaskReport()),
        ({"id": True, "task_id": "x" * 192, "data": {"id": 1.5}}, TaskReport()),
        ({"id": "v", "status": "completed"}, TaskReport(("v",), "succeeded")),
        ({"id": "v", "status": "failed", "error": {"code": "x", "message": "y"}}, TaskReport(("v",), "failed")),
        ({"data": {"status": "NOT_START"}}, TaskReport()),
        ({"data": {"status": "UNKNOWN", "data": {"status": "succeeded"}}}, TaskReport()),
        (
            {"data": {"status": "SUCCESS", "data": {"usage": {"completion_tokens": 8, "total_tokens": 9}}}},
            TaskReport((), "succeeded", 9),
        ),
        ({"data": {"status": "FAILURE"}}, TaskReport((), "failed")),
        ({"data": {"status": "EXPIRED"}}, TaskReport((), "failed")),
        ({"status": "completed", "usage": {"completion_tokens": 8}}, TaskReport((), "succeeded", 8)),
        ({"status": "completed", "usage": {"total_tokens": "many"}}, TaskReport((), "succeeded")),
    ],
)
def test_what_an_answer_says_of_a_task(said: dict[str, Any], report: TaskReport) -> None:
    """A4, K10: every id, the relay's own word for the end, and what it has cost, in each shape."""
    meter = TaskMeter(creates=False)
    meter.see(Event(b"", json.dumps(said).encode()))
    assert (report, "complete") == (meter.report, meter.state)


def test_an_error_instead_of_a_task() -> None:
    """U12: a creation that is answered with an error and without an id has created nothing; a failed task is a task."""
    for said, state in (
        ({"error": {"message": "no"}}, "complete with error"),
        ({"error": None}, "complete"),
        ({"id": "v", "error": {"message": "no"}}, "complete"),
    ):
        meter = TaskMeter(creates=True)
        meter.see(Event(b"", json.dumps(said).encode()))
        assert state == meter.state


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["id", "data", "status", "usage", "output", "task_id", "error"]), inner)
        ),
        max_leaves=20,
    )
)
def test_any_answer_can_be_read(said: Any) -> None:
    """U11: whatever shape an object has, it is read or passed over; what is no object is no answer."""
    meter = TaskMeter(creates=True)
    data = json.dumps(said).encode()
    if isinstance(said, dict):
        meter.see(Event(b"", data))
    else:
        with pytest.raises(ValueError, match=r"."):
            meter.see(Event(b"", data))
