"""What follows from a row of the table, seen by those of further_rows.py; run by test_table.py."""

import datetime as dt
from pathlib import Path

import pytest

from gateway.cli import main
from gateway.config import Catalogue, Clients
from gateway.errors.tree import BudgetSpent, RateLimited
from gateway.processes.sweeper import publish
from gateway.telemetry.metrics import CollectorRegistry, Metrics
from tests.support.gate import Gate, Headers, client, gate, kept, records, used
from tests.support.gateway import GENERATE, TEXT, Upstream, clients_toml, running
from tests.support.valkey import Valkey

TERMS = "images_per_minute = 6\nimages_at_once = 2\nkilotokens_per_month = 2.5"
DESIGN = client(images_per_minute=6, images_at_once=2, kilotokens_per_month=2.5)
PLENTY = client(images_per_minute=6, images_at_once=2, kilotokens_per_month=1000)


def seconds_of_this_month() -> float:
    """Until it is over."""
    now = dt.datetime.now(dt.UTC)
    return (dt.datetime(now.year + now.month // 12, now.month % 12 + 1, 1, tzinfo=dt.UTC) - now).total_seconds()


def test_its_options_its_keys_and_its_place_in_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options: `clients add` takes the amounts, the file keeps them, and the list shows them."""
    monkeypatch.setenv("GATEWAY_CLIENTS_FILE", str(tmp_path / "clients.toml"))
    monkeypatch.setenv("GATEWAY_UPSTREAM_KEY", "sk-none")
    options = "--images-per-minute 6 --images-at-once 2 --kilotokens-per-month 2.5"
    assert 0 == main(["clients", "add", "design", *options.split()])
    assert 2 == main(["clients", "add", "other", "--images-at-once", "2"])
    assert 2 == main(["clients", "add", "other", "--kilotokens-per-month", "nan"])
    assert "images_at_once needs images_per_minute" in capsys.readouterr().err
    assert 0 == main(["clients", "list"])
    assert "6 images/min, 2 images at once, 2.5 kilotokens/month" in capsys.readouterr().out
    written = (tmp_path / "clients.toml").read_text()
    assert "# kilotokens_per_month = 2.5" in written
    assert written.rstrip().endswith(TERMS)


async def test_a_rate_refuses_and_says_what_is_left(one: Gate, server: Valkey) -> None:
    """Refusals, headers: what is over is refused with the rate's name, and its item stands in both headers."""
    headers: Headers = []
    for _ in range(2):
        permit = await one.admit(PLENTY, headers, image_output=True)
    refused = await one.refusal(PLENTY, image_output=True)
    assert (RateLimited, "images_per_minute") == (type(refused), refused.metadata["limit"])
    assert "images_per_minute: 6 are allowed. Please retry after 10 seconds." == refused.message
    assert headers[2:] == [(b"ratelimit-policy", b'"images";q=2;w=20'), (b"ratelimit", b'"images";r=0;t=20')]
    await permit.settle(used(10, images=0), "ok")  # gives back what it did not make
    assert 0.9 < kept(server)["images_per_minute"][0] < 1.1
    await one.admit(PLENTY, image_output=True)


async def test_a_budget_of_a_month_is_charged_and_refuses_to_its_end(one: Gate, server: Valkey) -> None:
    """Refusals, settlement, gauges: units are counted in whole, corrected once, shown in the unit of the file."""
    headers: Headers = []
    await (await one.admit(DESIGN, headers)).settle(used(2000), "ok")
    refused = await one.refusal(DESIGN)
    assert (BudgetSpent, "kilotokens_per_month") == (type(refused), refused.metadata["limit"])
    assert refused.message.startswith("kilotokens_per_month: 2.5 are allowed. ")
    assert abs(seconds_of_this_month() - (refused.retry_after or 0)) < 60
    assert b"month" not in b"".join(value for _, value in headers)
    assert ["2000"] == [record["tokens"] for record in records(server)]

    clients = Clients.parse(clients_toml({"design": "k"}, {"design": TERMS}).encode())
    registry = CollectorRegistry()
    metrics = Metrics(registry, Catalogue.load().models.__contains__)
    publish(clients, await one.limits.sweep(clients), metrics, before=frozenset())
    labels = {"client": "design", "limit": "kilotokens_per_month"}
    values = [registry.get_sample_value(f"gateway_{name}", labels) for name in ("limit", "limit_used")]
    assert [2.5, 2.0] == values


async def test_without_the_store_each_worker_has_its_share() -> None:
    """L4: the fallback limiter has them too: of two workers each lets 1 picture through at once, and 1250 tokens."""
    async with gate("unix:///nowhere/at/all", workers=2) as one:
        await (await one.admit(PLENTY, image_output=True)).settle(used(10, images=1), "ok")
        refused = await one.refusal(PLENTY, image_output=True)
        assert ("images_per_minute", 20) == (refused.metadata["limit"], refused.retry_after)
    async with gate("unix:///nowhere/at/all", workers=2) as one:
        await (await one.admit(DESIGN)).settle(used(200), "ok")
        await (await one.admit(DESIGN)).settle(used(1000), "ok")
        refused = await one.refusal(DESIGN)
        assert "kilotokens_per_month" == refused.metadata["limit"]
        assert abs(seconds_of_this_month() - (refused.retry_after or 0)) < 60


async def test_callers_meet_them(tmp_path: Path, upstream: Upstream, state: Valkey) -> None:
    """Refusals: through the whole gateway, 429 and the reason of its kind, until the limit is raised."""
    async with running(tmp_path, upstream.url, redis_url=state.url, clients={"design": TERMS}) as gateway:
        for _ in range(40):
            answer = await gateway.http.post(GENERATE, json=TEXT)
            if answer.status_code != 200:
                break
        assert 429 == answer.status_code
        assert "BUDGET_SPENT" == answer.json()["error"]["details"][0]["reason"]
        assert '"images";q=2;w=20' == answer.headers["ratelimit-policy"]
        assert 1 == gateway.metric("gateway_limited_total", client="design", limit="kilotokens_per_month")
