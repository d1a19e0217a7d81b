"""Rows normalised by a baseline; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rtbench.records.measurement import Comparison
from rtbench.records.model import Model
from rtbench.records.run import Baseline, Environment, Row, Scores
from rtbench.scores.baselines import is_reference, measured_baseline


def score_rows(
    rows: Sequence[Row],
    baseline: Baseline | None,
    environment: Environment,
    comparisons: Sequence[Comparison] = (),
    *,
    models: Sequence[Model],
    score_accuracy: bool,
) -> list[Row]:
    """Rows with their scores; only measured rows that are `ok` get any.

    `score_accuracy` is false where the labelled images are too few to be a score (the built-in sample). A baseline
    that is a row of this run is each model's own row.
    """
    classes = {model.name: model.classes for model in models}
    scored = []
    for row in rows:
        if row.status == "ok" and row.latency and row.artifact:
            own = baseline
            if baseline and baseline.measured:
                mine = [each for each in rows if each.model == row.model]
                own = measured_baseline(mine, baseline.hardware) or baseline
            same_task = own is not None and own.classes in (None, classes.get(row.model))
            scores = _scores(row, rows, own, environment, comparisons, score_accuracy and same_task)
            row = row.model_copy(update={"scores": scores})
        scored.append(row)
    return scored


def _scores(
    row: Row,
    rows: Sequence[Row],
    baseline: Baseline | None,
    environment: Environment,
    comparisons: Sequence[Comparison],
    score_accuracy: bool,
) -> Scores:
    assert row.latency and row.artifact
    reference = reference_for(row, rows)
    speedup, over_best = (_over(row, other, comparisons) for other in (reference, best_torch_for(row, rows)))
    top1 = row.accuracy.top1 if row.accuracy and score_accuracy else None
    return Scores(
        size=baseline.size_mib / (row.artifact.size_bytes / 2**20) if baseline else None,
        latency=baseline.latency_ms / row.latency.mean_ms if baseline else None,
        accuracy=top1 / baseline.top1 if baseline and baseline.top1 and top1 is not None else None,
        on_baseline_hardware=baseline is not None and _on_baseline_hardware(row, baseline, environment),
        speedup_vs_torch=speedup.ratio if speedup else 1.0 if reference is row else None,
        speedup_ci95=speedup.ci95 if speedup else None,
        speedup_vs_best_torch=over_best.ratio if over_best else None,
    )


def reference_for(row: Row, rows: Sequence[Row]) -> Row | None:
    """The measured reference row to compare `row` with: its own model's, else the run's only one."""
    measured = [other for other in rows if other.latency and is_reference(other)]
    own = [other for other in measured if other.model == row.model]
    if own:
        return own[0]
    return measured[0] if len(measured) == 1 else None


def best_torch_for(row: Row, rows: Sequence[Row]) -> Row | None:
    """The fastest torch row of the same model; None where that is torch/fp32 itself."""
    own = [each for each in rows if each.model == row.model and each.latency and each.status == "ok"]
    torch = [each for each in own if re.match(r"torch\b", each.runtime)]
    best = min(torch, key=lambda each: each.latency.p50_ms if each.latency else 0.0, default=None)
    return None if best is None or is_reference(best) else best


def _over(row: Row, other: Row | None, comparisons: Sequence[Comparison]) -> Comparison | None:
    return next((each for each in comparisons if other and (each.row, each.to) == (row.id, other.id)), None)


def _on_baseline_hardware(row: Row, baseline: Baseline, environment: Environment) -> bool:
    if baseline.measured:
        return True
    gpu = environment.gpu
    return bool(row.device == "cuda" and gpu and baseline.gpu and f" {baseline.gpu} " in f" {gpu.name} ")
