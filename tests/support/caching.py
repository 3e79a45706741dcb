"""What tests of the cache in whole gateways share: a private client, and how the cache looks from both sides."""

import httpx

from tests.support.gateway import STREAM, Gateway
from tests.support.valkey import Valkey
from tests.support.waiting import until

PRIVATE = 'cache = "private"'
ARRAY = STREAM.removesuffix("?alt=sse")


async def kept(state: Valkey, count: int) -> None:
    """Wait until so many answers are kept."""
    await until(lambda: count == len(state.ask("KEYS", "gw:cache:*")))


def waiting(gateway: Gateway) -> int:
    """How many callers wait in this worker for an answer in flight, or lead it."""
    return sum(flight._users for flight in gateway.app.parts.cache._flights.values())


def status(response: httpx.Response) -> str:
    """What the caller is told of the cache."""
    return response.headers["cache-status"].removeprefix("tokenhot-gateway; ")
