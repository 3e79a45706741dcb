"""What would the dashboards show?  A preview drawn from a dashboard's JSON and a running Prometheus; it is not Grafana.

    python -m tests.deploy.preview overview --prometheus http://127.0.0.1:9090 --minutes 20 > overview.html

It asks what Grafana would ask and draws time series, figures, tables and bars well enough to judge a dashboard:
which panels there are, what they are called, what they say of live data and of none.
"""

import argparse
import html
import math
import re
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.deploy.boards import BOARDS, board, filled
from tests.deploy.graph import NAMED, Series, graph, said
from tests.deploy.prometheus import Prometheus

WIDTH, ROW, GAP = 1600, 30, 8  # pixels; Grafana's 24 columns, and its rows
STYLE = """body{margin:0;background:#111217;color:#ccccdc;font:12px sans-serif}h1{font-size:18px;margin:12px 8px 2px}
p{margin:0 8px 10px;color:#9a9aa8}#b{position:relative}.p{position:absolute;box-sizing:border-box;overflow:hidden;
background:#181b1f;border:1px solid #2a2d33;border-radius:3px;padding:6px 8px}.t{font-weight:bold;white-space:nowrap}
.c{position:absolute;inset:26px 8px 6px;display:flex;flex-direction:column;justify-content:center}.none{text-align:center;
color:#8e8e9c}.big{font-size:30px;font-weight:bold;text-align:center}.l{line-height:15px;max-height:30px;overflow:hidden}
.l span{margin-right:10px;white-space:nowrap}table{border-collapse:collapse;width:100%;align-self:flex-start}
.c.top{justify-content:flex-start}td,th{text-align:left;padding:3px 8px;border-bottom:1px solid #2a2d33}th{color:#6e9fff}
.n{text-align:right}.bar{background:#22252b;height:14px}text{fill:#9a9aa8;font:11px sans-serif}"""


@dataclass(kw_only=True)
class View:
    """Whom to ask, and about which time."""

    server: Prometheus
    minutes: float
    scrape: int  # seconds
    end: float = field(default_factory=time.time)

    @property
    def begin(self) -> float:
        return self.end - self.minutes * 60

    def asked(self, panel: Mapping[str, Any]) -> list[list[Series]]:
        """What each expression of a panel gives."""
        return [self._series(target) for target in panel["targets"]]

    def _series(self, target: Mapping[str, Any]) -> list[Series]:
        step = max(self.scrape, self.minutes * 60 / 300)
        interval = f"{max(4 * self.scrape, int(step) + self.scrape)}s"
        expr = filled(target["expr"], rate_interval=interval, over=f"{self.minutes * 60:.0f}s")
        if target.get("instant"):
            found = [(one["metric"], [one["value"]]) for one in self.server.query(expr)]
        else:
            found = [(o["metric"], o["values"]) for o in self.server.query_range(expr, self.begin, self.end, step)]
        legend, made = target.get("legendFormat", ""), []
        for labels, values in found:
            points = [(float(when), float(value)) for when, value in values if math.isfinite(float(value))]
            if points:
                made.append(Series(name=named(legend, labels), labels=labels, points=points))
        return made


def named(legend: str, labels: Mapping[str, str]) -> str:
    """What a line is called: the legend with its labels filled in."""
    return re.sub(r"\{\{(\w+)}}", lambda match: labels.get(match[1], ""), legend)


def colour_at(value: float, defaults: Mapping[str, Any]) -> str:
    """The colour of the last threshold that a value has reached."""
    steps = defaults["thresholds"]["steps"]
    reached = [str(step["color"]) for step in steps if step["value"] is None or value >= step["value"]]
    return NAMED.get(reached[-1], reached[-1])


def lines(panel: Mapping[str, Any], asked: list[list[Series]], view: View) -> str:
    """Time series of all expressions in one picture."""
    grid = panel["gridPos"]
    size = grid["w"] * WIDTH / 24 - GAP - 20, grid["h"] * (ROW + GAP) - GAP - 70
    return graph(panel, [one for found in asked for one in found], view.begin, view.end, size)


def stat(panel: Mapping[str, Any], asked: list[list[Series]], _: View) -> str:
    """One figure, its colour by threshold."""
    defaults, value = panel["fieldConfig"]["defaults"], asked[0][0].last
    back = (
        f"background:{colour_at(value, defaults)};color:#fff" if panel["options"]["colorMode"] == "background" else ""
    )
    return f'<div class="big" style="{back};flex:1;display:grid;place-items:center">{said(value, defaults)}</div>'


def bars(panel: Mapping[str, Any], asked: list[list[Series]], _: View) -> str:
    """A bar for each series."""
    defaults = panel["fieldConfig"]["defaults"]
    return "".join(
        f'<div style="margin:3px 0"><span>{html.escape(one.name)}</span><b style="float:right;color:{colour}">'
        f'{said(one.last, defaults)}</b><div class="bar"><div style="height:100%;background:{colour};'
        f'width:{min(one.last / defaults["max"], 1) * 100:.1f}%"></div></div></div>'
        for one in asked[0] for colour in [colour_at(one.last, defaults)]
    )  # fmt: skip


def rows(panel: Mapping[str, Any], asked: list[list[Series]]) -> Iterator[dict[str, str]]:
    """The rows of a table: the labels, and where several expressions are joined by a label, the value of each."""
    changes = {one["id"]: one["options"] for one in panel["transformations"]}
    organized, joined = changes["organize"], changes.get("joinByField")
    wanted = organized["renameByName"]
    if joined is None:
        for one in asked[0]:
            yield {wanted.get(name, name): one.labels.get(name, "") for name in organized["indexByName"]}
        return
    by = joined["byField"]
    values = [{one.labels[by]: one.last for one in found} for found in asked]
    sort = changes["sortBy"]["sort"][0]["field"]
    first = list(wanted.values()).index(sort)
    for key in sorted({key for found in values for key in found}, key=lambda key: -values[first].get(key, 0)):
        cells = [said(found[key], panel["fieldConfig"]["defaults"]) if key in found else "" for found in values]
        yield {by: key, **dict(zip(wanted.values(), cells, strict=True))}


def table(panel: Mapping[str, Any], asked: list[list[Series]], _: View) -> str:
    """Rows and columns."""
    made = list(rows(panel, asked))
    head = [name for name in made[0] if any(row[name] for row in made)]
    body = "".join("<tr>" + "".join(f"<td>{html.escape(row[name])}</td>" for name in head) + "</tr>" for row in made)
    return f"<table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{body}</table>"


DRAWN = {"timeseries": lines, "stat": stat, "bargauge": bars, "table": table}


def page(name: str, view: View) -> str:
    """The whole dashboard as HTML."""
    shown, boxes, bottom = board(name), [], 0
    for panel in shown["panels"]:
        grid, asked = panel["gridPos"], view.asked(panel)
        place = {key: grid[key] * size for key, size in (("x", WIDTH / 24), ("w", WIDTH / 24), ("y", ROW + GAP), ("h", ROW + GAP))}  # fmt: skip
        nothing = f'<div class="none">{panel["fieldConfig"]["defaults"]["noValue"]}</div>'
        content = DRAWN[panel["type"]](panel, asked, view) if any(asked) else nothing
        top = " top" if panel["type"] in {"table", "bargauge"} and any(asked) else ""
        boxes.append(
            f'<div class="p" style="left:{place["x"] + GAP / 2:.0f}px;top:{place["y"]}px;width:{place["w"] - GAP:.0f}px;'
            f'height:{place["h"] - GAP}px"><div class="t">{html.escape(panel["title"])}</div><div class="c{top}">{content}</div></div>'
        )
        bottom = max(bottom, place["y"] + place["h"])
    return (
        f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style><body style="width:{WIDTH}px"><h1>{shown["title"]}</h1>'
        f'<p>{shown["description"]} (A preview, not Grafana; times are UTC.)</p><div id="b" style="height:{bottom}px">{"".join(boxes)}</div>'
    )


def main() -> None:
    """Write one dashboard's page to stdout."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("board", choices=sorted(BOARDS))
    parser.add_argument("--prometheus", default="http://127.0.0.1:9090", metavar="URL")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--scrape", type=int, default=15, metavar="SECONDS", help="how often that Prometheus scrapes")
    given = parser.parse_args()
    view = View(server=Prometheus(given.prometheus), minutes=given.minutes, scrape=given.scrape)
    sys.stdout.write(page(given.board, view))


if __name__ == "__main__":
    main()
