"""A gate on a server of its own."""

from collections.abc import AsyncIterator

import pytest

from tests.support.gate import Gate, gate
from tests.support.valkey import Valkey


@pytest.fixture
async def one(server: Valkey) -> AsyncIterator[Gate]:
    """One worker's limits on it; with a long timeout, since these tests are not about an unavailable store."""
    async with gate(server.url, timeout=5) as worker:
        yield worker
