"""Google's SDK for Node; the one for Python drives the gateway in `tests/behaviour/test_sdk.py`."""

from pathlib import Path

import pytest
import pytest_asyncio

from tests.sdks.driving import Seen, drive
from tests.support.gateway import Gateway

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What the SDK saw."""
    return await drive(gateway, "google-node", tmp_path_factory.mktemp("sdk"))


async def test_answers(seen: Seen) -> None:
    """SDKs: text, the same as a stream, and a question about a picture."""
    assert "Hello from the sandbox!" in seen["text"]["text"]
    assert seen["text"]["text"] == seen["stream"]["text"]
    assert seen["stream"]["pieces"] > 2
    assert seen["text"]["usage"] == seen["stream"]["usage"]
    assert "I also got 1 picture." in seen["picture"]["text"]
