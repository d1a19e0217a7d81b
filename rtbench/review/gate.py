"""Budgets for what may get worse between two runs, and what exceeds them."""

from __future__ import annotations

from collections.abc import Mapping

from rtbench.errors import UsageError
from rtbench.review.diff import UNITS, Change, Diff, Figure

BUDGETS: dict[Figure, tuple[Figure, ...]] = {
    "latency": ("latency", "p10"),
    "accuracy": ("accuracy",),
    "size": ("size",),
}
"""What has a budget, and the figures that are held to it."""


def parse_budgets(text: str) -> dict[Figure, float]:
    """`latency:5%,accuracy:0.5pp,size:1%` as shares and fractions; UsageError naming what is wrong."""
    budgets: dict[Figure, float] = {}
    for part in (part.strip() for part in text.split(",")):
        name, _, amount = part.partition(":")
        figure = next((each for each in BUDGETS if each == name), None)
        unit = UNITS[figure] if figure else ""
        try:
            if figure is None or not amount.endswith(unit):
                raise ValueError
            budgets[figure] = float(amount.removesuffix(unit)) / 100
            if not 0 <= budgets[figure] < float("inf"):
                raise ValueError
        except ValueError:
            raise UsageError(
                f"--fail-on {part!r} is no budget", "write for example latency:5%,accuracy:0.5pp,size:1%"
            ) from None
    return budgets


def exceeded(found: Diff, budgets: Mapping[Figure, float]) -> list[str]:
    """A sentence for each row and figure that is worse than its budget with all of its interval."""
    sentences = []
    for row in found.rows:
        for figure, budget in budgets.items():
            changes: list[Change] = [getattr(row, each) for each in BUDGETS[figure]]
            ends = [(-each.ci95[1] if figure == "accuracy" else each.ci95[0]) for each in changes if each.ci95]
            worse_by = max(ends, default=0.0)
            if worse_by > budget:
                unit = UNITS[figure]
                sentences.append(
                    f"{row.id}: {figure} is worse by at least {100 * worse_by:.2g} {unit},"
                    f" over the budget of {100 * budget:g} {unit}"
                )
    return sentences
