"""LangChain's models and LiteLLM's SDK: what stands between an application and an SDK."""

import pytest
import pytest_asyncio

from tests.sdks.checks import check_answers, check_cut, check_picture, check_tools
from tests.sdks.driving import Seen, drive
from tests.support.gateway import Gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def langchain(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What LangChain saw."""
    return await drive(gateway, "langchain", tmp_path_factory.mktemp("sdk"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def litellm(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What LiteLLM saw."""
    return await drive(gateway, "litellm", tmp_path_factory.mktemp("sdk"))


@pytest.mark.parametrize("api", ["openai", "claude"])
async def test_langchain(langchain: Seen, api: str) -> None:
    """LangChain: text, streams, tools and pictures on both APIs, and a stream that breaks off raises."""
    check_answers(langchain, f"{api}_text", f"{api}_stream")
    check_tools(langchain, f"{api}_tools")
    check_picture(langchain, f"{api}_picture")
    check_cut(langchain, f"{api}_cut")
    assert langchain[f"{api}_text"]["usage"]["total_tokens"] > 0


async def test_langchain_with_openai(langchain: Seen) -> None:
    """LangChain: responses and embeddings; the usage of a stream where it is asked for."""
    assert langchain["openai_text"]["text"] == langchain["openai_responses"]["text"]
    assert [1536, 1536] == langchain["openai_embeddings"]["lengths"]
    assert langchain["openai_text"]["usage"] == langchain["openai_stream_usage"]["usage"]


async def test_errors_of_langchain(langchain: Seen) -> None:
    """LangChain: errors are the SDKs' own; a budget that is spent is not asked again."""
    wrong, narrow = langchain["claude_wrong_key"], langchain["claude_not_allowed"]
    assert (401, "authentication_error") == (wrong["status_code"], wrong["type"])
    assert (403, "permission_error") == (narrow["status_code"], narrow["type"])
    assert "AuthenticationError" in langchain["openai_wrong_key"]["classes"]
    assert "InternalServerError" in langchain["openai_busy"]["classes"]
    assert "insufficient_quota" == langchain["openai_spent"]["code"]
    assert [(200, None), (429, "BUDGET_SPENT")] == langchain.tries("spent")


@pytest.mark.parametrize("api", ["openai", "claude"])
async def test_litellm(litellm: Seen, api: str) -> None:
    """LiteLLM: text, streams, tools and pictures on both APIs, and a stream that breaks off raises."""
    check_answers(litellm, f"{api}_text", f"{api}_stream")
    check_tools(litellm, f"{api}_tools")
    check_picture(litellm, f"{api}_picture")
    check_cut(litellm, f"{api}_cut")
    assert litellm[f"{api}_text"]["usage"]["total_tokens"] > 0


async def test_litellm_with_openai(litellm: Seen) -> None:
    """LiteLLM: responses and embeddings."""
    assert litellm["openai_text"]["text"] == litellm["openai_responses"]["text"]
    assert [1536, 1536] == litellm["openai_embeddings"]["lengths"]


async def test_errors_of_litellm(litellm: Seen) -> None:
    """LiteLLM: errors keep status and class; it does ask again where a budget is spent, since it minds no header."""
    assert "AuthenticationError" in litellm["openai_wrong_key"]["classes"]
    assert "AuthenticationError" in litellm["claude_wrong_key"]["classes"]
    assert 403 == litellm["openai_not_allowed"]["status_code"]
    assert "RateLimitError" in litellm["openai_spent"]["classes"]
    assert "ServiceUnavailableError" in litellm["openai_busy"]["classes"]
    assert [(200, None), *[(429, "BUDGET_SPENT")] * 2] == litellm.tries("spent")


async def test_nothing_else_is_asked(langchain: Seen, litellm: Seen) -> None:
    """LangChain and LiteLLM: with the base URL set they ask nobody but the gateway."""
    assert [] == [*langchain.asked_outside, *litellm.asked_outside]
