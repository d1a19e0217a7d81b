"""The history of runs, as a terminal table and as an HTML page."""

from __future__ import annotations

from typing import Any

from rtbench.report.cells import NOTHING
from rtbench.report.encodings import BAD, Spec
from rtbench.report.html import render_page
from rtbench.report.lines import Lines, aligned
from rtbench.report.visible import visible
from rtbench.review.diff import UNITS, Figure
from rtbench.review.history import History, Point

FIGURES: dict[Figure, tuple[str, str]] = {
    "latency": ("p50_ms", "median ms"),
    "accuracy": ("top1", "top-1 %"),
    "size": ("size_mib", "MiB"),
}


HEADERS = ("row", "p50 ms", "top-1 %", "MiB", "changed")
RIGHT = (False, True, True, True, False)


def render_history(history: History) -> Lines:
    """Each run's time and name, and under it a line a row."""
    history = visible(history)
    cells = [(_name(point), *_figures(point), _changes(point)) for point in history.points]
    header, *lines = aligned([HEADERS, *cells], RIGHT)
    shown = [(header, "bold")]
    run = None
    for point, line in zip(history.points, lines, strict=True):
        if point.run != run:
            shown.append((f"{_time(point)} {point.run}", ""))
            run = point.run
        shown.append((line, "red" if False in point.better.values() else "green" if point.better else ""))
    return Lines(shown)


def _name(point: Point) -> str:
    return point.row if point.row.startswith(f"{point.model}/") else f"{point.model}/{point.row}"


def _time(point: Point) -> str:
    return point.created[:16].replace("T", " ")


def render_history_page(history: History) -> str:
    """A page of trends: for each model and row a chart of each figure over time, and all runs as a table."""
    series: dict[str, dict[str, list[Point]]] = {}
    for point in history.points:
        name = point.row.removeprefix(f"{point.model}/")
        series.setdefault(point.model, {}).setdefault(name, []).append(point)
    machines = list(dict.fromkeys(point.machine for point in history.points))
    specs: dict[str, Spec] = {}
    cards: dict[str, list[tuple[str, list[tuple[str, str]]]]] = {}
    for model_index, (model, rows) in enumerate(series.items()):
        for row_index, (name, points) in enumerate(rows.items()):
            charts = []
            for figure, (field, title) in FIGURES.items():
                spec = _trend(points, figure, field, title, machines)
                if spec:
                    specs[f"{figure}-{model_index}-{row_index}"] = spec
                    charts.append((f"{figure}-{model_index}-{row_index}", f"{title} of {model} {name} over time"))
            cards.setdefault(model, []).append((name, charts))
    return render_page(
        "history.html",
        title=f"rtbench history: {history.folder}",
        history=history,
        runs=len({point.run for point in history.points}),
        models=cards,
        machines=list(enumerate(machines)),
        lines=[(point, _figures(point), _changes(point)) for point in history.points],
        specs=specs,
    )


RINGS: Spec = {
    "transform": [{"filter": "datum.mark !== null"}],
    "mark": {"type": "point", "size": 190, "strokeWidth": 2.5, "filled": False, "opacity": 1},
    "encoding": {
        "color": {
            "field": "mark",
            "scale": {"domain": ["better", "worse"], "range": ["var(--good)", "var(--bad)"]},
            "legend": None,
        },
        "shape": {
            "field": "mark",
            "scale": {"domain": ["better", "worse"], "range": ["circle", "square"]},
            "legend": None,
        },
    },
}
"""Drawn around the points that changed."""
WHY_LOST = [{"field": "run"}, {"field": "machine"}, {"field": "status"}]
CROSSES: Spec = {
    "name": "lost",
    "mark": {"type": "point", "shape": "cross", "size": 60, "angle": 45, "color": BAD, "filled": True, "opacity": 1},
}
"""Where a run has no figure of this row: it failed, was invalid or unavailable."""


def _trend(points: list[Point], figure: Figure, field: str, title: str, machines: list[str]) -> Spec | None:
    scale = 100 if figure == "accuracy" else 1
    values: list[dict[str, Any]] = [
        {
            "time": point.created,
            "run": point.run,
            "machine": point.machine,
            "value": scale * value,
            "mark": _mark(point, figure),
        }
        for point in points
        if (value := getattr(point, field)) is not None
    ]
    if not values:
        return None
    low, high = min(each["value"] for each in values), max(each["value"] for each in values)
    margin = 0.12 * (high - low) or 0.05 * high or 1.0
    lost = [
        {"time": each.created, "run": each.run, "machine": each.machine, "value": low - margin, "status": each.status}
        for each in points
        if getattr(each, field) is None and each.status != "ok"
    ]
    x = {"field": "time", "type": "temporal", "title": None, "axis": {"tickCount": 4, "labelOverlap": True}}
    y = {
        "field": "value",
        "type": "quantitative",
        "title": title,
        "scale": {"domain": [low - margin, high + margin], "nice": False},
        "axis": {"tickCount": 4 if figure == "latency" else 3},
    }
    colour = {
        "field": "machine",
        "type": "nominal",
        "scale": {"domain": machines, "range": [f"var(--c{(index + 1) % 8})" for index in range(len(machines))]},
        "legend": None,
    }
    tooltip = [
        {"field": "time", "type": "temporal", "format": "%Y-%m-%d %H:%M"},
        {"field": "run"},
        {"field": "machine"},
        {"field": "value", "type": "quantitative", "title": title, "format": ".4~g"},
        {"field": "mark", "title": "changed"},
    ]
    return {
        "data": {"name": "points", "values": values},
        "height": 110 if figure == "latency" else 64,
        "encoding": {"x": x, "y": y, "tooltip": tooltip},
        "layer": [
            {"mark": {"type": "line", "strokeWidth": 1.5, "opacity": 0.7}, "encoding": {"color": colour}},
            {
                "name": "points",
                "mark": {"type": "point", "filled": True, "size": 36, "opacity": 1},
                "encoding": {"color": colour},
            },
            *([RINGS] if any(each["mark"] for each in values) else []),
            *([CROSSES | {"data": {"values": lost}, "encoding": {"tooltip": WHY_LOST}}] if lost else []),
        ],
        "resolve": {"scale": {"color": "independent"}},
    }


def _mark(point: Point, figure: Figure) -> str | None:
    """Whether it changed."""
    return None if figure not in point.better else "better" if point.better[figure] else "worse"


def _figures(point: Point) -> tuple[str, str, str]:
    return (
        f"{point.p50_ms:#.4g}" if point.p50_ms is not None else point.status if point.status != "ok" else NOTHING,
        f"{100 * point.top1:.2f}" if point.top1 is not None else NOTHING,
        f"{point.size_mib:.2f}" if point.size_mib is not None else NOTHING,
    )


def _changes(point: Point) -> str:
    return ", ".join(
        f"{figure} {100 * change:+.1f} {UNITS[figure]} {'better' if point.better[figure] else 'worse'}"
        for figure, change in point.change.items()
    )
