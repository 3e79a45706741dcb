"""Is docs/telemetry.md true?  Its tables are compared with the code, the rules of Prometheus, the dashboards and the runbook."""

import ast
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import get_args

import msgspec
import pytest
import yaml

from gateway import errors
from gateway.cache.result import Result
from gateway.call import Kind, Modality
from gateway.limit_table import LIMITS
from gateway.telemetry.ledger import ANSWERED
from gateway.telemetry.logs import CallLine
from tests.deploy.boards import BOARDS, board, panels
from tests.deploy.prometheus import RULES
from tests.support.instruments import instruments
from tests.support.operations import operations as operations_of_dialects

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "telemetry.md").read_text()
NEVER = {"sandbox_not_replaced"}  # SIGHUP replaces workers alone
REPORTS = ("report", "_report")  # what `Log.event` is called where it was handed on
HANDED_ON = {("ProcessPool", "report"), ("stores.watch", None)}  # to whom it is, and as which argument

Row = dict[str, str]
Readers = tuple[set[str], set[str], dict[str, list[str]]]


@dataclass
class Event:
    """What the code says of one event of the log."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    has_more: bool = False  # some of its fields cannot be read here


def table(title: str) -> list[Row]:
    """The rows below a heading, by the names of their columns."""
    section = re.split(r"^#+ ", TEXT.partition(f"# {title}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:1] == "|"
    ]
    return [dict(zip(head, cells, strict=True)) for cells in rows]


def codes(cell: str) -> list[str]:
    """What stands in backticks, blocks of code left out."""
    return re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", cell, flags=re.DOTALL))


def entries(text: str) -> set[str]:
    """The entries of the runbook that a text links to."""
    links = re.findall(r"\[(\w+)\]\(runbook\.md#(\w+)\)", text)
    assert [name.lower() for name, _ in links] == [anchor for _, anchor in links]
    return {name for name, _ in links}


def shown(cell: str) -> dict[str, list[str]]:
    """The panels of a cell, by dashboard."""
    parts = [part.partition("*: ") for part in cell.split("<br>")] if cell != "none" else []
    return {name.removeprefix("*"): titles.split("; ") for name, _, titles in parts}


@cache
def rules(kind: str) -> dict[str, str]:
    """The expression of each `alert` or `record`."""
    files = [yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yml"))]
    return {
        rule[kind]: rule["expr"]
        for file in files
        for group in file["groups"]
        for rule in group["rules"]
        if kind in rule
    }


@cache
def metrics_of_series() -> dict[str, str]:
    """The metric to which each series belongs."""
    return {series: one.name for one in instruments().values() for series in one.series}


def metrics_in(expr: str) -> set[str]:
    """The metrics that an expression names itself."""
    return {metrics_of_series()[name] for name in re.findall(r"\bgateway_\w+", expr)}


def recorded_in(expr: str) -> set[str]:
    """The recording rules that an expression names, without their windows."""
    return set(re.findall(r"\bgateway:\w+", expr))


def behind(expr: str) -> set[str]:
    """The metrics that an expression reads, through recording rules too."""
    recorded = [one for name, one in rules("record").items() if re.findall(rf"(?<![\w:]){name}(?![\w:])", expr)]
    return metrics_in(expr).union(*map(behind, recorded))


def panels_that(reads: Callable[[str], bool]) -> dict[str, list[str]]:
    """The titles of the panels one of whose expressions reads something, by dashboard."""
    found = {
        board(name)["title"].removeprefix("Gateway: "): [
            panel["title"] for panel in panels(name) if any(reads(target["expr"]) for target in panel["targets"])
        ]
        for name in BOARDS
    }
    return {name: titles for name, titles in found.items() if titles}


@cache
def nodes(*without: str) -> list[ast.AST]:
    """The code of the gateway without the sandbox, whose log is its own, and without other packages."""
    package = ROOT / "gateway"
    paths = [path for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in {"sandbox", *without}]
    return [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]


def calls(*without: str) -> Iterator[ast.Call]:
    """Every call in it."""
    return (node for node in nodes(*without) if isinstance(node, ast.Call))


def first_texts(function: str, *without: str) -> set[str]:
    """What functions of this name are given first, where it is a literal."""
    return {
        call.args[0].value
        for call in calls(*without)
        if call.args and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)
        and ast.unparse(call.func).rpartition(".")[2] == function
    }  # fmt: skip


def is_event_of_a_log(node: ast.expr) -> bool:
    """Whether it is `log.event`, however the log is reached; `sse.event` and `meter.event` are something else."""
    return isinstance(node, ast.Attribute) and node.attr == "event" and ast.unparse(node.value).endswith("log")


def names(first: ast.expr, kinds: set[str]) -> set[str]:
    """The events that a first argument can be; the processes' kinds stand in the place of `self._kind`."""
    match first:
        case ast.Constant(value=str(name)):
            return {name}
        case ast.JoinedStr():
            text = ast.unparse(first)[2:-1]
            assert {"self._kind"} == set(re.findall(r"\{(.*?)\}", text)), text
            return {text.replace("{self._kind}", kind) for kind in kinds}
    raise AssertionError(f"line {first.lineno}: which event is {ast.unparse(first)}?")


def written() -> dict[str, Event]:
    """Every event that the code can write."""
    found: defaultdict[str, Event] = defaultdict(Event)
    kinds = first_texts("ProcessPool")
    for call in calls():
        is_report = ast.unparse(call.func).rpartition(".")[2] in REPORTS
        is_named = bool(call.args) and isinstance(call.args[0], ast.Constant | ast.JoinedStr)
        if not is_event_of_a_log(call.func) and not (is_report and is_named):  # others report a task that failed
            continue
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        level = given.pop("level", ast.Constant("info"))
        for name in names(call.args[0], kinds) - NEVER:
            found[name].levels.add(str(level.value) if isinstance(level, ast.Constant) else "any")
            for key, value in given.items():
                if key is not None:
                    found[name].fields.add(key)
                elif "exception_fields(" in ast.unparse(value):
                    found[name].fields |= {"exception", "at"}
                else:
                    found[name].has_more = True
    return dict(found)


def runbook() -> dict[str, str]:
    """The text of each entry of the runbook."""
    parts = re.split(r"^## (.+)$", (ROOT / "docs" / "runbook.md").read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def outcomes() -> set[str]:
    """How a call can end: by an error of the tree, well, or with its worker."""
    tree = {kind.outcome for kind in vars(errors).values() if hasattr(kind, "outcome")}
    return tree | {*ANSWERED.values(), "ok", "lost"}


def operations() -> set[str]:
    """What a gateway that serves asks of its stores: scripts, but those that only try them, and commands."""
    scripts = {
        ast.literal_eval(call.args[1]) for call in calls() if ast.unparse(call.func) == "Script.read" and call.args[1:]
    }
    return scripts - {"probe"} | {name.lower() for name in first_texts("command", "commands")}


def tasks() -> set[str]:
    """Background tasks whose failures are counted; that of a worker's drain is asyncio's to log."""
    return (first_texts("keep") | first_texts("start")) - {"drain"} | {"worker"}


def test_the_metrics_are_those_of_the_code() -> None:
    """Every metric is there with its type and its labels, and no other; of a gauge how processes are joined."""
    declared = {
        one.name: (f"gauge ({one.workers.removeprefix('live')})" if one.type == "gauge" else one.type, one.labels)
        for one in instruments().values()
    }
    rows = table("What each metric says")
    assert declared == {codes(row["metric"])[0]: (row["type"], tuple(codes(row["labels"]))) for row in rows}
    assert len(declared) == len(rows)


def test_the_bounds_are_those_of_the_code() -> None:
    """The bounds of every histogram are listed, and no others."""
    lists = {" ".join(f"{bound:g}" for bound in one.bounds) for one in instruments().values() if one.bounds}
    prose = " ".join(TEXT.split())
    assert lists == {code for code in codes(prose) if re.fullmatch(r"[\d.]+( [\d.]+)+", code)}


def test_each_metric_names_its_readers() -> None:
    """The alerts, recording rules and panels of each metric are those whose expressions read it."""
    found: dict[str, Readers] = {
        name: (
            {alert for alert, expr in rules("alert").items() if name in behind(expr)},
            {":".join(rule.split(":")[:2]) for rule, expr in rules("record").items() if name in metrics_in(expr)},
            panels_that(lambda expr, name=name: name in metrics_in(expr)),  # type: ignore[misc]
        )
        for name in instruments()
    }
    said = {
        codes(row["metric"])[0]: (entries(row["alerts"]), set(codes(row["recording rules"])), shown(row["panels"]))
        for row in table("Who reads each metric")
    }
    assert found == said


def test_the_recording_rules_are_those_of_prometheus() -> None:
    """Every recording rule is there, with the alerts and the panels that name it."""
    found = {
        rule: (
            {alert for alert, expr in rules("alert").items() if rule in recorded_in(expr)},
            panels_that(lambda expr, rule=rule: rule in recorded_in(expr)),  # type: ignore[misc]
        )
        for rule in {":".join(name.split(":")[:2]) for name in rules("record")}
    }
    said = {codes(row["rule"])[0]: (entries(row["alerts"]), shown(row["panels"])) for row in table("Recording rules")}
    assert found == said


def test_the_alerts_are_those_of_prometheus() -> None:
    """Every alert is named, and each that is named exists."""
    assert set(rules("alert")) == entries(TEXT)


def test_every_label_is_bounded() -> None:
    """Each label that a metric has is in the table of labels, and no other."""
    assert {label for one in instruments().values() for label in one.labels} == {
        codes(row["label"])[0] for row in table("What bounds each label")
    }


@pytest.mark.parametrize(
    ("label", "values"),
    [
        ("outcome` of calls", outcomes),
        ("cache`", lambda: set(get_args(Result))),
        ("result`", lambda: {*get_args(Result), "stored", "refused"}),
        ("limit`", lambda: {limit.name for limit in LIMITS}),
        ("kind`", lambda: set(get_args(Kind))),
        ("modality`", lambda: set(get_args(Modality))),
        ("operation`", operations),
        ("task`", tasks),
        ("method`", lambda: {*operations_of_dialects(), "other"}),
    ],
    ids=lambda value: value.replace("`", "") if isinstance(value, str) else "",
)
def test_closed_sets_are_those_of_the_code(label: str, values: Callable[[], set[str]]) -> None:
    """The values of a label are those that the code has for it."""
    (row,) = [row for row in table("What bounds each label") if row["label"] == f"`{label}"]
    assert values() == set(codes(row["values"]))


def test_the_events_are_those_of_the_code() -> None:
    """Every event that the code can write is there with its level and its fields, and no other; `call` is the access line."""
    rows = {codes(row["event"])[0]: row for row in table("Events")}
    code = written()
    assert set(code) == set(rows)
    assert {name: event.levels for name, event in code.items()} == {name: {row["level"]} for name, row in rows.items()}
    for name, event in code.items():
        fields = set(codes(rows[name]["fields"]))
        assert event.fields <= fields, name
        assert event.has_more or event.fields == fields, name


def test_the_log_is_handed_on_to_nobody_else() -> None:
    """Whoever is given `log.event` calls it by a name that is looked for here."""
    handed_on = [
        (ast.unparse(call.func), name)
        for call in calls()
        for name, value in [*((None, one) for one in call.args), *((word.arg, word.value) for word in call.keywords)]
        if is_event_of_a_log(value)
    ]
    called = sum(is_event_of_a_log(call.func) for call in calls())
    everywhere = sum(is_event_of_a_log(node) for node in nodes() if isinstance(node, ast.expr))
    assert HANDED_ON == set(handed_on)
    assert everywhere == called + len(handed_on)


def test_each_event_names_what_speaks_of_it() -> None:
    """The runbook's entries, and the operations guide, are linked from the events that stand in their code spans."""
    guide = codes((ROOT / "docs" / "operations.md").read_text())
    for row in table("Events"):
        (event,) = codes(row["event"])
        spoken_of = {
            name for name, text in runbook().items() if any(re.search(rf"\b{event}\b", code) for code in codes(text))
        }
        assert spoken_of == entries(row["spoken of in"]), event
        in_the_guide = bool({event, f'"event":"{event}"'}.intersection(guide))
        assert in_the_guide == ("(operations.md)" in row["spoken of in"]), event


def test_the_access_line_is_that_of_the_code() -> None:
    """The fields of the access line stand there in the order in which they are written, and so do its name and level."""
    fields = {one.name: one.default for one in msgspec.structs.fields(CallLine)}
    rows = {codes(row["field"])[0]: row["what bounds it"] for row in table("The access line")}
    assert list(fields) == list(rows)
    assert (f"always `{fields['event']}`", f"always `{fields['level']}`") == (rows["event"], rows["level"])


def test_the_access_line_names_what_speaks_of_it() -> None:
    """The entries of the runbook that speak of access lines are linked from theirs."""
    speak = {name for name, text in runbook().items() if re.search("access lines?", text, re.IGNORECASE)}
    section = TEXT.partition("### The access line\n")[2].partition("\n| ")[0]
    assert speak == entries(section)
