"""The charts of the HTML pages as Vega-Lite specifications.

Colours are the page's CSS variables, so that light, dark and print need no second drawing. Values are
those of `result.json`, in the units of the axis; nothing is computed in the browser.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rtbench.latency import Block
from rtbench.records import Row, Run
from rtbench.report.answer import Quality, measured_rows, pareto_front, quality
from rtbench.report.evidence import QUANTILES, Evidence, Flips, samples_ms

Spec = dict[str, Any]

RUNTIME_COLOURS = 8
LABELLED_POINTS = 16
SHOWN_SAMPLES = 400
"""Of each row in the chart over time, evenly spread; the line of medians rests on all."""
SHOWN_CLASSES = 15
BINS = 40
WIDE = 20
"""Slowest over fastest past which latency is drawn on a logarithmic axis."""
INK, FAINT, ACCENT, BAD = "var(--ink)", "var(--faint)", "var(--accent)", "var(--bad)"


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
    x = _milliseconds("mean latency", [each["mean_ms"] for each in values]) | {"field": "mean_ms"}
    ends = [each[key] for each in values for key in ("worth", "worth_low", "worth_high") if each[key] is not None]
    margin = 0.12 * (max(ends) - min(ends)) or 0.02 * max(ends)
    bottom, top = min(ends) - margin, max(ends) + margin
    y = {
        "field": "worth",
        "type": "quantitative",
        "title": title,
        "scale": {"domain": [bottom, top], "nice": False, "zero": False},
    }
    size = {
        "field": "size_mib",
        "type": "quantitative",
        "title": "MiB",
        "scale": {"type": "linear", "zero": True, "range": [0, 900]},
        "legend": None,
    }
    colour = _by_runtime(values, run)
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
                    "color": colour | {"legend": colour["legend"] and colour["legend"] | {"offset": 26}},
                    "tooltip": _tooltip("row", "mean_ms", "worth", "size_mib", worth=title),
                },
            },
            *_labels(values, x["scale"]["domain"][1]),
        ],
    }


def _front_line(values: Sequence[dict[str, Any]], start: float, x: Spec) -> list[dict[str, float]]:
    """The front as steps, from the edge of the chart over its rows to the other edge."""
    rows = [(each["mean_ms"], each["worth"]) for each in values if each["front"]]
    path = [(rows[0][0], start), *rows, (x["scale"]["domain"][1], rows[-1][1])]
    return [{"turn": turn, "mean_ms": ms, "worth": worth} for turn, (ms, worth) in enumerate(path)]


def _labels(values: Sequence[dict[str, Any]], right: float) -> list[Spec]:
    """Names beside the points, by turns above and below, leftwards near the right edge."""
    named = values if len(values) <= LABELLED_POINTS else [each for each in values if each["front"]]
    places: dict[tuple[bool, bool], list[dict[str, Any]]] = {}
    for turn, each in enumerate(named):
        places.setdefault((turn % 2 == 0, each["mean_ms"] > 0.6 * right), []).append(each)
    return [
        {
            "data": {"values": chosen},
            "mark": {
                "type": "text",
                "align": "right" if leftwards else "left",
                "baseline": "bottom" if above else "top",
                "dx": -9 if leftwards else 9,
                "dy": -7 if above else 7,
                "color": INK,
            },
            "encoding": {"text": {"field": "row"}},
        }
        for (above, leftwards), chosen in places.items()
    ]


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


def quantile_chart(run: Run, evidence: Evidence) -> Spec | None:
    """Every row's distribution on one axis: 5 to 95 %, the middle half, the median, and the mean."""
    values: list[dict[str, Any]] = []
    for row in run.rows:
        if row.latency and row.id in evidence.blocks:
            marks = np.percentile(samples_ms(evidence.blocks[row.id]), QUANTILES)
            named = {f"p{number}": float(value) for number, value in zip(QUANTILES, marks, strict=True)}
            values.append({"row": row.id, "runtime": row.runtime, "mean_ms": row.latency.mean_ms} | named)
    if not values:
        return None
    x = _milliseconds("latency", [each[end] for each in values for end in ("p5", "p95")])
    tooltip = _tooltip("row", "mean_ms", *(f"p{number}" for number in QUANTILES))
    return {
        "data": {"name": "rows", "values": values},
        "height": 24 * len(values),
        "encoding": {"y": {"field": "row", "type": "nominal", "sort": None, "title": None}, "tooltip": tooltip},
        "layer": [
            {"mark": {"type": "rule", "color": INK}, "encoding": {"x": x | {"field": "p5"}, "x2": {"field": "p95"}}},
            {
                "mark": {"type": "bar", "height": 10},
                "encoding": {"x": x | {"field": "p25"}, "x2": {"field": "p75"}, "color": _by_runtime(values, run)},
            },
            {"mark": {"type": "tick", "color": INK, "size": 14}, "encoding": {"x": x | {"field": "p50"}}},
            {
                "name": "points",
                "mark": {"type": "point", "shape": "diamond", "filled": True, "size": 40, "color": INK},
                "encoding": {"x": x | {"field": "mean_ms"}},
            },
        ],
    }


def histogram(blocks: Sequence[Block]) -> Spec:
    """One row's samples counted in bins; the last 1 % lie in the last bin."""
    samples = samples_ms(blocks)
    edges = np.linspace(samples.min(), max(float(np.percentile(samples, 99)), samples.min() * 1.001), BINS + 1)
    counts, _ = np.histogram(np.clip(samples, None, edges[-1]), edges)
    values = [
        {"from_ms": float(low), "to_ms": float(high), "runs": int(count)}
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    return {
        "data": {"name": "bins", "values": values},
        "height": 90,
        "mark": {"type": "bar", "color": ACCENT, "binSpacing": 0},
        "encoding": {
            "x": {
                "field": "from_ms",
                "type": "quantitative",
                "bin": "binned",
                "title": "ms",
                "scale": {"zero": False},
                "axis": {"tickCount": 4, "labelOverlap": True, "labelSeparation": 6},
            },
            "x2": {"field": "to_ms"},
            "y": {"field": "runs", "type": "quantitative", "title": "runs", "axis": {"tickCount": 3}},
            "tooltip": _tooltip("from_ms", "to_ms", "runs"),
        },
    }


def time_chart(blocks: Sequence[Block], origin_ns: int) -> Spec:
    """One row's samples over the time of the run, with each round's median; far outliers lie on the edge."""
    starts = np.concatenate([block.starts_ns for block in blocks])
    samples = samples_ms(blocks)
    top = float(np.percentile(samples, 98)) * 1.15
    bottom = float(samples.min()) * 0.97
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(SHOWN_SAMPLES, len(samples))).round().astype(int))
    values = [
        {
            "second": round((int(starts[index]) - origin_ns) / 1e9, 3),
            "ms": float(samples[index]),
        }
        for index in chosen
    ]
    medians = [
        {
            "second": round((int(block.starts_ns[0]) - origin_ns) / 1e9, 3),
            "median_ms": float(np.median(block.durations_ns)) / 1e6,
        }
        for block in blocks
    ]
    x = {"field": "second", "type": "quantitative", "title": "seconds into the measuring", "axis": {"tickCount": 6}}
    y = {
        "type": "quantitative",
        "title": "ms",
        "scale": {"domain": [bottom, top], "nice": False, "clamp": True},
        "axis": {"tickCount": 4},
    }
    return {
        "data": {"name": "samples", "values": values},
        "height": 90,
        "layer": [
            {
                "mark": {"type": "point", "filled": True, "size": 9, "opacity": 0.45},
                "encoding": {
                    "x": x,
                    "y": y | {"field": "ms"},
                    "color": {"condition": {"test": f"datum.ms > {top}", "value": BAD}, "value": ACCENT},
                    "tooltip": _tooltip("second", "ms"),
                },
            },
            {
                "data": {"name": "medians", "values": medians},
                "mark": {"type": "line", "color": INK, "strokeWidth": 1.5},
                "encoding": {"x": x, "y": y | {"field": "median_ms"}},
            },
        ],
    }


def score_chart(run: Run, score: str) -> Spec | None:
    """One score of every row as bars, with the baseline's 1.0 as a line."""
    values = [
        {"row": row.id, "runtime": row.runtime, "score": value}
        for row in run.rows
        if row.scores and (value := getattr(row.scores, score)) is not None
    ]
    if not values:
        return None
    y = {"field": "row", "type": "nominal", "sort": None, "title": None}
    return {
        "data": {"name": "rows", "values": values},
        "height": 22 * len(values),
        "layer": [
            {
                "name": "bars",
                "mark": {"type": "bar", "height": {"band": 0.65}},
                "encoding": {
                    "y": y,
                    "x": {"field": "score", "type": "quantitative", "title": None, "axis": {"tickCount": 5}},
                    "color": _by_runtime(values, run),
                    "tooltip": _tooltip("row", "score"),
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
            {
                "data": {"values": [{"baseline": 1.0}]},
                "mark": {"type": "rule", "color": INK, "strokeDash": [3, 2], "strokeWidth": 1.5},
                "encoding": {"x": {"field": "baseline", "type": "quantitative"}},
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
    values.sort(key=lambda each: STAGES.index(str(each["stage"])))
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
                    "color": _by_runtime(values, run),
                    "tooltip": _tooltip("row", "stage", "worth", worth=title),
                },
            },
            {
                "mark": {"type": "text", "dy": -11, "color": INK},
                "encoding": {"x": x | {"field": "worth"}, "text": {"field": "worth", "format": ".1f"}},
            },
        ],
    }


STAGES = ("model", "ONNX FP32", "ONNX FP16", "ONNX INT8", "engine FP32", "engine FP16", "engine INT8")


def stage(row: Row) -> str:
    """How far from the model this row's artifact is."""
    kind = row.artifact.format if row.artifact else "onnx"
    if kind == "engine":
        return f"engine {row.precision.upper()}"
    return f"ONNX {row.precision.upper()}" if kind == "onnx" else "model"


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
            "tooltip": _tooltip("class", "kind", "images", "of"),
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


def _milliseconds(what: str, values: Sequence[float]) -> Spec:
    """The x axis of a latency: from 0 on, or logarithmic where the rows are orders apart."""
    low, high = min(values), max(values)
    if high > WIDE * low:
        return {
            "type": "quantitative",
            "title": f"{what}, ms (logarithmic)",
            "scale": {"type": "log", "domain": [low / 1.25, high * 1.5], "nice": False},
            "axis": {"labelOverlap": True, "tickCount": 6},
        }
    return {"type": "quantitative", "title": f"{what}, ms", "scale": {"domain": [0, high * 1.12], "nice": False}}


def _by_runtime(values: Sequence[dict[str, Any]], run: Run) -> Spec:
    """A runtime has one colour on the whole page; the legend has those drawn, where there are several."""
    runtimes = list(dict.fromkeys(row.runtime for row in run.rows))
    drawn = [runtime for runtime in runtimes if any(each["runtime"] == runtime for each in values)]
    colours = [f"var(--c{index % RUNTIME_COLOURS})" for index in range(len(runtimes))]
    return {
        "field": "runtime",
        "type": "nominal",
        "scale": {"domain": runtimes, "range": colours},
        "legend": {"orient": "top", "title": None, "values": drawn} if len(drawn) > 1 else None,
    }


def _tooltip(*fields: str, **titles: str) -> list[Spec]:
    text = {"row", "stage", "class", "kind"}
    whole = {"runs", "images", "of"}
    return [
        {
            "field": field,
            "type": "nominal" if field in text else "quantitative",
            "title": titles.get(field, field),
            **({} if field in text or field in whole else {"format": ".4~g"}),
        }
        for field in fields
    ]
