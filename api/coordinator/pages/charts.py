"""Charts of epsilons, each with its numbers as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nicegui import ui

from api.pages.parts import scrolled

STYLE = """
:root { --chart-1: #14655a; --chart-2: #9a5b00; --chart-3: #6a4fb3; --chart-limit: #a4160d; }
body.body--dark { --chart-1: #5fc9b8; --chart-2: #e8a94a; --chart-3: #b9a4f5;
  --chart-limit: #ff9d94; }
.chart { width: 100%; height: 19rem; }
.chart text { fill: var(--muted); stroke: none; }
"""
COLOURS = ("var(--chart-1)", "var(--chart-2)", "var(--chart-3)")
# Lines differ in more than colour.
_SYMBOLS = ("circle", "triangle", "rect")
_DASHES = ("solid", "dashed", "dotted")
_LIMIT_DASH = [10, 4, 2, 4]
MOST_SYMBOLS = 60
FAR_APART = 10


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart.

    Attributes:
        points: (x, y); None where there is no bound.
        is_limit: whether it is what the others must not cross.
    """

    name: str
    points: Sequence[tuple[int, float | None]]
    is_limit: bool = False


def chart(
    title: str, x_name: str, lines: Sequence[Line], *, is_stepped: bool, now: int | None = None
) -> None:
    """Epsilons over a count of something, and below it the same as a table.

    `now` is marked on the x axis: what is to the right of it has not happened.
    """
    is_log = _is_log(lines)
    drawn = [_series(place, line, is_stepped, is_log) for place, line in enumerate(lines)]
    if now:
        drawn[0]["markLine"] = _mark(now)
    with ui.element("div").classes("w-full").props("role=img") as image:
        # Set as an attribute and never parsed, whatever is in the names.
        image.props["aria-label"] = f"{title}. {'; '.join(map(_summary, lines))}."
        ui.echart(_options(x_name, drawn, is_log), renderer="svg").classes("chart")
    with ui.expansion(f"{title}: as a table").classes("w-full").props("dense"), scrolled(title):
        _numbers(x_name, lines)


def _numbers(x_name: str, lines: Sequence[Line]) -> None:
    """One row for each x."""
    by_x: dict[int, dict[str, Any]] = {}
    for place, line in enumerate(lines):
        for x, y in line.points:
            by_x.setdefault(x, {"x": x})[f"line{place}"] = "unbounded" if y is None else f"{y:.4g}"
    columns = [{"name": "x", "label": x_name, "field": "x", "align": "left"}]
    columns += [
        {"name": f"line{place}", "label": line.name, "field": f"line{place}", "align": "right"}
        for place, line in enumerate(lines)
    ]
    table = ui.table(rows=list(by_x.values()), columns=columns, row_key="x", pagination=20)
    table.props('flat dense wrap-cells :rows-per-page-options="[20]"').classes("w-full")


def _summary(line: Line) -> str:
    known = [y for _, y in line.points if y is not None]
    if len(known) < len(line.points) or not known:
        return f"{line.name}: without a bound in places" if known else f"{line.name}: unbounded"
    if known[0] == known[-1]:
        return f"{line.name}: {known[0]:.4g}"
    return f"{line.name}: from {known[0]:.4g} to {known[-1]:.4g}"


def _is_log(lines: Sequence[Line]) -> bool:
    """Whether the lines are so far apart that the lower ones would lie on the axis."""
    ends = [line.points[-1][1] for line in lines if not line.is_limit]
    known = [end for end in ends if end]
    return len(known) > 0 and max(known) > FAR_APART * min(known)


def _mark(now: int) -> dict[str, Any]:
    return {
        "silent": True,
        "symbol": "none",
        "data": [{"xAxis": now}],
        "label": {"formatter": "charged so far", "textBorderWidth": 0},
        "lineStyle": {"color": "var(--muted)", "type": "solid", "width": 1},
    }


def _series(place: int, line: Line, is_stepped: bool, is_log: bool) -> dict[str, Any]:
    colour = "var(--chart-limit)" if line.is_limit else COLOURS[place]
    dash: Any = _LIMIT_DASH if line.is_limit else _DASHES[place]
    points = [(x, None if y is None else float(f"{y:.4g}")) for x, y in line.points]
    shows_symbols = not line.is_limit and len(line.points) <= MOST_SYMBOLS
    return {
        "type": "line",
        "name": line.name,
        # A logarithmic axis has no place for 0.
        "data": [[x, y] for x, y in points if y or not is_log],
        "step": "end" if is_stepped else False,
        "symbol": "diamond" if line.is_limit else _SYMBOLS[place],
        "showSymbol": shows_symbols,
        "symbolSize": 6,
        "lineStyle": {"color": colour, "width": 2, "type": dash},
        "itemStyle": {"color": colour},
        "emphasis": {"disabled": True},
    }


def _options(x_name: str, series: list[dict[str, Any]], is_log: bool) -> dict[str, Any]:
    rule = {"lineStyle": {"color": "var(--line)"}}
    return {
        "animation": False,
        "grid": {"left": 16, "right": 16, "top": 56, "bottom": 40},
        "legend": {"type": "scroll", "top": 0, "left": 0, "itemWidth": 34, "icon": "inherit"},
        # Rich text is drawn; the other way of ECharts would be HTML.
        "tooltip": {
            "trigger": "axis",
            "renderMode": "richText",
            "confine": True,
            "backgroundColor": "var(--soft)",
            "borderColor": "var(--line)",
        },
        "xAxis": {
            "type": "value",
            "name": x_name,
            "nameLocation": "middle",
            "nameGap": 24,
            "minInterval": 1,
            "min": "dataMin",
            "max": "dataMax",
            "splitLine": {"show": False},
            "axisLine": rule,
            "axisPointer": {"label": {"precision": 0}},
        },
        "yAxis": {
            "type": "log" if is_log else "value",
            "name": "Epsilon, logarithmic" if is_log else "Epsilon",
            "nameTextStyle": {"align": "left"},
            "splitLine": rule,
        },
        "series": series,
    }
