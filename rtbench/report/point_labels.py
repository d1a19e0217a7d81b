"""Names next to the points of a chart, kept apart from each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rtbench.report.encodings import INK, Spec

LABELLED_POINTS = 16
WIDTH_PX, HEIGHT_PX, LETTER_PX, LINE_PX, BESIDE_PX = 1000.0, 340.0, 6.6, 14.0, 7.0
"""Of the chart in a wide window, and of text in it, for names to be kept apart."""
SIDES = (("left", "bottom"), ("left", "top"), ("right", "bottom"), ("right", "top"))


def point_labels(values: Sequence[dict[str, Any]], scale: Spec, worths: tuple[float, float]) -> list[Spec]:
    """Names next to the points where they cover neither another name nor a point; the others are in the tooltips."""
    named = values if len(values) <= LABELLED_POINTS else [each for each in values if each["front"]]
    points = [_place(each, scale, worths) for each in values]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    chosen: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in named:
        x, y = _place(each, scale, worths)
        width = LETTER_PX * len(each["row"])
        for align, baseline in SIDES:
            left = x + BESIDE_PX if align == "left" else x - BESIDE_PX - width
            top = y - BESIDE_PX - LINE_PX if baseline == "bottom" else y + BESIDE_PX
            box = left, top, left + width, top + LINE_PX
            if left >= 0 and box[2] <= WIDTH_PX and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                chosen.setdefault((align, baseline), []).append(each)
                break
    return [
        {
            "data": {"values": found},
            "mark": {
                "type": "text",
                "align": align,
                "baseline": baseline,
                "dx": 9 if align == "left" else -9,
                "dy": -7 if baseline == "bottom" else 7,
                "color": INK,
            },
            "encoding": {"text": {"field": "row"}},
        }
        for (align, baseline), found in chosen.items()
    ]


def _place(value: dict[str, Any], scale: Spec, worths: tuple[float, float]) -> tuple[float, float]:
    """Where a point is, in pixels from the top left."""
    ms, (low, high) = value["mean_ms"], scale["domain"]
    if scale.get("type") == "log":
        ms, low, high = (math.log(each) for each in (ms, low, high))
    bottom, top = worths
    height = (value["worth"] - bottom) / (top - bottom) if top > bottom else 0.5
    return WIDTH_PX * (ms - low) / (high - low), HEIGHT_PX * (1 - height)


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
