"""Google's SDK for Node; the one for Python drives the gateway in `tests/behaviour/test_sdk.py`."""

import pytest
import pytest_asyncio

from tests.sdks.checks import check_answers, check_cut, check_picture
from tests.sdks.driving import Seen, drive
from tests.support.gateway import Gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
STATUSES = {"wrong_key": 401, "not_allowed": 403, "spent": 429, "busy": 503}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What the SDK saw."""
    return await drive(gateway, "google-node", tmp_path_factory.mktemp("sdk"))


async def test_answers(seen: Seen) -> None:
    """Google's SDK: text, the same as a stream, and a question about a picture."""
    check_answers(seen, "text", "stream")
    assert seen["text"]["usage"] == seen["stream"]["usage"]
    check_picture(seen, "picture")


async def test_other_methods(seen: Seen) -> None:
    """Google's SDK: tokens are counted, texts embedded, models listed."""
    assert seen["count_tokens"]["tokens"] > 0
    assert [3072, 3072] == seen["embeddings"]["lengths"]
    assert "models/gemini-2.5-flash" == seen["models"]["one"]
    assert seen["models"]["one"] in seen["models"]["ids"]


async def test_errors(seen: Seen) -> None:
    """Google's SDK: each error is an ApiError with its status, and nothing is asked a second time."""
    assert {case: seen[case]["status_code"] for case in STATUSES} == STATUSES
    assert all("ApiError" in seen[case]["classes"] for case in STATUSES)
    assert 429 == seen["limited"]["error"]["status_code"]
    assert [(200, None), (429, "BUDGET_SPENT")] == seen.tries("spent")
    assert [(200, None), (429, "RATE_LIMITED")] == seen.tries("limited")


async def test_cut_streams(seen: Seen) -> None:
    """Google's SDK: a stream that breaks off raises, after what had come."""
    check_cut(seen, "cut")
    assert seen["cut"]["events"] > 0
