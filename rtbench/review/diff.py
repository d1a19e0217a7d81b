"""Two runs side by side: what changed, and whether the difference is real."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rtbench.measure.latency import Block
from rtbench.records import Interval, Record
from rtbench.records.run import Row
from rtbench.review.sides import Side, other_machine
from rtbench.review.spread import Parts, alike, median_change, p10_change
from rtbench.stats import LEAST_PROCESSES, paired_change

Verdict = Literal["better", "worse", "no difference shown", "not comparable"]
Figure = Literal["latency", "p10", "accuracy", "size"]
FIGURES: tuple[Figure, ...] = ("latency", "p10", "accuracy", "size")
UNITS: dict[Figure, str] = {"latency": "%", "p10": "%", "accuracy": "pp", "size": "%"}


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
    """Medians of the rounds compared, in milliseconds."""
    p10: Change
    """Their 10th percentiles: what is left where nothing else has the machine."""
    accuracy: Change
    """Top-1, as fractions."""
    size: Change
    """Bytes."""


class Diff(Record):
    before: str
    after: str
    rows: list[RowChange]
    notes: list[str]


def _parts(blocks: Sequence[Block]) -> Parts:
    """Milliseconds by process or where there are few by round."""
    processes = sorted({block.process for block in blocks})
    if len(processes) < LEAST_PROCESSES:
        return [block.ms for block in blocks]
    return [np.concatenate([block.ms for block in blocks if block.process == each]) for each in processes]


def diff(before: Side, after: Side) -> Diff:
    """Every row that either has, in the order of `after`, then those that are gone."""
    ids = list(dict.fromkeys(row.id for side in (after, before) for row in side.run.rows))
    both = [(row_id, before.row(row_id), after.row(row_id)) for row_id in ids]
    comparisons = max(1, sum(bool(old and new and old.latency and new.latency) for _, old, new in both))
    rounds = [_rounds(row_id, before, after) for row_id in ids]
    rows = [
        RowChange(
            id=row_id,
            latency=_latency(timed, median_change, comparisons, (_median(old), _median(new))),
            p10=_latency(timed, p10_change, comparisons, (None, None)),
            accuracy=_accuracy(row_id, before, after, comparisons),
            size=_size(old, new),
        )
        for timed, (row_id, old, new) in zip(rounds, both, strict=True)
    ]
    chosen = dict.fromkeys(timed.chosen for timed in rounds if isinstance(timed, _Rounds) and timed.chosen)
    return Diff(before=str(before.path), after=str(after.path), rows=rows, notes=[*chosen, *_notes(before, after)])


@dataclass(frozen=True)
class _Rounds:
    """A row's blocks that are compared, by run; `same_state` where the yardstick says that the machine was in one state
    in all of them, `chosen` a sentence where it was not in the others."""

    before: Sequence[Sequence[Block]]
    after: Sequence[Sequence[Block]]
    same_state: bool = False
    chosen: str | None = None


def _rounds(row_id: str, before: Side, after: Side) -> _Rounds | str:
    """What is compared of a row's latency, or why nothing can be."""
    old, new = before.row(row_id), after.row(row_id)
    reason = _absence(old, new) or other_machine(before.run, after.run)
    if reason:
        return reason
    assert old is not None
    assert new is not None
    if (old.provider, old.device) != (new.provider, new.device):
        return f"other provider: {new.provider} on {new.device}, was {old.provider} on {old.device}"
    if not (old.latency and new.latency):
        return "not measured in both"
    sides = before.measured(row_id), after.measured(row_id)
    if not all(sides):
        return "the raw samples are missing"
    if not _has_yardstick(row_id, before, after):
        return _Rounds(*sides)
    yardsticks = [[np.array([block.yardstick_ms for block in run]) for run in side] for side in sides]
    masks = alike(*yardsticks)
    if masks is None:
        first, second = (float(np.median(np.concatenate(side))) for side in yardsticks)
        return f"the machine was in another state: the yardstick took {second:#.3g} ms, and {first:#.3g} ms before"
    counts = [f"{sum(mask.sum() for mask in side)} of {sum(map(len, side))}" for side in masks]
    chosen = f"Latency is of {counts[0]} rounds before and {counts[1]} after, in which the machine was in one state."
    whole = all(mask.all() for side in masks for mask in side)
    return _Rounds(_left(sides[0], masks[0]), _left(sides[1], masks[1]), True, None if whole else chosen)


def _has_yardstick(row_id: str, before: Side, after: Side) -> bool:
    """Whether it says what state the machine was in for the row; of a GPU it knows nothing."""
    runs = [*before.runs, *after.runs]
    row = after.row(row_id)
    return bool(
        row
        and row.device == "cpu"
        and len({run.environment.packages.get("numpy") for run in runs}) == 1
        and not any(
            math.isnan(block.yardstick_ms) for side in (before, after) for run in side.measured(row_id) for block in run
        )
    )


def _left(side: Sequence[Sequence[Block]], masks: Sequence[NDArray[np.bool_]]) -> list[Sequence[Block]]:
    """What the masks leave of each run, without runs of which nothing is left."""
    pairs = zip(side, masks, strict=True)
    return [[block for block, inside in zip(run, mask, strict=True) if inside] for run, mask in pairs if mask.any()]


def _median(row: Row | None) -> float | None:
    return row.latency.p50_ms if row and row.latency else None


def _latency(
    rounds: _Rounds | str,
    change: Callable[..., tuple[float, float, float]],
    comparisons: int,
    recorded: tuple[float | None, float | None],
) -> Change:
    """`recorded`: the figures to show where rounds cannot be compared."""
    if isinstance(rounds, str):
        return _not_comparable(recorded, rounds)
    parts = [[_parts(run) for run in side] for side in (rounds.before, rounds.after)]
    before, after, error = change(*parts, same_state=rounds.same_state)
    low, high = (math.expm1(end) for end in _interval(after - before, error))
    shown = not _contains_zero(_interval(after - before, error, 2 * comparisons))  # medians and 10th percentiles
    values = math.exp(before), math.exp(after)
    return _judged(values, math.expm1(after - before), (low, high), shown, less_is_better=True)


def _accuracy(row_id: str, before: Side, after: Side, comparisons: int) -> Change:
    old, new = before.row(row_id), after.row(row_id)
    top1 = tuple(row.accuracy.top1 if row and row.accuracy else None for row in (old, new))
    datasets = before.run.dataset, after.run.dataset
    reason = _absence(old, new)
    if not reason and None in top1:
        reason = "not measured in both"
    if not reason and (not datasets[0] or not datasets[1] or datasets[0].fingerprint != datasets[1].fingerprint):
        reason = "other images"
    answers = before.predictions.get(row_id), after.predictions.get(row_id)
    if not reason and not (answers[0] and answers[1] and len(answers[0]) == len(answers[1])):
        reason = "the predictions are missing"
    if reason or not answers[0] or not answers[1]:
        return _not_comparable(top1, reason)
    right = {each.file: each.classes[0] == each.label for each in answers[0]}
    lost = sum(right[each.file] and each.classes[0] != each.label for each in answers[1])
    gained = sum(not right[each.file] and each.classes[0] == each.label for each in answers[1])
    images = len(answers[1])
    centre, error = paired_change(gained, lost, images)
    shown = not _contains_zero(_interval(centre, error, comparisons))
    return _judged(top1, (gained - lost) / images, _interval(centre, error), shown, less_is_better=False)


def _size(old: Row | None, new: Row | None) -> Change:
    sizes = tuple(float(row.artifact.size_bytes) if row and row.artifact else None for row in (old, new))
    if sizes[0] is None or sizes[1] is None:
        reason = _absence(old, new) or "no artifact in both"
        return _not_comparable(sizes, reason)
    change = sizes[1] / sizes[0] - 1
    return _judged(sizes, change, (change, change), change != 0, less_is_better=True)


def _not_comparable(values: Sequence[float | None], reason: str | None) -> Change:
    return Change(before=values[0], after=values[1], verdict="not comparable", reason=reason)


def _judged(
    values: tuple[float | None, ...], change: float, interval: Interval, shown: bool, *, less_is_better: bool
) -> Change:
    verdict: Verdict = "no difference shown"
    if shown:
        verdict = "better" if (change < 0) == less_is_better else "worse"
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
    notes += [
        f"{side.path} lacks the yardstick in some rounds, so latencies are held to differ by more."
        for side in (before, after)
        if any(math.isnan(block.yardstick_ms) for run in side.blocks for row in run.values() for block in row)
    ]
    if max(len(before.runs), len(after.runs)) > 1:
        notes.append(f"Latency is of {len(before.runs)} runs before and {len(after.runs)} after; the rest of the last.")
    return notes
