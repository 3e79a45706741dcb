"""An empty cache store, and two workers on it."""

from collections.abc import AsyncIterator

import pytest

from tests.support.asking import Worker, worker
from tests.support.valkey import Valkey


@pytest.fixture
async def one(state: Valkey) -> AsyncIterator[Worker]:
    """A worker."""
    async with worker(state.url) as first:
        yield first


@pytest.fixture
async def other(state: Valkey) -> AsyncIterator[Worker]:
    """Another, on the same store."""
    async with worker(state.url) as second:
        yield second
