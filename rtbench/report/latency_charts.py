"""The charts of rows' latencies as Vega-Lite specifications: distributions, and samples over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rtbench.measure.rounds import Block
from rtbench.records.run import Run
from rtbench.report.encodings import ACCENT, BAD, INK, Spec, by_runtime, milliseconds, tooltip_of
from rtbench.report.evidence import QUANTILES, Evidence, samples_ms

SHOWN_SAMPLES, SHOWN_MEDIANS = 400, 400
"""Of each row in the chart over time, evenly spread; the line of medians rests on all samples, of neighbouring rounds
together where there are more rounds."""
BINS = 40


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
    x = milliseconds("latency", [each[end] for each in values for end in ("p5", "p95")])
    tooltip = tooltip_of("row", "mean_ms", *(f"p{number}" for number in QUANTILES))
    return {
        "data": {"name": "rows", "values": values},
        "height": 24 * len(values),
        "encoding": {"y": {"field": "row", "type": "nominal", "sort": None, "title": None}, "tooltip": tooltip},
        "layer": [
            {"mark": {"type": "rule", "color": INK}, "encoding": {"x": x | {"field": "p5"}, "x2": {"field": "p95"}}},
            {
                "mark": {"type": "bar", "height": 10},
                "encoding": {"x": x | {"field": "p25"}, "x2": {"field": "p75"}, "color": by_runtime(values, run)},
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
    """One row's samples counted in bins; the last 1 % are in the last bin."""
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
            "tooltip": tooltip_of("from_ms", "to_ms", "runs"),
        },
    }


def time_chart(blocks: Sequence[Block], origin_ns: int) -> Spec:
    """One row's samples over the time of the run, with the medians of rounds; far outliers are drawn on the edge."""
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
    together = -(-len(blocks) // SHOWN_MEDIANS)
    groups = [blocks[first : first + together] for first in range(0, len(blocks), together)]
    medians = [
        {
            "second": round((int(group[0].starts_ns[0]) - origin_ns) / 1e9, 3),
            "median_ms": float(np.median(np.concatenate([block.durations_ns for block in group]))) / 1e6,
        }
        for group in groups
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
                    "tooltip": tooltip_of("second", "ms"),
                },
            },
            {
                "data": {"name": "medians", "values": medians},
                "mark": {"type": "line", "color": INK, "strokeWidth": 1.5},
                "encoding": {"x": x, "y": y | {"field": "median_ms"}},
            },
        ],
    }
