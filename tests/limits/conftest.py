"""A real Valkey server for each test, and a gate on it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.limits.gate import Gate, gate
from tests.support.valkey import Valkey, valkey


@pytest.fixture
def server() -> Iterator[Valkey]:
    """An empty server."""
    with valkey() as one:
        yield one


@pytest.fixture
async def one(server: Valkey) -> AsyncIterator[Gate]:
    """One worker's limits on it; with a long timeout, since these tests are not about an unavailable store."""
    async with gate(server.url, timeout=5) as worker:
        yield worker
