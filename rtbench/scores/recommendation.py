"""Which row to ship, or why there is not enough evidence to say; pure.

The question is one of non-inferiority: a row may be shipped where its loss against the model itself is shown to be
small, by the far end of its interval and not by its centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from operator import attrgetter
from typing import Literal

from rtbench.records import Interval
from rtbench.records.run import Recommendation, Row, Run
from rtbench.scores.answer import describe, measured_rows, speed
from rtbench.scores.baselines import is_reference
from rtbench.stats import difference_interval, wilson_interval

SAME_OUTPUTS = 1e-4
"""Relative error of outputs up to which a row computes the model itself but for rounding, so that there is no loss to
look for. FP32 conversions have 1e-6, FP16 ones 1e-3."""
ENOUGH_OF_PUBLISHED = 0.5
CAVEATS = 2
"""Faster rows of which the answer says why they are not it; the table has them all."""
CONVERSIONS = {"fp32": 0, "bf16": 1, "fp16": 1, "int8": 2}

Evidence = Literal["shown", "lost", "open"]
Verdict = Literal["ship", "not enough evidence", "check", "none"]


@dataclass(frozen=True)
class Loss:
    """What a row loses against the model itself: of top-1, or where nothing is labelled, of agreement.

    `interval` as fractions, None where it computes the same but for rounding, or where nothing is known.
    """

    kind: Literal["top-1", "agreement", "none"]
    evidence: Evidence
    interval: Interval | None = None
    images_needed: int | None = None


def loss_of(run: Run, row: Row, max_loss: float, max_disagreement: float) -> Loss:
    """Judge one measured row by its own model."""
    fidelity, accuracy = row.fidelity, row.accuracy
    sample = run.dataset is not None and run.dataset.sample
    kind: Literal["top-1", "agreement"] = "top-1" if accuracy and not sample else "agreement"
    same = fidelity and fidelity.judged and fidelity.relative_error is not None
    if _is_itself(row) or (same and fidelity and (fidelity.relative_error or 0.0) <= SAME_OUTPUTS):
        return Loss(kind, "shown")
    if kind == "top-1" and accuracy and accuracy.difference:
        low, high = accuracy.difference.top1_ci95
        return _judged(kind, (-high, -low), -accuracy.difference.top1, max_loss, accuracy.images)
    if kind == "agreement" and fidelity and fidelity.judged:
        agreeing = round(fidelity.top1_agreement * fidelity.images)
        low, high = wilson_interval(agreeing, fidelity.images)
        return _judged(kind, (1 - high, 1 - low), 1 - fidelity.top1_agreement, max_disagreement, fidelity.images)
    return Loss("none", "open")


def _judged(kind: Literal["top-1", "agreement"], interval: Interval, loss: float, most: float, images: int) -> Loss:
    low, high = interval
    if high <= most:
        return Loss(kind, "shown", interval)
    if low > most:
        return Loss(kind, "lost", interval)
    needed = None
    if loss < most:  # the half-width shrinks with the square root of the images
        half = (high - low) / 2
        needed = _rounded(images * (half / (most - loss)) ** 2)
    return Loss(kind, "open", interval, needed)


def _rounded(images: float) -> int:
    """Upwards, to two digits."""
    step: int = 10 ** max(len(str(ceil(images))) - 2, 0)
    return ceil(images / step) * step


def recommend(run: Run, *, max_loss: float = 0.01, max_disagreement: float = 0.01) -> Recommendation:
    """The fastest stable row whose loss is shown to be small; of those that share the lead the smallest, then the
    simplest."""
    verdict, row, reason, needed = _decide(run, max_loss, max_disagreement)
    return Recommendation(
        row=row.id if row else None,
        verdict=verdict,
        reason=reason if run.complete else f"As far as this interrupted run went: {reason}",
        max_loss=max_loss,
        max_disagreement=max_disagreement,
        images_needed=needed,
    )


def recommendation(run: Run) -> Recommendation:
    """The run's own, or for a run of an earlier version what it would be."""
    return run.recommendation or recommend(run)


def rule(run: Run) -> str:
    """How the answer is chosen."""
    found = recommendation(run)
    labelled = any(row.accuracy for row in run.rows) and not (run.dataset and run.dataset.sample)
    point = "point" if found.max_loss == 0.01 else "points"
    points = f"{100 * found.max_loss:g} {point} of top-1 against the model itself"
    what = points if labelled else f"{100 * found.max_disagreement:g} % of the model's answers"
    return f"Chosen: the fastest stable row that is shown to lose at most {what}."


def _decide(run: Run, max_loss: float, max_disagreement: float) -> tuple[Verdict, Row | None, str, int | None]:
    measured = measured_rows(run)
    if not measured:
        return "none", None, "Nothing to ship: no row's latency was measured. The table says why.", None
    doubt = doubts(run)
    if doubt:
        return "check", None, f"Check labels and preprocessing: {doubt}.", None
    steady = [row for row in measured if row.latency and row.latency.stable]
    if not steady:
        why = next(row.latency.warnings[0] for row in measured if row.latency and row.latency.warnings)
        return "not enough evidence", None, f"No recommendation: every row was unstable ({why}).", None
    if any(model.random_weights for model in run.models):
        fastest = min(steady, key=_median)
        said = f"{fastest.id} is the fastest ({describe(run, fastest)}), and random weights say nothing of accuracy."
        return "not enough evidence", None, f"No recommendation: {said}", None
    losses = {row.id: loss_of(run, row, max_loss, max_disagreement) for row in measured}
    sound = [row for row in steady if losses[row.id].evidence == "shown" and not _behind(run, row, max_loss)]
    chosen = min(_sharing_the_lead(run, sound), key=_simplicity) if sound else None
    comparable = [row for row in measured if row.latency and not row.latency.disturbed]
    faster = [row for row in comparable if row not in sound and (chosen is None or _median(row) < _median(chosen))]
    caveats = " ".join(_caveat(run, row, losses[row.id], chosen) for row in sorted(faster, key=_median)[:CAVEATS])
    undecided = [losses[row.id].images_needed for row in faster if losses[row.id].evidence == "open"]
    needed = max((count for count in undecided if count), default=None)
    if chosen is None or (_is_itself(chosen) and undecided):
        return "not enough evidence", None, f"Not enough evidence: {caveats}", needed
    only = ", the only row" if len(run.rows) == 1 else ""
    parts = [f"Ship {chosen.id}{only}: {describe(run, chosen)}.", caveats, _unknown(run)]
    return "ship", chosen, " ".join(filter(None, parts)), needed


def doubts(run: Run) -> str | None:
    """Why the labels cannot be believed: the model itself is right by chance, or half as often as was published."""
    models = {model.name: model for model in run.models}
    for row in run.rows:
        accuracy, model = row.accuracy, models.get(row.model)
        if accuracy is None or model is None or run.dataset is None or run.dataset.sample:
            continue
        if not _is_itself(row) and not accuracy.difference:
            continue
        own = accuracy.top1 - (accuracy.difference.top1 if accuracy.difference else 0.0)
        own = min(max(own, 0.0), 1.0)  # the difference may be of fewer images
        low, _ = wilson_interval(round(own * accuracy.images), accuracy.images)
        chance = 1 / (run.dataset.among_classes or model.classes)
        said = f"the model itself has {100 * own:.1f} % of {accuracy.images} images right"
        if low <= chance and not model.random_weights:
            return f"{said}, which is not above chance ({100 * chance:.2g} %)" if chance < 1 else None
        published = model.published_top1 if run.dataset.test_set is None else None
        if published and accuracy.images >= 50 and own < ENOUGH_OF_PUBLISHED * published:
            return f"{said}, and {100 * published:.1f} % was published for these weights"
    return None


def _is_itself(row: Row) -> bool:
    """Whether a row is the model itself: its reference row, or a file in FP32 that no other model can judge."""
    artifact = row.artifact
    own_file = artifact is not None and "file" in artifact.made_from and row.fidelity is None
    return is_reference(row) or (own_file and row.precision == "fp32")


def _median(row: Row) -> float:
    assert row.latency
    return row.latency.p50_ms


def _simplicity(row: Row) -> tuple[int, int]:
    assert row.artifact
    return row.artifact.size_bytes, CONVERSIONS[row.precision] + (row.artifact.format == "engine")


def _sharing_the_lead(run: Run, sound: Sequence[Row]) -> list[Row]:
    """The fastest of these and those that no difference to it is shown of."""
    first = min(sound, key=_median)
    alike = {
        frozenset((each.row, each.to))
        for each in run.comparisons
        if each.verdict == "no difference shown" and each.ci95
    }
    return [row for row in sound if row is first or frozenset((row.id, first.id)) in alike]


def _behind(run: Run, row: Row, max_loss: float) -> bool:
    """Whether the row is of a model that another model of this run may beat by more than `max_loss`."""
    others = [each.accuracy for each in run.rows if each.model != row.model and each.accuracy and each.status == "ok"]
    if not others or not row.accuracy:
        return False
    best = max(others, key=attrgetter("top1"))
    low, _ = difference_interval(row.accuracy.top1, row.accuracy.top1_ci95, best.top1, best.top1_ci95)
    return low < -max_loss


def _caveat(run: Run, row: Row, loss: Loss, chosen: Row | None) -> str:
    """Why a row that is faster is not the answer."""
    name = f"{row.id} is {speed(run, row, chosen)}"
    if loss.evidence == "shown":
        if row.latency and not row.latency.stable:
            return f"{name}, but unstable: {row.latency.warnings[0].partition(':')[0]}."
        return f"{name}, but its model is less accurate than another one, or may be."
    if loss.interval is None:
        give = "--reference MODEL" if row.accuracy else "labelled images with --data"
        return f"{name}, but its loss against the model itself is not known: give {give}."
    low, high = (100 * end for end in loss.interval)
    unit = "points of top-1" if loss.kind == "top-1" else "% of the model's answers"
    if loss.evidence == "lost":
        return f"{name}, but loses {low:.1f} to {high:.1f} {unit}."
    more = f"; about {loss.images_needed:,} images would tell" if loss.images_needed else ""
    return f"{name}, but its loss is between {low:.1f} and {high:.1f} {unit}{more}."


def _unknown(run: Run) -> str:
    """What the answer does not rest on."""
    if run.dataset and run.dataset.sample:
        return "The built-in sample shows no accuracy; give labelled images with --data for that."
    if any(row.accuracy for row in run.rows):
        return ""
    return "Accuracy was not measured on labelled images; give --data for that."
