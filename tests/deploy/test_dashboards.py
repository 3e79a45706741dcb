"""Do the dashboards work?  Each panel has a title, and each expression has data while a real gateway is called."""

import itertools
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.deploy.boards import BOARDS, DEPLOY, board, filled, panels
from tests.deploy.preview import DRAWN, View, page
from tests.deploy.prometheus import Prometheus, needed, prometheus
from tests.deploy.watched import watched
from tests.support.gateway import Upstream
from tests.support.waiting import until

SEEN_WITHIN_SECONDS = 30
UNITS = {"none", "short", "reqps", "ops", "percentunit", "s"}
FAULTS = {  # what `bad_calls` and a broken file must raise
    "AvailabilityBurnFast", "AvailabilityBurnSlow", "BreakerOpen", "BudgetNearlySpent", "ConfigReloadFailing", "UpstreamKeyRefused", "UsageMissing",
}  # fmt: skip


def expressions() -> dict[str, str]:
    """Every expression of every dashboard, by dashboard, panel and target."""
    return {
        f"{name}: {panel['title']} {target['refId']}": filled(target["expr"], rate_interval="60s", over="60s")
        for name in BOARDS
        for panel in panels(name)
        for target in panel["targets"]
    }


def without_data(server: Prometheus, wanted: dict[str, str]) -> list[str]:
    """Which of the expressions have no finite value now."""
    return [
        name
        for name, expr in wanted.items()
        if not any(math.isfinite(float(one["value"][1])) for one in server.query(expr))
    ]


def counted(server: Prometheus) -> float:
    """How many calls Prometheus knows of."""
    return sum(float(one["value"][1]) for one in server.query("sum(gateway_requests_total)"))


def has_counted(server: Prometheus, calls: int) -> bool:
    """Whether Prometheus knows of so many."""
    return counted(server) >= calls


async def until_true(condition: Callable[[], object], tell: Callable[[], object]) -> None:
    """Wait until the condition holds; else say what `tell` finds."""
    await until(condition, SEEN_WITHIN_SECONDS, every_ms=200, tell=tell)


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_panels_say_what_they_show(name: str) -> None:
    """M7: a title that is a sentence, a description, a unit, a word for nothing, and the provisioned datasource."""
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    datasource = {"type": source["type"], "uid": source["uid"]}
    for panel in panels(name):
        defaults = panel["fieldConfig"]["defaults"]
        assert re.fullmatch(r"[A-Z].* .*\?( \([^)]*\))?", panel["title"]), panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert defaults["unit"] in UNITS, panel["title"]
        assert defaults["noValue"], panel["title"]
        assert datasource == panel["datasource"], panel["title"]
        assert panel["type"] in DRAWN, panel["title"]
    assert len(panels(name)) == len({panel["id"] for panel in panels(name)}) == len({p["title"] for p in panels(name)})


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_panels_fit(name: str) -> None:
    """M7: no panel leaves the 24 columns or lies on another, and no column is left empty."""
    taken = [
        (column, row)
        for panel in panels(name)
        for grid in [panel["gridPos"]]
        for column, row in itertools.product(
            range(grid["x"], grid["x"] + grid["w"]), range(grid["y"], grid["y"] + grid["h"])
        )
    ]
    bottom = max(row for _, row in taken) + 1
    assert sorted(itertools.product(range(24), range(bottom))) == sorted(taken)


def test_boards_are_found() -> None:
    """M7: names are unique and stable, files are the source, and the provider reads the folder they are mounted to."""
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/gateway.yml").read_text())["providers"]
    assert "/var/lib/grafana/dashboards" == provider["options"]["path"]
    assert not provider["allowUiUpdates"]
    assert ["gateway-clients", "gateway-overview", "gateway-upstream"] == [
        board(name)["uid"] for name in sorted(BOARDS)
    ]
    for name in BOARDS:
        assert not board(name)["editable"]
        used = set(re.findall(r"\$(\w+)", " ".join(t["expr"] for p in panels(name) for t in p["targets"])))
        assert {one["name"] for one in board(name)["templating"]["list"]} == used - {"__rate_interval", "__range"}


@needed
@pytest.mark.timeout(120)
async def test_every_expression_has_data_and_alerts_tell_faults(tmp_path: Path, upstream: Upstream) -> None:
    """M7: a real Prometheus gets data for each expression, no alert while all is well, and those of the faults."""
    with (
        watched(tmp_path, upstream.url) as gateway,
        prometheus(tmp_path / "prometheus", gateway.metrics) as server,
    ):
        assert {200} == set(await gateway.good_calls())
        calls = 5
        await until_true(lambda: has_counted(server, 5) and not server.firing(), server.firing)

        for _ in range(2):  # what is counted for the first time has no rate yet
            statuses = [*await gateway.good_calls(), *await gateway.bad_calls()]
            assert {200, 401, 429, 502, 503} == set(statuses)
            await until_true(partial(has_counted, server, calls := calls + len(statuses)), partial(counted, server))
        gateway.clients_file.write_text("nonsense")
        wanted = expressions()
        await until_true(lambda: not without_data(server, wanted), lambda: without_data(server, wanted))
        await until_true(lambda: server.firing() >= FAULTS, server.firing)
        assert [] == [rule for rule in server.rules() if rule["health"] != "ok"]
        (fails,) = [expr for name, expr in wanted.items() if "For which models does it fail?" in name]
        assert {"200", "502"} <= {
            one["metric"]["code"] for one in server.query(fails)
        }  # a broken stream, a broken call

        for name in BOARDS:
            drawn = page(name, View(server=server, minutes=1, scrape=1))
            assert len(panels(name)) == drawn.count('class="t"')
            assert [] == [p["title"] for p in panels(name) if f">{p['fieldConfig']['defaults']['noValue']}<" in drawn]
