"""The charts of what rows are and score as Vega-Lite specifications.

Values are those of `result.json`, in the units of the axis; nothing is computed in the browser.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rtbench.records.run import Row, Run
from rtbench.report.encodings import BAD, FAINT, INK, Spec, by_runtime, milliseconds, tooltip_of
from rtbench.report.evidence import Flips
from rtbench.report.point_labels import point_labels
from rtbench.scores.answer import Quality, measured_rows, pareto_front, quality

SHOWN_CLASSES = 15


def front_chart(run: Run) -> Spec | None:
    """Quality over latency, size as area; size over latency where no row has a quality."""
    rows = measured_rows(run)
    known = {row.id: found for row in rows if (found := quality(run, row))}
    if known:
        rows = [row for row in rows if row.id in known]
    if not rows:
        return None
    front = [row.id for row in pareto_front(run)]
    name = next(iter(known.values())).name if known else None
    title = {"top-1": "top-1 %", "agreement": "agreement with the model %", None: "MiB"}[name]
    values = sorted(
        (_front_point(row, known.get(row.id), row.id in front) for row in rows), key=lambda each: float(each["mean_ms"])
    )
    spans = [each[key] for each in values for key in ("mean_ms", "mean_low_ms", "mean_high_ms") if each[key]]
    x = milliseconds("mean latency", spans) | {"field": "mean_ms"}
    least = x["scale"]["domain"][0]
    values = [each | {"mean_low_ms": each["mean_low_ms"] and max(each["mean_low_ms"], least)} for each in values]
    ends = [each[key] for each in values for key in ("worth", "worth_low", "worth_high") if each[key] is not None]
    margin = 0.12 * (max(ends) - min(ends)) or 0.02 * max(ends)
    bottom, top = max(min(ends) - margin, 0.0), min(max(ends) + margin, 100.0 if known else float("inf"))
    y = {
        "field": "worth",
        "type": "quantitative",
        "title": title,
        "axis": {"titleY": -28},
        "scale": {"domain": [bottom, top], "nice": False, "zero": False},
    }
    size = {
        "field": "size_mib",
        "type": "quantitative",
        "title": "MiB",
        "scale": {"type": "linear", "zero": True, "range": [0, 900]},
        "legend": None,
    }
    colour = by_runtime(values, run)
    return {
        "data": {"name": "rows", "values": values},
        "height": 340,
        "encoding": {"x": x, "y": y},
        "layer": [
            {
                "data": {"name": "front", "values": _front_line(values, bottom if known else top, x)},
                "mark": {"type": "line", "interpolate": "step-after", "color": FAINT, "strokeDash": [5, 4]},
                "encoding": {"order": {"field": "turn"}},
            },
            *_intervals("x", x, "mean_low_ms", "mean_high_ms", values),
            *_intervals("y", y, "worth_low", "worth_high", values),
            {
                "name": "points",
                "mark": {"type": "point", "filled": True, "opacity": 0.75, "stroke": INK, "strokeWidth": 0.6},
                "encoding": {
                    "size": size,
                    "color": colour | {"legend": colour["legend"] and colour["legend"] | {"offset": 44}},
                    "tooltip": tooltip_of("row", "mean_ms", "worth", "size_mib", worth=title),
                },
            },
            *point_labels(values, x["scale"], (bottom, top)),
        ],
    }


def _front_line(values: Sequence[dict[str, Any]], start: float, x: Spec) -> list[dict[str, float]]:
    """The front as steps, from the edge of the chart over its rows to the other edge."""
    rows = [(each["mean_ms"], each["worth"]) for each in values if each["front"]]
    path = [(rows[0][0], start), *rows, (x["scale"]["domain"][1], rows[-1][1])]
    return [{"turn": turn, "mean_ms": ms, "worth": worth} for turn, (ms, worth) in enumerate(path)]


def _front_point(row: Row, found: Quality | None, on_front: bool) -> dict[str, Any]:
    assert row.latency and row.artifact
    low, high = row.latency.mean_ci95_ms or (None, None)
    size = row.artifact.size_bytes / 2**20
    worth_low, worth_high = found.ci95 if found and found.ci95 else (None, None)
    return {
        "row": row.id,
        "runtime": row.runtime,
        "mean_ms": row.latency.mean_ms,
        "mean_low_ms": low,
        "mean_high_ms": high,
        "worth": 100 * found.value if found else size,
        "worth_low": None if worth_low is None else 100 * worth_low,
        "worth_high": None if worth_high is None else 100 * worth_high,
        "size_mib": size,
        "front": on_front,
    }


def score_chart(run: Run, score: str) -> Spec | None:
    """One score of every row as bars, with the baseline's 1.0 as a line."""
    values = [
        {"row": row.id, "runtime": row.runtime, "score": value}
        for row in run.rows
        if row.scores and (value := getattr(row.scores, score)) is not None
    ]
    if not values or run.baseline is None:
        return None
    y = {"field": "row", "type": "nominal", "sort": None, "title": None}
    return {
        "data": {"name": "rows", "values": values},
        "height": 22 * len(values),
        "layer": [
            {
                "data": {"values": [{"baseline": 1.0}]},
                "mark": {"type": "rule", "color": INK, "strokeDash": [3, 2], "strokeWidth": 1.5},
                "encoding": {"x": {"field": "baseline", "type": "quantitative"}},
            },
            {
                "name": "bars",
                "mark": {"type": "bar", "height": {"band": 0.65}},
                "encoding": {
                    "y": y,
                    "x": {"field": "score", "type": "quantitative", "title": None, "axis": {"tickCount": 5}},
                    "color": by_runtime(values, run),
                    "tooltip": tooltip_of("row", "score"),
                },
            },
            {
                "mark": {"type": "text", "align": "left", "dx": 4, "color": INK},
                "encoding": {
                    "y": y,
                    "x": {"field": "score", "type": "quantitative"},
                    "text": {"field": "score", "format": ".2f"},
                },
            },
        ],
    }


def stage_chart(run: Run) -> Spec | None:
    """Quality of every row from the model through ONNX to the engine, where it went."""
    found = [(row, known) for row in run.rows if (known := quality(run, row))]
    if not found:
        return None
    values = [
        {
            "row": row.id,
            "runtime": row.runtime,
            "stage": stage(row),
            "worth": 100 * known.value,
            "low": 100 * known.ci95[0] if known.ci95 else None,
            "high": 100 * known.ci95[1] if known.ci95 else None,
        }
        for row, known in found
    ]
    values.sort(key=lambda each: _turn(str(each["stage"])))
    title = "top-1 %" if found[0][1].name == "top-1" else "agreement with the model %"
    y = {"field": "row", "type": "nominal", "sort": None, "title": None}
    x = {"type": "quantitative", "title": title, "scale": {"zero": False, "padding": 12}}
    first = [{"worth": values[0]["worth"]}]
    return {
        "data": {"name": "rows", "values": values},
        "height": 28 * len(values),
        "encoding": {"y": y},
        "layer": [
            {
                "data": {"values": first},
                "mark": {"type": "rule", "color": FAINT, "strokeDash": [3, 2]},
                "encoding": {"x": x | {"field": "worth"}, "y": None},
            },
            *_intervals("x", x, "low", "high", values),
            {
                "name": "points",
                "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1},
                "encoding": {
                    "x": x | {"field": "worth"},
                    "color": by_runtime(values, run),
                    "tooltip": tooltip_of("row", "stage", "worth", worth=title),
                },
            },
            {
                "mark": {"type": "text", "dy": -11, "color": INK},
                "encoding": {"x": x | {"field": "worth"}, "text": {"field": "worth", "format": ".1f"}},
            },
        ],
    }


OWN = frozenset({"state_dict", "torchscript", "pickle", "pt2", "saved_model", "fake"})
"""Formats of models themselves."""
NAMES = {"onnx": "ONNX", "onnx_trt": "ONNX", "tflite": "TFLite", "engine": "engine"}
KINDS, PRECISIONS = ("model", "ONNX", "TFLite", "engine"), ("FP32", "BF16", "FP16", "INT8")


def stage(row: Row) -> str:
    """How far from the model this row's artifact is; formats of other packages have their own names."""
    kind = row.artifact.format if row.artifact else "onnx"
    return "model" if kind in OWN else f"{NAMES.get(kind, kind)} {row.precision.upper()}"


def _turn(stage: str) -> tuple[int, str, int]:
    """Where a stage is on the way from the model."""
    kind, _, precision = stage.partition(" ")
    return (
        KINDS.index(kind) if kind in KINDS else len(KINDS),
        kind,
        PRECISIONS.index(precision) if precision in PRECISIONS else 0,
    )


def flips_chart(found: Sequence[Flips]) -> Spec:
    """Images by class that a row answers otherwise than the model: lost to the left, gained to the right."""
    kinds = (("lost", -1), ("gained", 1), ("other", 1))
    shown = found[:SHOWN_CLASSES]
    most = max(max(each.lost, each.gained + each.other) for each in shown)
    step = -(-most // 4)
    values = [
        {"class": each.label, "kind": kind, "images": sign * getattr(each, kind), "of": each.images}
        for each in shown
        for kind, sign in kinds
        if getattr(each, kind)
    ]
    return {
        "data": {"name": "classes", "values": values},
        "height": 18 * len(shown),
        "mark": {"type": "bar", "height": {"band": 0.7}},
        "encoding": {
            "y": {"field": "class", "type": "nominal", "sort": None, "title": None},
            "x": {
                "field": "images",
                "type": "quantitative",
                "title": "images: lost | gained, or wrong in another way",
                "scale": {"domain": [-most, most], "nice": False},
                "axis": {"values": list(range(-4 * step, 4 * step + 1, step)), "format": "d"},
            },
            "color": {
                "field": "kind",
                "scale": {"domain": ["lost", "gained", "other"], "range": [BAD, "var(--good)", FAINT]},
                "legend": {"orient": "top", "title": None},
            },
            "tooltip": tooltip_of("class", "kind", "images", "of"),
        },
    }


def _intervals(axis: str, scale: Spec, low: str, high: str, values: Sequence[dict[str, Any]]) -> list[Spec]:
    """A layer of thin lines from `low` to `high`, none where no value has an interval."""
    if all(each[low] is None for each in values):
        return []
    return [
        {
            "transform": [{"filter": f"isValid(datum.{low})"}],
            "mark": {"type": "rule", "color": INK, "opacity": 0.5},
            "encoding": {axis: scale | {"field": low}, f"{axis}2": {"field": high}},
        }
    ]
