"""What the charts of the HTML pages have in common: colours, axes, the colour of a runtime, tooltips.

Colours are the page's CSS variables, so that light, dark and print need no second drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rtbench.records.run import Run

Spec = dict[str, Any]
"""A Vega-Lite specification, or a part of one."""
RUNTIME_COLOURS = 10
WIDE = 20
"""Slowest over fastest past which latency is drawn on a logarithmic axis."""
INK, FAINT, ACCENT, BAD = "var(--ink)", "var(--faint)", "var(--accent)", "var(--bad)"


def milliseconds(what: str, values: Sequence[float]) -> Spec:
    """The x axis of a latency: from 0 on, or logarithmic where the rows are orders apart.

    An interval of a few scattered runs can go below 0; the axis does not.
    """
    low, high = min(value for value in values if value > 0), max(values)
    if high > WIDE * low:
        return {
            "type": "quantitative",
            "title": f"{what}, ms (logarithmic)",
            "scale": {"type": "log", "domain": [low / 1.25, high * 1.5], "nice": False},
            "axis": {"labelOverlap": True, "tickCount": 6},
        }
    return {"type": "quantitative", "title": f"{what}, ms", "scale": {"domain": [0, high * 1.12], "nice": False}}


def by_runtime(values: Sequence[dict[str, Any]], run: Run) -> Spec:
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


def tooltip_of(*fields: str, **titles: str) -> list[Spec]:
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
