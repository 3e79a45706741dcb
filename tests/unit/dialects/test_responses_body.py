"""What does a request for a response ask for?"""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.asgi.request import Request
from gateway.call import Plan
from gateway.config.clients import Client
from gateway.dialects.openai import RESPONSES
from gateway.errors.tree import BadRequest, ModelMissing
from tests.support.calls import understood

Ask = Callable[..., Request]
PICTURE = "data:image/png;base64," + "A" * 4000


def plan_of(ask: Ask, client: Client, tail: str = "responses", **members: Any) -> Plan:
    """What is planned for a body with these members."""
    body = json.dumps({"model": "m", **members}).encode()
    return understood(RESPONSES, ask(b"/v1/" + tail.encode()), body, client).plan


@pytest.mark.parametrize(
    ("given_input", "images", "others"),
    [
        ("just words", 0, 0),
        ([{"role": "user", "content": "image_url"}], 0, 0),
        ([{"role": "user", "content": [{"type": "input_image", "image_url": PICTURE}]}], 1, 0),
        ([{"type": "input_image", "image_url": PICTURE}], 1, 0),
        ([{"role": "user", "content": [{"type": "input_file", "file_data": PICTURE, "filename": "a.pdf"}]}], 0, 1),
        ([{"role": "user", "content": [{"type": "input_file", "file_url": "https://example.com/a.pdf"}]}], 0, 1),
        ([{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": PICTURE}}]}], 0, 1),
        ([{"type": "function_call_output", "output": [{"type": "input_image", "image_url": PICTURE}]}], 1, 0),
        ([{"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": PICTURE}}], 1, 0),
        ([{"type": "image_generation_call", "result": "A" * 4000}], 1, 0),
        ([{"type": "function_call_output", "output": "A" * 4000}, {"image_url": None}, 7, None, []], 0, 0),
    ],
)
def test_media(ask: Ask, client: Client, given_input: Any, images: int, others: int) -> None:
    """L3: media stand in parts, in items and in what tools answered; they are counted and are no text."""
    demand = plan_of(ask, client, input=given_input).demand
    assert (images, others) == (demand.images, demand.other_media)
    length = len(json.dumps({"model": "m", "input": given_input}))
    assert demand.text_chars <= length - (4000 if images or PICTURE in str(given_input) else 0)


def test_what_the_answer_may_be(ask: Ask, client: Client) -> None:
    """L3: the bound of the output counts, and whether a picture is to be made."""
    demand = plan_of(ask, client, input="x", max_output_tokens=9, n=4).demand
    assert (9, 1, False, True) == (
        demand.max_output_tokens, demand.candidates, demand.image_output, demand.generates,
    )  # fmt: skip
    assert plan_of(ask, client, tools=[{"type": "function"}, {"type": "image_generation"}]).demand.image_output
    assert not plan_of(ask, client, tools=["image_generation", {"type": "function"}]).demand.image_output


@pytest.mark.parametrize(
    ("members", "cacheable"),
    [
        ({"store": False}, True),
        ({"store": False, "previous_response_id": None, "conversation": None, "background": False}, True),
        ({"store": False, "tools": [{"type": "function"}, {"type": "custom"}]}, True),
        ({}, False),
        ({"store": None}, False),
        ({"store": True}, False),
        ({"store": False, "previous_response_id": "resp_1"}, False),
        ({"store": False, "conversation": {"id": "conv_1"}}, False),
        ({"store": False, "stream": True, "background": True}, False),
        ({"store": False, "tools": [{"type": "web_search"}]}, False),
        ({"store": False, "tools": [{"type": "function"}, {"type": "mcp"}]}, False),
        ({"store": False, "tools": [7]}, False),
        ({"store": False, "tools": [{"type": "function", "description": "x" * 2**20}]}, False),
    ],
)
def test_what_may_be_kept(ask: Ask, client: Client, members: dict[str, Any], cacheable: bool) -> None:
    """C5: only what follows from the body alone; what is stored upstream could be changed or found there."""
    assert cacheable == plan_of(ask, client, **members).cacheable


def test_what_could_never_be_fetched(ask: Ask, client: Client) -> None:
    """A response in the background is refused unless its events are read at once."""
    with pytest.raises(BadRequest, match="background"):
        plan_of(ask, client, background=True)
    with pytest.raises(BadRequest, match="background"):
        plan_of(ask, client, "responses/compact", background=True, stream=True)
    assert plan_of(ask, client, background=True, stream=True).stream
    assert not plan_of(ask, client, background="true").stream


def test_a_compaction_is_optional_and_not_streamed(ask: Ask, client: Client) -> None:
    """What the upstream may not have is asked for as it is, and comes in one piece."""
    body = b'{"model":"m","input":"x","stream":true}'
    call = understood(RESPONSES, ask(b"/v1/responses/compact"), body, client)
    assert ("/v1/responses/compact", False) == (call.upstream.target, call.stream)
    assert (True, False) == (call.operation.optional, call.operation.cacheable)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine fails no test
@given(body=st.binary(max_size=80) | st.text(alphabet='{}[]",:model1\\', max_size=60).map(str.encode))
def test_nothing_else_is_raised(ask: Ask, client: Client, body: bytes) -> None:
    """P1, D9: any bytes are refused in two ways, or understood."""
    try:
        call = understood(RESPONSES, ask(b"/v1/responses"), body, client)
    except (BadRequest, ModelMissing):
        return
    assert json.loads(body)["model"] == call.model
