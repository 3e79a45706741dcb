"""Which paths are OpenAI's, and what is said about those that are nearly so?"""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.asgi.request import Request
from gateway.config.clients import Client
from gateway.dialects import ALL, Router
from gateway.dialects.openai import CHAT, RESPONSES
from gateway.errors.tree import BadRequest, MethodNotAllowed, RouteUnknown
from tests.support.calls import understood

Ask = Callable[..., Request]
TAILS = {
    b"chat/completions": "chatCompletions",
    b"completions": "completions",
    b"embeddings": "embeddings",
    b"responses": "responses",
    b"responses/compact": "responsesCompact",
}
# What stands before the tail when SDKs append it to the base URLs that people configure.
PREFIXES = [
    b"/v1/", b"/", b"/v1//", b"//", b"//v1/", b"/v1/v1/", b"/v1beta/openai/", b"/openai/v1/", b"/anthropic/",
    b"/api/v1/", b"/api/openai/v1//v1/", b"/v1beta/",
]  # fmt: skip
BODY = b'{"model":"gpt-5-mini"}'


def found(ask: Ask, path: bytes, http_method: str = "POST", **headers: str) -> str:
    """The upstream's path for one that is tried."""
    return Router(ALL).find(ask(path, http_method, **headers)).target


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("end", [b"", b"/", b"//"])
def test_base_urls_that_people_configure(ask: Ask, client: Client, prefix: bytes, tail: bytes, end: bytes) -> None:
    """Whatever stands around the tail, the operation is the same, and so is the path that goes upstream."""
    dialect = RESPONSES if tail.startswith(b"responses") else CHAT
    call = understood(dialect, ask(prefix + tail + end), BODY, client)
    assert (TAILS[tail], "gpt-5-mini") == (call.operation.name, call.model)
    assert ("POST", f"/v1/{tail.decode()}") == (call.upstream.method, call.upstream.target)


@pytest.mark.parametrize(
    "path",
    [
        b"v1/completions", b"/v2/completions", b"/v1/Completions", b"/V1/completions", b"/v1/%63ompletions",
        b"/v1/chat%2fcompletions", b"/v1/chat//completions", b"/v1/chat/completions/x", b"/v1/chat/completions\n",
        b"/v1/./completions", b"/v1/../completions", b"/v1/completions;x", b"/v1/chat", b"/v1/embeddings/x",
        b"/v1/responses/resp_1", b"/v1/responses/resp_1/cancel", b"/v1/responses/resp_1/input_items",
        b"/v1/responses/input_tokens", b"/v1/conversations", b"/v1/files", b"/v1/fine_tuning/jobs", b"/v1/batches",
        b"/v1/assistants", b"/v1/threads", b"/v1/vector_stores", b"/v1/uploads", b"/v1/realtime", b"/v1/moderations",
        b"/v1/rerank", b"/v1/edits", b"/v1/engines/x/completions", b"/v1/images/variations",
    ],
)  # fmt: skip
def test_paths_that_are_no_route(ask: Ask, path: bytes) -> None:
    """P1: what is not offered is a 404, also where only the spelling differs."""
    with pytest.raises(RouteUnknown):
        found(ask, path)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("http_method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_other_methods(ask: Ask, tail: bytes, http_method: str) -> None:
    """P11: another method on a path that is offered is a 405 that names the right one."""
    with pytest.raises(MethodNotAllowed) as refused:
        found(ask, b"/v1/" + tail, http_method)
    assert "POST" == refused.value.allow


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        (b"/v1/chat/completions/chat/completions", "names a route already"),
        (b"/v1/chat/completions/models", "names a route already"),
        (b"/v1/responses/responses", "names a route already"),
        (b"/v1/messages/v1/messages", "names a route already"),
        (b"/openai/deployments/gpt-5/chat/completions", "Azure"),
        (b"/v1/openai/deployments/gpt-5/embeddings", "Azure"),
    ],
)
def test_usual_mistakes_are_named(ask: Ask, path: bytes, hint: str) -> None:
    """A 404 that comes of a usual mistake says how the base URL must end."""
    with pytest.raises(RouteUnknown) as refused:
        found(ask, path)
    assert hint in refused.value.message
    assert "/v1" in refused.value.message


@pytest.mark.parametrize("path", [b"/v1/responses/resp_1", b"/v1/nothing", b"/openai/files", b"/", b"/v1/models/x/y"])
def test_other_wrong_paths_are_not_explained(ask: Ask, path: bytes) -> None:
    """Nobody is told of a mistake that was not made."""
    with pytest.raises(RouteUnknown) as refused:
        found(ask, path)
    assert RouteUnknown().message == refused.value.message


@given(path=st.lists(st.sampled_from([b"/", b"v1", b"openai", b"chat", b"completions", b"x"]), max_size=12))
def test_what_goes_upstream_is_made_of_constants(ask: Ask, path: list[bytes]) -> None:
    """P1: no byte of a caller's path reaches the upstream."""
    try:
        target = found(ask, b"".join(path))
    except (RouteUnknown, MethodNotAllowed):
        return
    assert target in {f"/v1/{tail.decode()}" for tail in TAILS} or target.startswith("/v1beta/models")


@pytest.mark.parametrize("name", ["idempotency_key", "openai_beta"])
def test_headers_that_cross(ask: Ask, client: Client, name: str) -> None:
    """P4: OpenAI's own headers cross as they came; what HTTP could not carry on is refused, and others stay here."""
    wire_name = name.replace("_", "-")
    call = understood(CHAT, ask(b"/v1/embeddings", **{name: "a b~1", "openai_organization": "org"}), BODY, client)
    assert (wire_name, "a b~1") in call.upstream.headers
    assert {"accept", "content-type", wire_name} == {header for header, _ in call.upstream.headers}
    for bad in ("\xe9", "x" * 256, "a\tb"):
        with pytest.raises(BadRequest, match=wire_name):
            understood(CHAT, ask(b"/v1/embeddings", **{name: bad}), BODY, client)
