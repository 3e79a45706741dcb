"""Are the rules right?  Each alert fires when it should and not otherwise, and links to what to do."""

import re
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.boards import BOARDS, DEPLOY, panels
from tests.deploy.prometheus import ALERTS, RULES, SOURCE, needed
from tests.support.instruments import instruments
from tests.support.operations import operations

RUNBOOK = DEPLOY.parent / "docs" / "runbook.md"
CASES = sorted((SOURCE / "tests").glob("*.yml"))
OF_PROMETHEUS = {"instance", "job"}  # labels that every scrape adds
PARTS = ("**Means:**", "**Look first:**", "**Do:**")


def alerts() -> dict[str, dict[str, Any]]:
    """Every alert by its name."""
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def published() -> dict[str, set[str]]:
    """Every series that a gateway has, and its labels."""
    return {name: labels for one in instruments().values() for name, labels in one.series.items()}


def selectors(text: str) -> set[tuple[str, frozenset[str]]]:
    """Every series of the gateway's that a text names, with the labels it is chosen by."""
    return {
        (name, frozenset(re.findall(r'(\w+)(?:=~|!~|!=|=)\\?"', chosen)))
        for name, chosen in re.findall(r"\b(gateway_\w+)(?:\{([^}]*)\})?", text)
    }


def sources() -> dict[str, str]:
    """Every text in which series are named."""
    texts = {path.name: path.read_text() for path in [*RULES.glob("*.yml"), *CASES]}
    return texts | {name: "\n".join(t["expr"] for p in panels(name) for t in p["targets"]) for name in BOARDS}


def paragraphs() -> dict[str, str]:
    """The runbook's paragraphs by the anchor of their heading."""
    parts = re.split(r"^## (.+)$", RUNBOOK.read_text(), flags=re.MULTILINE)
    return {title.lower(): text for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def said_by(*words: str | Path) -> str:
    """What a command prints; fails when it fails."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=50, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


promtool = partial(said_by, "promtool")


@needed
def test_the_configuration_loads() -> None:
    """M8: `promtool check config` reads the configuration and every rule file."""
    assert f"{len(list(RULES.glob('*.yml')))} rule files found" in promtool(
        "check", "config", SOURCE / "prometheus.yml"
    )


@needed
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_alerts_fire_and_do_not(path: Path) -> None:
    """M8: `promtool test rules`."""
    assert "SUCCESS" in promtool("test", "rules", path)


@needed
def test_a_rule_that_changes_fails_its_cases(tmp_path: Path) -> None:
    """The cases bind: with another threshold they fail."""
    shutil.copytree(SOURCE, tmp_path / "prometheus")
    rules = tmp_path / "prometheus" / "rules" / ALERTS.name
    rules.write_text(rules.read_text().replace("budget_used:ratio > 0.9", "budget_used:ratio > 0.88"))
    with pytest.raises(AssertionError, match="BudgetNearlySpent"):
        promtool("test", "rules", tmp_path / "prometheus" / "tests" / "usage.yml")


def test_each_alert_is_tried_both_ways() -> None:
    """M8: every alert has a case in which it fires and one in which it does not."""
    fires: set[str] = set()
    does_not: set[str] = set()
    for path in CASES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for expected in case["alert_rule_test"]:
                (fires if expected["exp_alerts"] else does_not).add(expected["alertname"])
    assert set(alerts()) == fires
    assert set(alerts()) == does_not


@pytest.mark.parametrize("name", sorted(alerts()))
def test_whoever_is_woken_knows_what_to_do(name: str) -> None:
    """M8: an alert waits a while, says how bad and what it is, and links to its paragraph of the runbook."""
    rule = alerts()[name]
    assert re.fullmatch(r"[1-9]\d*m", rule["for"])
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert {"summary", "description", "runbook_url"} == set(rule["annotations"])
    assert f"docs/runbook.md#{name.lower()}" == rule["annotations"]["runbook_url"]
    assert [] == [part for part in PARTS if part not in paragraphs()[name.lower()]]


def test_the_runbook_tells_of_nothing_else() -> None:
    """Every paragraph belongs to an alert that exists."""
    assert {name.lower() for name in alerts()} == set(paragraphs())


@pytest.mark.parametrize("source", sorted(sources()))
def test_only_published_series_are_named(source: str) -> None:
    """Rules, cases and panels name series and labels that the gateway has; a renamed metric would go unnoticed else."""
    known = published()
    for name, labels in selectors(sources()[source]):
        assert name in known
        assert labels <= known[name] | OF_PROMETHEUS, name


@pytest.mark.parametrize("source", sorted(sources()))
def test_only_buckets_that_exist_are_named(source: str) -> None:
    """A bucket that a rule, a case or a panel chooses by its bound is one of the histogram's, written as it is scraped."""
    for name, le in re.findall(r'\b(gateway_\w+)_bucket\{[^}]*\ble=\\?"([^"\\]+)', sources()[source]):
        assert le in {*(str(float(bound)) for bound in instruments()[name].bounds), "+Inf"}, name


def test_usage_is_missed_in_every_api() -> None:
    """A4: UsageMissing divides by the answers of just those operations whose answers say what they cost."""
    (methods,) = re.findall(r'method=~"([^"]*)"', alerts()["UsageMissing"]["expr"])
    expecting = {name for name, rows in operations().items() if rows[0].expects_usage}
    assert expecting == set(methods.split("|"))


@pytest.mark.skipif(not shutil.which("amtool"), reason="Alertmanager's amtool is not installed")
def test_the_routes_load() -> None:
    """M8: `amtool check-config` reads what Alertmanager is given."""
    assert "2 receivers" in said_by("amtool", "check-config", DEPLOY / "alertmanager" / "alertmanager.yml")


def test_alertmanager_tells_somebody() -> None:
    """Every receiver that is routed to exists, critical alerts have a route of their own, and only known alerts are hushed."""
    config = yaml.safe_load((DEPLOY / "alertmanager" / "alertmanager.yml").read_text())
    receivers = {one["name"] for one in config["receivers"]}
    (wake,) = config["route"]["routes"]
    assert ['severity="critical"'] == wake["matchers"]
    assert receivers == {config["route"]["receiver"], wake["receiver"]}
    assert wake["receiver"] != config["route"]["receiver"]
    for rule in config["inhibit_rules"]:
        for matcher in [*rule["source_matchers"], *rule["target_matchers"]]:
            for pattern in re.fullmatch(r'alertname(?:=~|!=|=)"(.+)"', matcher)[1].split("|"):  # type: ignore[index]
                assert any(re.fullmatch(pattern, name) for name in alerts()), pattern
