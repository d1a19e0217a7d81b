"""Two runs side by side: what changed, and whether the difference is real."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Literal

import numpy as np

from rtbench.errors import UsageError
from rtbench.latency import Block
from rtbench.records import Interval, Record, Row, Run
from rtbench.runs import RESULT, Prediction, read_blocks, read_predictions, read_run
from rtbench.spread import Parts, median_change, quickest_change
from rtbench.stats import LEAST_PROCESSES, paired_change

Verdict = Literal["better", "worse", "no difference shown", "not comparable"]
Figure = Literal["latency", "quickest", "accuracy", "size"]
FIGURES: tuple[Figure, ...] = ("latency", "quickest", "accuracy", "size")
UNITS: dict[Figure, str] = {"latency": "%", "quickest": "%", "accuracy": "pp", "size": "%"}
BUDGETS: dict[Figure, tuple[Figure, ...]] = {
    "latency": ("latency", "quickest"),
    "accuracy": ("accuracy",),
    "size": ("size",),
}
"""What has a budget, and the figures that are held to it."""


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
    quickest: Change
    """The quickest runs, in milliseconds: what is left where nothing else has the machine."""
    accuracy: Change
    """Top-1, as fractions."""
    size: Change
    """Bytes."""


class Diff(Record):
    before: str
    after: str
    rows: list[RowChange]
    notes: list[str]


@dataclass(frozen=True)
class Side:
    """The runs on one side of a diff: one, or several repeats of the same thing; figures are of the last."""

    path: Path
    runs: Sequence[Run]
    blocks: Sequence[Mapping[str, Sequence[Block]]]
    predictions: Mapping[str, Sequence[Prediction]]

    @property
    def run(self) -> Run:
        return self.runs[-1]

    def row(self, row_id: str) -> Row | None:
        return next((row for row in self.run.rows if row.id == row_id), None)

    def parts(self, row_id: str) -> list[Parts]:
        """The row's milliseconds in each run in which it ended well, by process or where there are few by round."""
        return [
            _parts(blocks[row_id])
            for run, blocks in zip(self.runs, self.blocks, strict=True)
            if row_id in blocks and any(row.id == row_id and row.status == "ok" for row in run.rows)
        ]


def read_side(path: Path) -> Side:
    """A run directory, or a folder of them that are repeats of one another."""
    folders = [path]
    if path.is_dir() and not (path / RESULT).exists():
        folders = sorted((found.parent for found in path.glob(f"*/{RESULT}")), key=lambda each: each.name) or [path]
    runs = [read_run(folder) for folder in folders]
    for folder, run in zip(folders, runs, strict=True):
        reason = _other_machine(runs[-1], run)
        if reason:
            raise UsageError(f"the runs in {path} are no repeats: {folder.name} has {reason}", "name one run")
    homes = [folder if folder.is_dir() else folder.parent for folder in folders]
    predictions = {row.id: read_predictions(homes[-1], row.id) for row in runs[-1].rows}
    return Side(path, runs, [read_blocks(home) for home in homes], predictions)


def _parts(blocks: Sequence[Block]) -> Parts:
    processes = sorted({block.process for block in blocks})
    if len(processes) < LEAST_PROCESSES:
        return [block.ms for block in blocks]
    return [np.concatenate([block.ms for block in blocks if block.process == each]) for each in processes]


def diff(before: Side, after: Side) -> Diff:
    """Every row that either has, in the order of `after`, then those that are gone."""
    ids = list(dict.fromkeys(row.id for side in (after, before) for row in side.run.rows))
    both = [(row_id, before.row(row_id), after.row(row_id)) for row_id in ids]
    comparisons = max(1, sum(bool(old and new and old.latency and new.latency) for _, old, new in both))
    rows = [
        RowChange(
            id=row_id,
            latency=_latency(row_id, before, after, comparisons, "p50_ms", median_change),
            quickest=_latency(row_id, before, after, comparisons, "min_ms", quickest_change),
            accuracy=_accuracy(row_id, before, after, comparisons),
            size=_size(old, new),
        )
        for row_id, old, new in both
    ]
    return Diff(before=str(before.path), after=str(after.path), rows=rows, notes=_notes(before, after))


def _latency(
    row_id: str,
    before: Side,
    after: Side,
    comparisons: int,
    name: Literal["p50_ms", "min_ms"],
    change: Callable[[Sequence[Parts], Sequence[Parts]], tuple[float, float]],
) -> Change:
    old, new = before.row(row_id), after.row(row_id)
    values = tuple(getattr(row.latency, name) if row and row.latency else None for row in (old, new))
    reason = _absence(old, new) or _other_machine(before.run, after.run)
    if not reason and old and new and (old.provider, old.device) != (new.provider, new.device):
        reason = f"other provider: {new.provider} on {new.device}, was {old.provider} on {old.device}"
    parts = before.parts(row_id), after.parts(row_id)
    if not reason and None in values:
        reason = "not measured in both"
    if not reason and not all(parts):
        reason = "the raw samples are missing"
    if reason:
        return Change(before=values[0], after=values[1], verdict="not comparable", reason=reason)
    centre, error = change(*parts)
    low, high = (math.expm1(end) for end in _interval(centre, error))
    shown = not _contains_zero(_interval(centre, error, 2 * comparisons))  # medians and quickest runs
    return _judged(values, math.expm1(centre), (low, high), shown, less_is_better=True)


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
        return Change(before=top1[0], after=top1[1], verdict="not comparable", reason=reason)
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
        return Change(before=sizes[0], after=sizes[1], verdict="not comparable", reason=reason)
    change = sizes[1] / sizes[0] - 1
    return _judged(sizes, change, (change, change), change != 0, less_is_better=True)


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


def _other_machine(before: Run, after: Run) -> str | None:
    """Why latencies of these runs are not of one machine, None where they are."""
    old, new = before.environment, after.environment
    gpus = tuple(env.gpu.name if env.gpu else "no GPU" for env in (old, new))
    if (old.cpu, old.cores, gpus[0]) != (new.cpu, new.cores, gpus[1]):
        return f"other hardware: {new.cpu}, {new.cores} cores, {gpus[1]}; was {old.cpu}, {old.cores} cores, {gpus[0]}"
    if old.threads != new.threads:
        return f"other threads: {new.threads}, was {old.threads}"
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
