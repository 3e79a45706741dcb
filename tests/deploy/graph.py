"""How does the preview draw lines over time, and say a value in its unit?"""

import html
import itertools
import math
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PALETTE = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#37872d", "#fade2a", "#a352cc")
NAMED = {
    "green": "#56a64b", "yellow": "#e0b400", "orange": "#ff780a", "red": "#e02f44", "blue": "#3274d9", "purple": "#8f3bb8",
    "light-blue": "#8ab8ff", "dark-red": "#ad0317", "dark-orange": "#c15c17",
}  # fmt: skip
SECONDS = ((60, " min"), (1, " s"), (1e-3, " ms"), (0, " µs"))
COUNTS = ((1e9, " Bil"), (1e6, " Mil"), (1e3, " K"), (0, ""))
ENDINGS = {"reqps": " req/s", "ops": " ops/s", "none": "", "short": ""}
LEFT, BOTTOM = 62, 16  # pixels kept for the axes


@dataclass(kw_only=True)
class Series:
    """One line of a panel."""

    name: str
    labels: Mapping[str, str]
    points: list[tuple[float, float]]  # when, how much

    @property
    def last(self) -> float:
        return self.points[-1][1]


def said(value: float, defaults: Mapping[str, Any]) -> str:
    """A value in the panel's unit."""
    for mapping in defaults.get("mappings", []):
        if found := mapping["options"].get(f"{value:g}"):
            return str(found["text"])
    unit, decimals = defaults["unit"], defaults.get("decimals")
    if unit == "percentunit":
        return f"{value * 100:.{decimals}f}%" if decimals is not None else f"{value * 100:.3g}%"
    if unit == "s":
        least, name = next(one for one in SECONDS if value >= one[0])
        return f"{value / (least or 1e-6):.3g}{name}" if value else "0 s"
    least, name = next(one for one in COUNTS if abs(value) >= one[0])
    number = f"{value:.{decimals}f}" if decimals is not None and not least else f"{value / (least or 1):.3g}"
    return number + name + ENDINGS[unit]


def colours(panel: Mapping[str, Any], series: Sequence[Series]) -> list[str]:
    """The colour of each line: that given for its name, else the next of the palette."""
    given = {
        one["matcher"]["options"].strip("/"): change["value"]["fixedColor"]
        for one in panel["fieldConfig"]["overrides"]
        for change in one["properties"]
        if change["id"] == "color"
    }

    def of(at: int, name: str) -> str:
        found = [colour for pattern, colour in given.items() if pattern == name or re.match(pattern + r"\b", name)]
        return NAMED.get(found[0], found[0]) if found else PALETTE[at % len(PALETTE)]

    return [of(at, one.name) for at, one in enumerate(series)]


def graph(
    panel: Mapping[str, Any], series: Sequence[Series], begin: float, end: float, size: tuple[float, float]
) -> str:
    """Lines over time, or areas on top of each other, and what they are called."""
    defaults, (width, height) = panel["fieldConfig"]["defaults"], size
    custom = defaults["custom"]
    stack = "stacking" in custom
    bands = list(stacked(series) if stack else ([(at, 0.0, value) for at, value in one.points] for one in series))
    if custom.get("lineInterpolation") == "stepAfter":
        bands = [stairs(band) for band in bands]
    limit = defaults["thresholds"]["steps"][-1]["value"] if "thresholds" in defaults else 0.0
    marks = ticks(defaults.get("max") or max([limit * 1.1, *(top for band in bands for _, _, top in band)]) or 1)

    def at(when: float, value: float) -> str:
        across, up = (when - begin) / (end - begin), value / marks[-1]
        return f"{LEFT + across * (width - LEFT):.1f},{height - BOTTOM - up * (height - BOTTOM - 8):.1f}"

    drawn = list(axes(marks if "mappings" not in defaults else [0.0, 1.0], defaults, begin, end, at))
    for band, colour in zip(bands, colours(panel, series), strict=True):
        path = "L".join(at(when, top) for when, _, top in band)
        if stack:
            back = "L".join(at(when, under) for when, under, _ in reversed(band))
            drawn.append(f'<path d="M{path}L{back}Z" fill="{colour}" fill-opacity="0.6"/>')
        drawn.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="{custom["lineWidth"]}"/>')
    if limit:
        drawn.append(f'<path d="M{at(begin, limit)}L{at(end, limit)}" stroke="#e02f44" stroke-dasharray="6 4"/>')
    legend = " ".join(
        f'<span><b style="color:{colour}">━</b> {html.escape(one.name)}</span>'
        for one, colour in zip(series, colours(panel, series), strict=True)
    )
    return f'<svg width="{width:.0f}" height="{height:.0f}">{"".join(drawn)}</svg><div class="l">{legend}</div>'


Band = list[tuple[float, float, float]]  # when, from, to


def stacked(series: Sequence[Series]) -> list[Band]:
    """Each series on top of those before it, at every moment that one of them knows."""
    moments = sorted({when for one in series for when, _ in one.points})
    under = dict.fromkeys(moments, 0.0)
    bands = []
    for one in series:
        known = dict(one.points)
        bands.append([(when, under[when], under[when] + known.get(when, 0.0)) for when in moments])
        under = {when: top for when, _, top in bands[-1]}
    return bands


def stairs(band: Band) -> Band:
    """MemoryLease each value until the next one."""
    held = [(later[0], *earlier[1:]) for earlier, later in itertools.pairwise(band)]
    return [point for pair in zip(band, [*held, band[-1]], strict=True) for point in pair]


def ticks(top: float) -> list[float]:
    """Four or five round numbers from 0 up to the top or just above it."""
    step = next(s for e in range(-9, 15) for s in (10.0**e, 2 * 10.0**e, 2.5 * 10.0**e, 5 * 10.0**e) if top / s <= 4)
    return [step * n for n in range(math.ceil(top / step - 1e-9) + 1)]


def axes(marks: Sequence[float], defaults: Mapping[str, Any], begin: float, end: float, at: Any) -> list[str]:
    """A line for each mark, and five times of day."""
    drawn = []
    for mark in marks:
        x, y = at(begin, mark).split(",")
        drawn.append(f'<path d="M{x},{y}L{at(end, mark)}" stroke="#2a2d33"/>')
        drawn.append(f'<text text-anchor="end" x="{float(x) - 6}" y="{float(y) + 4}">{said(mark, defaults)}</text>')
    for n in range(5):
        when = begin + (n + 0.5) / 5 * (end - begin)
        x, y = at(when, 0).split(",")
        clock = time.strftime("%H:%M", time.gmtime(when))
        drawn.append(f'<text text-anchor="middle" x="{x}" y="{float(y) + BOTTOM - 1}">{clock}</text>')
    return drawn
