"""OpenAI's SDKs: Python, the generation before it, and Node."""

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


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["openai-python", "openai-python-2", "openai-node"])
async def seen(request: pytest.FixtureRequest, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What one of the SDKs saw."""
    return await drive(gateway, request.param, tmp_path_factory.mktemp("sdk"))


async def test_chat(seen: Seen) -> None:
    """OpenAI's SDKs: chat completions, whole and as a stream, with what was used."""
    check_answers(seen, "text", "stream")
    assert seen["text"]["usage"]["total_tokens"] == seen["stream"]["usage"]["total_tokens"] > 0


async def test_responses(seen: Seen) -> None:
    """OpenAI's SDKs: responses, whole and as a stream that ends as one must."""
    check_answers(seen, "responses", "responses_stream")
    assert "response.completed" == seen["responses_stream"]["last"]
    assert seen["responses"]["usage"] == seen["responses_stream"]["usage"]


async def test_tools_and_pictures(seen: Seen) -> None:
    """OpenAI's SDKs: a tool is called and answered, a picture is read, on both APIs."""
    check_tools(seen, "tools")
    check_tools(seen, "responses_tools")
    check_picture(seen, "picture")
    check_picture(seen, "responses_picture")


async def test_embeddings(seen: Seen) -> None:
    """OpenAI's SDKs: embeddings, which they ask for in base64, become lists of numbers."""
    assert [1536, 1536] == seen["embeddings"]["lengths"]
    assert isinstance(seen["embeddings"]["number"], float)


async def test_models(seen: Seen) -> None:
    """OpenAI's SDKs: the list of models and one of them."""
    assert {"gpt-5.4-mini", "claude-opus-4-6"} <= set(seen["models"]["ids"])
    assert "gpt-5.4-mini" == seen["models"]["one"]


async def test_errors(seen: Seen) -> None:
    """OpenAI's SDKs: each error is of its documented class, with OpenAI's words as its code and type."""
    check_errors(seen, "wrong_key", "not_allowed", "spent", "busy")
    words = {case: (seen[case]["type"], seen[case]["code"]) for case in ("wrong_key", "not_allowed", "spent")}
    assert {
        "wrong_key": ("invalid_request_error", "invalid_api_key"),
        "not_allowed": ("invalid_request_error", "model_not_allowed"),
        "spent": ("insufficient_quota", "insufficient_quota"),
    } == words
    assert ("requests", "rate_limit_exceeded") == (seen["limited"]["error"]["type"], seen["limited"]["error"]["code"])


async def test_tries(seen: Seen) -> None:
    """OpenAI's SDKs: they wait as long as a limit says; a budget that is spent is not asked again."""
    check_waiting(seen)
    assert [(200, None), (429, "BUDGET_SPENT")] == seen.tries("spent")


async def test_request_ids(seen: Seen) -> None:
    """OpenAI's SDKs: answers and errors name the request as the gateway's log does."""
    check_request_ids(seen, "text", "responses", "wrong_key", "not_allowed", "spent", "busy")


async def test_cut_streams(seen: Seen) -> None:
    """OpenAI's SDKs: a stream that breaks off raises, on both APIs, after what had come."""
    check_cut(seen, "cut", "responses_cut")
    for case in ("cut", "responses_cut"):
        assert seen[case]["events"] > 0
        assert "APIError" in seen[case]["error"]["classes"]
        assert "upstream_broke" == seen[case]["error"]["code"]


async def test_nothing_else_is_asked(seen: Seen) -> None:
    """OpenAI's SDKs: with the base URL set they ask nobody but the gateway."""
    assert [] == seen.asked_outside
