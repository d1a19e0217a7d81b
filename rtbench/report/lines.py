"""Aligned lines under a heading, which fit a narrow terminal whatever the heading is."""

from __future__ import annotations

from collections.abc import Sequence

GAP = "  "


def aligned(lines: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Indented lines of cells, each column as wide as its widest; `right` tells which stand to the right."""
    widths = [max(len(line[column]) for line in lines) for column in range(len(right))]
    return [
        GAP
        + GAP.join(
            f"{cell:>{width}}" if to_right else f"{cell:<{width}}"
            for cell, width, to_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    ]
