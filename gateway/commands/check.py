"""Would it serve?  One check each of settings, clients, store and upstream, and what to do about a red one."""

import asyncio
import contextlib
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx

from gateway.app import PROBES
from gateway.call import ModelLister
from gateway.config import Settings, SettingsError, watched_clients, watched_key
from gateway.dialects import ALL
from gateway.errors import GatewayError
from gateway.limits import CLIENTS, key
from gateway.memory import MemoryBudget
from gateway.store import Store, StoreError, StoreUnavailable, borrow
from gateway.upstream import Outgoing, PyqwestTransport, read

LISTS = tuple({dialect.models.target: dialect.models for dialect in ALL if dialect.models is not None}.values())
MAX_PAGES = 64
UPSTREAM_SECONDS = 15
UPGRADE = "their budgets of that day began anew; see Upgrades and rollbacks in docs/operations.md"


class Red(Exception):
    """What is wrong, and what to do."""


class Listed(NamedTuple):
    """What came of asking for one of the upstream's lists of models."""

    target: str
    status: int
    models: int | None = None  # how many it names; None where it cannot be read


def run(settings: Settings) -> int:
    """Print the four lines; 1 when one of them is red."""
    checks = {"settings": _settings, "clients": _clients, "store": _store, "upstream": _upstream}
    reds = 0
    for name, check in checks.items():
        try:
            print(f"ok   {name:9} {asyncio.run(check(settings))}")
        except (Red, SettingsError, StoreError) as error:
            reds += 1
            print(f"RED  {name:9} {error}")
    return 1 if reds else 0


async def _settings(settings: Settings) -> str:
    return (
        f"{settings.workers} worker(s) on {settings.host}:{settings.port}, metrics on "
        f"{settings.metrics_host}:{settings.metrics_port}, upstream {settings.upstream_url}"
    )


async def _clients(settings: Settings) -> str:
    clients = list(watched_clients(settings).value)
    off = sum(client.disabled for client in clients)
    return f"{len(clients)} in {settings.clients_file}" + (f", {off} of them disabled" if off else "")


async def _store(settings: Settings) -> str:
    async with contextlib.AsyncExitStack() as stack:
        if settings.redis_url is None:
            stores = await stack.enter_async_context(borrow(settings.data_dir))
            urls = {"state": stores.state_url, "cache": settings.cache_redis_url or stores.cache_url}
            what = f"embedded, in {settings.data_dir}"
        else:
            urls = {"state": settings.redis_url, "cache": settings.cache_redis_url or settings.redis_url}
            what = "as given"
        for name, url in urls.items():
            store = Store(url, timeout=2, probe=PROBES[name])
            try:
                await store.verify()
            except StoreUnavailable as error:
                hint = (
                    "fix it, or GATEWAY_REDIS_URL and GATEWAY_CACHE_REDIS_URL; what it must allow is in operations.md"
                )
                raise Red(f"{name}: {error}; {hint}") from None
            else:
                if name == "state" and (unread := await _unread(store, settings)):
                    raise Red(f"state: of {', '.join(unread)} it keeps what this version cannot read; {UPGRADE}")
            finally:
                await store.aclose()
    return f"state and cache answer ({what})"


async def _unread(store: Store, settings: Settings) -> list[str]:
    """The clients with state that was set aside, since another version had written it."""
    names: set[str] = set()
    with contextlib.suppress(SettingsError):  # it has a line of its own
        names = {client.name for client in watched_clients(settings).value}
    try:
        names |= {name.decode() for name in await store.command("ZRANGE", CLIENTS, 0, -1)}
        kept = await asyncio.gather(*(store.command("HGET", key(name, "limits"), "unread") for name in sorted(names)))
    except StoreUnavailable as error:
        raise Red(f"state: {error}") from None
    return [name for name, unread in zip(sorted(names), kept, strict=True) if unread is not None]


async def _upstream(settings: Settings) -> str:
    transport = PyqwestTransport(
        settings.upstream_url,
        connect_seconds=settings.connect_timeout_seconds,
        proxy=settings.upstream_proxy,
        ca_file=settings.upstream_ca_file,
    )
    headers = [
        ("host", urlsplit(settings.upstream_url).netloc),
        ("authorization", f"Bearer {watched_key(settings).value}"),
        ("accept-encoding", "identity"),
    ]
    try:
        async with asyncio.timeout(UPSTREAM_SECONDS):
            return _verdict(settings.upstream_url, [await _list(transport, settings, headers, one) for one in LISTS])
    except (httpx.TransportError, TimeoutError) as error:
        why = str(error) or f"no answer within {UPSTREAM_SECONDS} s"
        hint = "check GATEWAY_UPSTREAM_URL, the network, and GATEWAY_UPSTREAM_PROXY or _CA_FILE if you need them"
        raise Red(f"{settings.upstream_url} cannot be reached: {why}; {hint}") from None
    finally:
        await transport.aclose()


async def _list(
    transport: PyqwestTransport, settings: Settings, headers: list[tuple[str, str]], lister: ModelLister
) -> Listed:
    """Read one of the upstream's lists to its end.  Raises `httpx.TransportError`."""
    names: set[str] = set()
    query = lister.query
    for _ in range(MAX_PAGES):
        target = f"{lister.target}?{query}" if query else lister.target
        incoming = await transport.send(Outgoing("GET", settings.upstream_url + target, headers, b""))
        memory = MemoryBudget(settings.max_answer_bytes).lease()
        try:
            answer = await read(incoming, stream=False, limit=settings.max_answer_bytes, memory=memory)
            if answer.status != 200:
                return Listed(lister.target, answer.status)
            page = lister.read(answer.body)
        except (GatewayError, ValueError):
            return Listed(lister.target, incoming.status)
        names |= {model.name for model in page.models}
        if not (query := page.next_query):
            break
    return Listed(lister.target, 200, len(names))


def _verdict(url: str, lists: list[Listed]) -> str:
    """What the lists say together: one that can be read is enough.  Raises `Red`."""
    said = ", ".join(
        f"{one.target} answers {one.status}{' and is no list' * (one.status == 200)}"
        if one.models is None
        else f"{one.target} names {one.models} model(s)"
        for one in lists
    )
    if any(one.models is not None for one in lists):
        return f"{url}: {said}"
    statuses = {one.status for one in lists}
    if 407 in statuses:
        raise Red("the forward proxy refuses our user or password; fix GATEWAY_UPSTREAM_PROXY")
    for status in statuses & {401, 403}:
        raise Red(f"{url} refuses our key ({status}); put a valid one in place")
    raise Red(f"{url} lists no models: {said}; is it the right address?")
