"""What many tests share: a sandbox as the upstream and a gateway in front of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.gateway import Gateway, Upstream, running, sandbox


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting and no proxy of the machine reaches a test."""
    import os

    for name in list(os.environ):
        if name.upper().startswith("GATEWAY_") or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A sandbox that misbehaves on demand."""
    async with sandbox() as running_sandbox:
        yield running_sandbox


@pytest.fixture
async def gateway(tmp_path: Path, upstream: Upstream) -> AsyncIterator[Gateway]:
    """A gateway in front of the sandbox; after each test nothing may be left over in it."""
    async with running(tmp_path, upstream.url) as running_gateway:
        yield running_gateway
        await running_gateway.at_rest()
