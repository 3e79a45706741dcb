"""Vercel's AI SDK: one front for many providers."""

import pytest
import pytest_asyncio

from tests.sdks.checks import SUNNY, check_answers, check_cut, check_picture, check_waiting
from tests.sdks.driving import Seen, drive
from tests.support.gateway import Gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
PROVIDERS = ("responses", "chat", "compatible", "claude")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What the SDK saw."""
    return await drive(gateway, "ai-sdk", tmp_path_factory.mktemp("sdk"))


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_answers(seen: Seen, provider: str) -> None:
    """AI SDK: text, streams with what was used, pictures, and tools, which it calls by itself."""
    check_answers(seen, f"{provider}_text", f"{provider}_stream")
    assert seen[f"{provider}_text"]["usage"]["totalTokens"] > 0
    check_picture(seen, f"{provider}_picture")
    assert ["weather?"] == seen[f"{provider}_tools"]["places"]
    assert SUNNY in seen[f"{provider}_tools"]["text"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_usage_of_streams(seen: Seen, provider: str) -> None:
    """AI SDK: a stream's usage is known."""
    assert seen[f"{provider}_text"]["usage"]["totalTokens"] == seen[f"{provider}_stream"]["usage"]["totalTokens"]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_errors(seen: Seen, provider: str) -> None:
    """AI SDK: an error shows its status and the gateway's own sentence."""
    wrong, narrow = seen[f"{provider}_wrong_key"], seen[f"{provider}_not_allowed"]
    assert (401, "API key not valid. Please pass a valid API key.") == (wrong["status_code"], wrong["message"])
    assert 403 == narrow["status_code"]
    assert narrow["message"].startswith("This key may not use ")


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_cut_streams(seen: Seen, provider: str) -> None:
    """AI SDK: a stream that breaks off has an error in it."""
    check_cut(seen, f"{provider}_cut")


async def test_embeddings(seen: Seen) -> None:
    """AI SDK: embeddings."""
    assert [1536, 1536] == seen["embeddings"]["lengths"]


async def test_tries(seen: Seen) -> None:
    """AI SDK: it waits as long as a limit says; it does ask again where a budget is spent, since it minds no header."""
    check_waiting(seen)
    assert (429, "insufficient_quota") == (seen["spent"]["status_code"], seen["spent"]["code"])
    assert 503 == seen["busy"]["status_code"]
    assert [(200, None), *[(429, "BUDGET_SPENT")] * 2] == seen.tries("spent")


async def test_nothing_else_is_asked(seen: Seen) -> None:
    """AI SDK: with the base URL set it asks nobody but the gateway."""
    assert [] == seen.asked_outside
