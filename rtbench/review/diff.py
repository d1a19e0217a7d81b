"""Two runs side by side: what changed, and whether the difference is real."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal

from rtbench.records import Interval, Record
from rtbench.records.run import Against, Row
from rtbench.review.sides import Side, other_machine
from rtbench.review.spread import median_change
from rtbench.stats import paired_change

Verdict = Literal["better", "worse", "no difference shown", "not comparable"]
Figure = Literal["latency", "accuracy", "size"]
FIGURES: tuple[Figure, ...] = ("latency", "accuracy", "size")
UNITS: dict[Figure, str] = {"latency": "%", "accuracy": "pp", "size": "%"}
"""Of changes and budgets."""
UNBOUNDED = 700.0
"""The logarithm past which a change is too large to be written as a number."""
VALUE_UNITS: dict[Figure, str] = {"latency": "ms", "accuracy": "fraction", "size": "bytes"}
SCHEMA_VERSION: Literal[2] = 2


class Change(Record):
    """One figure of one row in both runs.

    `change` and `ci95` are shares of `before` (latency, size: +0.1 is a tenth more) or differences of
    fractions (accuracy). The verdict asks for more than the interval of this row: that a wider one, of which
    those of all rows together hold in 95 % of the cases, excludes zero.
    """

    before: float | None
    after: float | None
    change: float | None = None
    ci95: Interval | None = None
    verdict: Verdict
    reason: str | None = None


class RowChange(Record):
    id: str
    latency: Change
    """Medians, in milliseconds."""
    accuracy: Change
    """Top-1, as fractions."""
    size: Change
    """Bytes."""


class Diff(Record):
    schema_version: Literal[2] = SCHEMA_VERSION
    units: dict[Figure, str] = VALUE_UNITS
    """Of `before` and `after`; `change` and `ci95` are shares of `before`, for accuracy differences of fractions."""
    before: str
    after: str
    side_by_side: bool
    """Whether the artifacts of `before` were timed again in the rounds of `after`."""
    rows: list[RowChange]
    notes: list[str]


def diff(before: Side, after: Side) -> Diff:
    """Every row that either has, in the order of `after`, then those that are gone."""
    ids = list(dict.fromkeys(row.id for side in (after, before) for row in side.run.rows))
    both = [(row_id, before.row(row_id), after.row(row_id)) for row_id in ids]
    comparisons = max(1, sum(bool(old and new and old.latency and new.latency) for _, old, new in both))
    again = after.run.against if after.run.against and after.run.against.created == before.run.created else None
    rows = [
        RowChange(
            id=row_id,
            latency=_side_by_side(row_id, again) if again else _latency(row_id, before, after, comparisons),
            accuracy=_accuracy(row_id, before, after, comparisons),
            size=_size(old, new),
        )
        for row_id, old, new in both
    ]
    return Diff(
        before=str(before.path),
        after=str(after.path),
        side_by_side=again is not None,
        rows=rows,
        notes=_notes(before, after),
    )


def _side_by_side(row_id: str, against: Against) -> Change:
    """Of the rounds that both artifacts were timed in; the interval is that of the paired comparison."""
    found = next((each for each in against.rows if each.id == row_id), None)
    if found is None:
        return _not_comparable((None, None), "not measured in both")
    values = found.before_ms, found.after_ms
    if found.comparison is None or found.comparison.ci95 is None:
        return _not_comparable(values, found.reason or "too few rounds")
    low, high = found.comparison.ci95
    verdicts: dict[str, Verdict] = {"faster": "better", "slower": "worse"}
    return Change(
        before=values[0],
        after=values[1],
        change=1 / found.comparison.ratio - 1,
        ci95=(1 / high - 1, 1 / low - 1),
        verdict=verdicts.get(found.comparison.verdict, "no difference shown"),
    )


def _latency(row_id: str, before: Side, after: Side, comparisons: int) -> Change:
    old, new = before.row(row_id), after.row(row_id)
    recorded = tuple(row.latency.p50_ms if row and row.latency else None for row in (old, new))
    sides = before.measured(row_id), after.measured(row_id)
    reason = _absence(old, new) or other_machine(before.run, after.run) or _unlike(old, new)
    if not reason and not all(sides):
        reason = "the raw samples are missing"
    if reason:
        return _not_comparable(recorded, reason)
    first, second, error = median_change(*sides)
    low, high = (math.expm1(min(end, UNBOUNDED)) for end in _interval(second - first, error))
    shown = not _contains_zero(_interval(second - first, error, comparisons))
    return _judged((math.exp(first), math.exp(second)), math.expm1(second - first), (low, high), shown)


def _unlike(old: Row | None, new: Row | None) -> str | None:
    """Why latencies of rows that ended well cannot be compared, None where they can."""
    if not (old and new and old.latency and new.latency):
        return "not measured in both"
    if (old.provider, old.device) != (new.provider, new.device):
        return f"other provider: {new.provider} on {new.device}, was {old.provider} on {old.device}"
    for row, which in ((old, "first"), (new, "second")):
        if row.latency and row.latency.disturbed:
            return f"{row.latency.disturbed} in the {which} run"
    return None


def _accuracy(row_id: str, before: Side, after: Side, comparisons: int) -> Change:
    old, new = before.row(row_id), after.row(row_id)
    top1 = tuple(row.accuracy.top1 if row and row.accuracy else None for row in (old, new))
    datasets = before.run.dataset, after.run.dataset
    reason = _absence(old, new)
    if not reason and None in top1:
        reason = "not measured in both"
    if not reason and (not datasets[0] or not datasets[1] or datasets[0].fingerprint != datasets[1].fingerprint):
        reason = "other images"
    old_right, new_right = (side.right.get(row_id, {}) for side in (before, after))
    if not reason and not (old_right and new_right and len(old_right) == len(new_right)):
        reason = "the predictions are missing"
    elif not reason and old_right.keys() != new_right.keys():
        reason = "the predictions are of other images"
    if reason:
        return _not_comparable(top1, reason)
    changed = [was for file, was in old_right.items() if was != new_right[file]]
    lost, images = sum(changed), len(new_right)
    gained = len(changed) - lost
    centre, error = paired_change(gained, lost, images)
    shown = not _contains_zero(_interval(centre, error, comparisons))
    return _judged(top1, (gained - lost) / images, _interval(centre, error), shown, more_is_better=True)


def _size(old: Row | None, new: Row | None) -> Change:
    sizes = tuple(float(row.artifact.size_bytes) if row and row.artifact else None for row in (old, new))
    if sizes[0] is None or sizes[1] is None:
        reason = _absence(old, new) or "no artifact in both"
        return _not_comparable(sizes, reason)
    change = sizes[1] / sizes[0] - 1
    return _judged(sizes, change, (change, change), change != 0)


def _not_comparable(values: Sequence[float | None], reason: str | None) -> Change:
    return Change(before=values[0], after=values[1], verdict="not comparable", reason=reason)


def _judged(
    values: tuple[float | None, ...], change: float, interval: Interval, shown: bool, *, more_is_better: bool = False
) -> Change:
    verdict: Verdict = "no difference shown"
    if shown:
        verdict = "better" if (change > 0) == more_is_better else "worse"
    return Change(before=values[0], after=values[1], change=change, ci95=interval, verdict=verdict)


def _interval(centre: float, error: float, comparisons: int = 1) -> Interval:
    """The normal interval that holds all of `comparisons` (Bonferroni) in 95 % of the cases."""
    half = NormalDist().inv_cdf(1 - 0.025 / comparisons) * error
    return centre - half, centre + half


def _contains_zero(interval: Interval) -> bool:
    return interval[0] <= 0 <= interval[1]


def _absence(old: Row | None, new: Row | None) -> str | None:
    if old is None or new is None:
        return "only in the second run" if old is None else "only in the first run"
    for row, which in ((old, "first"), (new, "second")):
        if row.status != "ok":
            return f"{row.status} in the {which} run"
    return None


def _notes(before: Side, after: Side) -> list[str]:
    old, new = before.run.environment, after.run.environment
    names = dict.fromkeys([*old.packages, *new.packages])
    changed = [
        f"{name} {old.packages.get(name, 'absent')} to {new.packages.get(name, 'absent')}"
        for name in names
        if old.packages.get(name) != new.packages.get(name)
    ]
    drivers = tuple(env.gpu.driver if env.gpu else None for env in (old, new))
    if drivers[0] != drivers[1] and all(drivers):
        changed.append(f"driver {drivers[0]} to {drivers[1]}")
    notes = [f"Other versions: {', '.join(changed)}."] if changed else []
    notes += [
        f"{side.path} was interrupted; it has what was measured until then."
        for side in (before, after)
        if not side.run.complete
    ]
    notes += [
        f"{row.id} was unstable in {side.path}: {row.latency.warnings[0]}."
        for side in (before, after)
        for row in side.run.rows
        if row.latency and row.latency.warnings
    ]
    if max(len(before.runs), len(after.runs)) > 1:
        notes.append(f"Latency is of {len(before.runs)} runs before and {len(after.runs)} after; the rest of the last.")
    return notes
