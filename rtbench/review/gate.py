"""Budgets for what may get worse between two runs, and whether they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from rtbench.errors import UsageError
from rtbench.records import Interval, Record
from rtbench.review.diff import FIGURES, UNITS, Change, Diff, Figure

Outcome = Literal["within", "exceeded", "not judged"]


class Decision(Record):
    """One budget applied to one row: exceeded where all of the interval is worse by more than `budget`.

    `budget`, `change` and `ci95` are shares, for accuracy differences of fractions.
    """

    row: str
    figure: Figure
    budget: float
    unit: str
    """Of the budget as it was written: % or pp."""
    outcome: Outcome
    change: float | None
    ci95: Interval | None
    reason: str | None
    """Why it could not be judged."""

    @property
    def worse_by(self) -> float:
        """What the row is worse by at least: the interval's better end, the number that decides."""
        if self.ci95 is None:
            return 0.0
        return -self.ci95[1] if self.figure == "accuracy" else self.ci95[0]


class Gate(Record):
    verdict: Literal["PASS", "FAIL"]
    strict: bool
    """Whether what could not be judged fails."""
    decisions: list[Decision]

    def deciding(self, figure: Figure) -> Decision | None:
        """The row that is nearest to its budget, or furthest over it; None where none could be judged."""
        judged = [each for each in self.decisions if each.figure == figure and each.outcome != "not judged"]
        return max(judged, key=lambda each: each.worse_by, default=None)

    @property
    def unjudged(self) -> list[Decision]:
        return [each for each in self.decisions if each.outcome == "not judged"]


def parse_budgets(text: str) -> dict[Figure, float]:
    """`latency:5%,accuracy:0.5pp,size:1%` as shares and fractions; UsageError naming what is wrong."""
    budgets: dict[Figure, float] = {}
    for part in (part.strip() for part in text.split(",")):
        name, _, amount = part.partition(":")
        figure = next((each for each in FIGURES if each == name), None)
        unit = UNITS[figure] if figure else ""
        try:
            if figure is None or not amount.endswith(unit):
                raise ValueError
            budgets[figure] = float(amount.removesuffix(unit)) / 100
            if not 0 <= budgets[figure] < float("inf"):
                raise ValueError
        except ValueError:
            raise UsageError(
                f"--fail-on {part!r} is not a budget", "write for example latency:5%,accuracy:0.5pp,size:1%"
            ) from None
    return budgets


def judge(found: Diff, budgets: Mapping[Figure, float], *, strict: bool = False) -> Gate:
    """Hold every row of either run to every budget."""
    decisions = [
        _decide(row.id, figure, getattr(row, figure), budget)
        for figure, budget in budgets.items()
        for row in found.rows
    ]
    failing = {"exceeded", "not judged"} if strict else {"exceeded"}
    failed = any(each.outcome in failing for each in decisions)
    return Gate(verdict="FAIL" if failed else "PASS", strict=strict, decisions=decisions)


def _decide(row: str, figure: Figure, change: Change, budget: float) -> Decision:
    decision = Decision(
        row=row,
        figure=figure,
        budget=budget,
        unit=UNITS[figure],
        outcome="within" if change.ci95 else "not judged",
        change=change.change,
        ci95=change.ci95,
        reason=change.reason,
    )
    return decision.model_copy(update={"outcome": "exceeded"}) if decision.worse_by > budget else decision
