"""What do the dashboards ask of Prometheus?  The files of deploy/grafana/dashboards, with Grafana's variables filled in."""

import json
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).parents[2] / "deploy"
BOARDS = {path.stem: path for path in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))}


def board(name: str) -> dict[str, Any]:
    """One dashboard."""
    return dict(json.loads(BOARDS[name].read_text()))


def panels(name: str) -> list[dict[str, Any]]:
    """Its panels, in order."""
    return list(board(name)["panels"])


def filled(expr: str, *, rate_interval: str, over: str) -> str:
    """An expression as Grafana sends it, with every client chosen."""
    for variable, value in {"$__rate_interval": rate_interval, "$__range": over, "$client": ".*"}.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr, expr
    return expr
