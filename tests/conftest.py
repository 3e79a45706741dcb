"""What many tests share: a sandbox as the upstream and a gateway in front of it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.support.caching import PRIVATE
from tests.support.gateway import Gateway, Upstream, running, sandbox
from tests.support.valkey import Valkey, valkey


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting and no proxy of the machine reaches a test."""
    import os

    for name in list(os.environ):
        if name.upper().startswith("GATEWAY_") or name.upper().endswith("_PROXY"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    """One state store for the whole run of this process."""
    with valkey() as server:
        yield server


@pytest.fixture
def state(valkey_server: Valkey) -> Valkey:
    """The state store, empty."""
    valkey_server.ask("FLUSHALL")
    return valkey_server


@pytest.fixture
def server() -> Iterator[Valkey]:
    """An empty server of its own, for tests that stop it, fill it or change its settings."""
    with valkey() as one:
        yield one


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A sandbox that misbehaves on demand."""
    async with sandbox() as running_sandbox:
        yield running_sandbox


@pytest.fixture
async def gateway(tmp_path: Path, upstream: Upstream, state: Valkey) -> AsyncIterator[Gateway]:
    """A gateway in front of the sandbox; after each test nothing may be left over in it."""
    async with running(tmp_path, upstream.url, redis_url=state.url) as running_gateway:
        yield running_gateway
        await running_gateway.at_rest()


@pytest.fixture
async def caching(tmp_path: Path, upstream: Upstream, state: Valkey) -> AsyncIterator[Gateway]:
    """A gateway whose one client has a private cache."""
    async with running(tmp_path, upstream.url, redis_url=state.url, clients={"design": PRIVATE}) as running_gateway:
        yield running_gateway
        await running_gateway.at_rest()
