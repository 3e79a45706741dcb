"""Which paths are Anthropic's, and what of a request's head crosses?"""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.asgi.request import Request
from gateway.config.clients import Client
from gateway.dialects import Router
from gateway.dialects.anthropic import ANTHROPIC
from gateway.errors.tree import MethodNotAllowed
from tests.support.calls import understood

Ask = Callable[..., Request]
BODY = b'{"model":"claude-sonnet-4-5"}'
TARGETS = {"messages": "/v1/messages", "countMessageTokens": "/v1/messages/count_tokens"}


@pytest.mark.parametrize(
    "base", [b"", b"/", b"/v1", b"/v1/", b"/v1/v1", b"/anthropic", b"/anthropic/v1", b"/api/v1", b"/v1beta", b"//v1//"]
)
@pytest.mark.parametrize("end", [b"", b"/", b"//"])
def test_base_url_mistakes(ask: Ask, client: Client, base: bytes, end: bytes) -> None:
    """P1: whatever people configure as base URL reaches the same operation, and the upstream's path is always the same."""
    for tail, method in ((b"/messages", "messages"), (b"/messages/count_tokens", "countMessageTokens")):
        for path in (base + tail + end, base + b"/v1" + tail + end):
            call = understood(ANTHROPIC, ask(path), BODY, client)
            assert (method, TARGETS[method]) == (call.operation.name, call.upstream.target)


@pytest.mark.parametrize(
    "path",
    [
        b"", b"/", b"messages", b"/v1/message", b"/v1/Messages", b"/v2/messages", b"/x/v1/messages", b"/v1messages",
        b"/v1/messages/batches", b"/v1/messages/batches/msgbatch_1", b"/v1/messages/x", b"/v1/messages/v1/messages",
        b"/v1/messages/count_tokens/x", b"/v1/count_tokens", b"/v1/messages/../models", b"/v1/messages/.",
        b"/v1/%6dessages", b"/v1%2fmessages", b"/v1/messages%2f", b"/v1/messages%20", b"/v1/messages?x", b"/v1/messages\n",
        b"http://evil/v1/messages", b"/v1/complete", b"/v1/models", b"/v1/chat/completions",
    ],
)  # fmt: skip
def test_other_paths_are_not_ours(ask: Ask, path: bytes) -> None:
    """P1: whatever the pattern does not match in full is not Anthropic's, with any method."""
    assert [None, None] == [ANTHROPIC.route(ask(path, http_method)) for http_method in ("GET", "POST")]


@given(
    path=st.binary(max_size=60)
    | st.lists(st.sampled_from([b"/", b"v1", b"messages", b"count_tokens", b"anthropic", b"%", b"."]), max_size=9).map(
        b"".join
    )
)
def test_only_two_targets(ask: Ask, client: Client, path: bytes) -> None:
    """P1: whatever the path, the upstream's is one of two."""
    if ANTHROPIC.route(ask(path)) is not None:
        assert understood(ANTHROPIC, ask(path), BODY, client).upstream.target in TARGETS.values()


@pytest.mark.parametrize("http_method", ["GET", "HEAD", "PUT", "DELETE", ""])
@pytest.mark.parametrize("path", [b"/v1/messages", b"/v1/messages/count_tokens"])
def test_wrong_method(ask: Ask, path: bytes, http_method: str) -> None:
    """P11: a known path with another method is a 405 that names the right one."""
    with pytest.raises(MethodNotAllowed) as refusal:
        Router([ANTHROPIC]).find(ask(path, http_method))
    assert "POST" == refusal.value.allow


@pytest.mark.parametrize(
    ("query", "crossing"),
    [
        (b"beta=true", "?beta=true"),
        (b"key=K&beta=true&x=1", "?beta=true"),
        (b"", ""),
        (b"beta=false", ""),
        (b"beta=true2", ""),
        (b"beta", ""),
        (b"Beta=true", ""),
        (b"x=beta%3Dtrue&key=K", ""),
    ],
)
def test_of_the_query_one_thing_crosses(ask: Ask, client: Client, query: bytes, crossing: str) -> None:
    """P7: `beta=true` crosses, and nothing else of a query."""
    for method, target in TARGETS.items():
        call = understood(ANTHROPIC, ask(target.encode(), query=query), BODY, client)
        assert (method, target + crossing) == (call.operation.name, call.upstream.target)


def test_headers_of_both_operations(ask: Ask) -> None:
    """P7: an open list of Anthropic's headers crosses, without those that name an account or speak to a browser."""
    for tail in TARGETS.values():
        operation = Router([ANTHROPIC]).find(ask(tail.encode())).operation
        assert {b"anthropic-*", b"idempotency-key"} == operation.upstream_headers
        assert {b"anthropic-workspace-id", b"anthropic-dangerous-direct-browser-access"} == operation.private_headers


@pytest.mark.parametrize("path", [b"/v1" * 5000 + b"x", b"/" * 16_000 + b"x", b"/v1/messages" + b"/" * 16_000 + b"x"])
def test_no_path_is_slow(ask: Ask, path: bytes) -> None:
    """D11: a path of 16 KiB is read once, whatever it repeats."""
    assert ANTHROPIC.route(ask(path)) is None
