"""A gateway in front of a sandbox or of any other upstream, all on real sockets, and what it wrote of each call."""

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from gateway.app import App, Intervals, create
from gateway.asgi.protocol import GatewayProtocol
from gateway.call import Dialect
from gateway.config.clients import new_key
from gateway.config.settings import Settings
from gateway.dialects import ALL
from gateway.sandbox.app import Sandbox
from gateway.telemetry.logs import Log
from gateway.telemetry.metrics import exposition
from tests.support.serving import serving
from tests.support.waiting import until

UPSTREAM_KEY = "sk-canary-upstream-4711"
TEXT = {"contents": [{"role": "user", "parts": [{"text": "Say hello"}]}]}
GENERATE = "/v1beta/models/gemini-2.5-flash:generateContent"
STREAM = "/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"


@dataclass(kw_only=True)
class Gateway:
    """A running gateway, as its callers and its operators see it."""

    url: str
    app: App
    http: httpx.AsyncClient  # sends the key of the client `design`
    keys: Mapping[str, str]
    clients_file: Path
    log_file: Path
    registry: CollectorRegistry
    _read: int = field(default=0)

    @property
    def key(self) -> str:
        return self.keys["design"]

    def lines(self) -> list[dict[str, Any]]:
        """Every line logged so far; one that is still being written is none yet."""
        return [json.loads(line) for line in self.log_file.read_text().rpartition("\n")[0].splitlines()]

    async def entries(self, count: int) -> list[dict[str, Any]]:
        """The next `count` access lines; waits for them, since an entry closes after the last byte."""
        calls: list[dict[str, Any]] = await until(
            lambda: found if len(found := self._unread()) >= count else None,
            10,
            tell=lambda: f"{len(self._unread())} of {count} access lines after 10 s",
        )
        self._read += count
        return calls[:count]

    def _unread(self) -> list[dict[str, Any]]:
        return [line for line in self.lines() if line["event"] == "call"][self._read :]

    async def entry(self) -> dict[str, Any]:
        """The next access line."""
        return (await self.entries(1))[0]

    def metrics(self) -> str:
        """The exposition, as the operators' port would answer."""
        return exposition(self.registry).decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        return sum(
            sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == name and all(sample.labels.get(label) == value for label, value in labels.items())
        )

    async def at_rest(self) -> None:
        """Wait until no call is under way and no byte is held; fails after 5 s."""
        await until(lambda: not any(self._held()), tell=self._held)

    def _held(self) -> tuple[float, int]:
        return self.metric("gateway_in_flight_requests"), self.app.parts.memory_budget.held


def clients_toml(keys: Mapping[str, str], terms: Mapping[str, str]) -> str:
    """A clients file with these clients; `terms` are further lines of each."""
    return "\n".join(
        f'[clients.{name}]\nkey_sha256 = ["{hashlib.sha256(key.encode()).hexdigest()}"]\n{terms.get(name, "")}\n'
        for name, key in keys.items()
    )


@contextlib.asynccontextmanager
async def running(
    tmp_path: Path,
    upstream_url: str,
    *,
    clients: Mapping[str, str] | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    dialects: Sequence[Dialect] = ALL,
    http: type[GatewayProtocol] = GatewayProtocol,
    intervals: Intervals = Intervals(),  # noqa: B008  it is frozen
    **settings: Any,
) -> AsyncIterator[Gateway]:
    """A gateway in front of `upstream_url`; `clients` maps names to further lines of the clients file."""
    terms = {"design": ""} if clients is None else clients
    keys = {name: new_key() for name in terms}
    clients_file, log_file = tmp_path / "clients.toml", tmp_path / "log.jsonl"
    clients_file.write_text(clients_toml(keys, terms))
    registry = CollectorRegistry()
    with log_file.open("ab") as file:
        log = Log("debug", fd=file.fileno())
        values = {"upstream_url": upstream_url, "upstream_key": UPSTREAM_KEY, "clients_file": clients_file, **settings}
        app = create(
            Settings(**values),
            transport=transport,
            log=log,
            registry=registry,
            dialects=dialects,
            intervals=intervals,
        )
        async with (
            serving(app, http=http) as url,
            httpx.AsyncClient(
                base_url=url, headers={"x-goog-api-key": next(iter(keys.values()))}, timeout=20, trust_env=False
            ) as client,
        ):
            yield Gateway(
                url=url,
                app=app,
                http=client,
                keys=keys,
                clients_file=clients_file,
                log_file=log_file,
                registry=registry,
            )


@dataclass(kw_only=True)
class Upstream:
    """A running sandbox, and what it saw."""

    url: str
    http: httpx.AsyncClient

    async def log(self) -> list[dict[str, Any]]:
        """Every call it saw, in the order of their ends."""
        return list((await self.http.get("/sandbox/log")).json())


@contextlib.asynccontextmanager
async def sandbox(key: str = UPSTREAM_KEY) -> AsyncIterator[Upstream]:
    """A sandbox that misbehaves on demand."""
    async with (
        serving(Sandbox(key, faults=True), http="httptools", lifespan="off") as url,
        httpx.AsyncClient(base_url=url, trust_env=False) as http,
    ):
        yield Upstream(url=url, http=http)


def saying(text: str) -> dict[str, Any]:
    """A body that asks this; with `sandbox-fault: NAME` in it the sandbox misbehaves."""
    return {"contents": [{"role": "user", "parts": [{"text": text}]}]}
