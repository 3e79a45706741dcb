"""Anthropic's SDKs: Python, the generation before it, and Node."""

import pytest
import pytest_asyncio

from tests.sdks.checks import (
    check_answers,
    check_cut,
    check_errors,
    check_picture,
    check_request_ids,
    check_tools,
    check_waiting,
)
from tests.sdks.driving import Seen, drive
from tests.support.gateway import Gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
TYPES = {
    "wrong_key": "authentication_error",
    "not_allowed": "permission_error",
    "spent": "rate_limit_error",
}


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["anthropic-python", "anthropic-python-0", "anthropic-node"]
)
async def seen(request: pytest.FixtureRequest, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What one of the SDKs saw."""
    return await drive(gateway, request.param, tmp_path_factory.mktemp("sdk"))


async def test_messages(seen: Seen) -> None:
    """Anthropic's SDKs: messages, whole and as a stream, with what was used; the key in either header."""
    check_answers(seen, "text", "stream")
    assert "end_turn" == seen["stream"]["last"]
    assert seen["text"]["usage"]["output_tokens"] == seen["stream"]["usage"]["output_tokens"] > 0
    assert "Hello from the sandbox!" in seen["bearer"]["text"]


async def test_tools_and_pictures(seen: Seen) -> None:
    """Anthropic's SDKs: a tool is called and answered, a picture is read."""
    check_tools(seen, "tools")
    check_picture(seen, "picture")


async def test_counting(seen: Seen) -> None:
    """Anthropic's SDKs: tokens are counted without a call of the model."""
    assert seen["count_tokens"]["tokens"] > 0


async def test_models(seen: Seen) -> None:
    """Anthropic's SDKs: the list of models in Anthropic's shape, and one of them."""
    assert "claude-opus-4-6" in seen["models"]["ids"]
    assert "claude-opus-4-6" == seen["models"]["one"]


async def test_errors(seen: Seen) -> None:
    """Anthropic's SDKs: each error is of its documented class, with Anthropic's word as its type."""
    check_errors(seen, "wrong_key", "not_allowed", "spent", "busy")
    assert {case: seen[case]["type"] for case in TYPES} == TYPES
    assert "rate_limit_error" == seen["limited"]["error"]["type"]


async def test_tries(seen: Seen) -> None:
    """Anthropic's SDKs: they wait as long as a limit says; a budget that is spent is not asked again."""
    check_waiting(seen)
    assert [(200, None), (429, "BUDGET_SPENT")] == seen.tries("spent")


async def test_request_ids(seen: Seen) -> None:
    """Anthropic's SDKs: answers and errors name the request as the gateway's log does."""
    check_request_ids(seen, "text", "wrong_key", "not_allowed", "spent", "busy")


async def test_cut_streams(seen: Seen) -> None:
    """Anthropic's SDKs: a stream that breaks off raises, after what had come."""
    check_cut(seen, "cut")
    assert seen["cut"]["events"] > 0
    assert "APIError" in seen["cut"]["error"]["classes"]
    assert "api_error" == seen["cut"]["error"]["type"]


async def test_nothing_else_is_asked(seen: Seen) -> None:
    """Anthropic's SDKs: with the base URL set they ask nobody but the gateway."""
    assert [] == seen.asked_outside
