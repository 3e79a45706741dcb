"""A whole gateway in front of a sandbox, one for each module of this folder."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.sdks.driving import SCRIPTS, clients
from tests.support.gateway import Gateway, running, sandbox
from tests.support.valkey import Valkey


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, valkey_server: Valkey) -> AsyncIterator[Gateway]:
    """A gateway with clients for every part of every SDK; after the module nothing may be left over in it."""
    valkey_server.ask("FLUSHALL")
    everybody = {"design": "", **clients(*SCRIPTS, "claude-code", "codex", "gemini-cli")}
    async with (
        sandbox() as upstream,
        running(
            tmp_path_factory.mktemp("gateway"), upstream.url, redis_url=valkey_server.url, clients=everybody
        ) as running_gateway,
    ):
        yield running_gateway
        await running_gateway.at_rest()
