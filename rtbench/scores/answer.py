"""What a row is worth, in figures and in words."""

from __future__ import annotations

from dataclasses import dataclass

from rtbench.records import Interval
from rtbench.records.run import Row, Run
from rtbench.scores.normalise import reference_for

SHARES = {1 / 5: "a fifth", 1 / 4: "a quarter", 1 / 3: "a third", 1 / 2: "half", 2 / 3: "two thirds"}
ALIKE = 0.03


@dataclass(frozen=True)
class Quality:
    """How right a row's answers are: top-1 where that means something, else agreement with the model."""

    name: str
    value: float
    ci95: Interval | None


def quality(run: Run, row: Row) -> Quality | None:
    """None where nothing is known: not measured, no images, or weights that are random."""
    sample = run.dataset is not None and run.dataset.sample
    if row.status != "ok" or any(model.random_weights for model in run.models if model.name == row.model):
        return None
    if row.accuracy and not sample:
        return Quality("top-1", row.accuracy.top1, row.accuracy.top1_ci95)
    if row.fidelity and row.fidelity.judged:
        return Quality("agreement", row.fidelity.top1_agreement, None)
    return None


def pareto_front(run: Run) -> list[Row]:
    """The rows that no other beats in both latency and quality, fastest first.

    Where no row has a quality, size stands in its place.
    """
    measured = measured_rows(run)
    by_quality = any(quality(run, row) for row in measured)
    front: list[Row] = []
    best = float("-inf")
    for row in sorted(measured, key=lambda each: (_mean(each), -_worth(run, each, by_quality))):
        worth = _worth(run, row, by_quality)
        if worth > best:
            front.append(row)
            best = worth
    return front


def measured_rows(run: Run) -> list[Row]:
    return [row for row in run.rows if row.status == "ok" and row.latency and row.artifact]


def describe(run: Run, row: Row) -> str:
    """What shipping a row gains and costs: speed, rightness, size."""
    return ", ".join(text for text in (speed(run, row), _rightness(run, row), _size(run, row)) if text)


def points(difference: float) -> str:
    """A difference of fractions in points, signed: -0.002 is `-0.2`."""
    rounded = round(100 * difference, 1)
    return f"{rounded:+.1f}" if rounded else "0.0"


def _mean(row: Row) -> float:
    assert row.latency
    return row.latency.mean_ms


def _worth(run: Run, row: Row, by_quality: bool) -> float:
    found = quality(run, row)
    if by_quality:
        return found.value if found else float("-inf")
    assert row.artifact
    return -row.artifact.size_bytes


def speed(run: Run, row: Row, chosen: Row | None = None) -> str:
    """How fast a row is compared with its reference, or with the row `chosen`; in milliseconds without either."""
    reference = reference_for(row, run.rows)
    ratio = row.scores.speedup_vs_torch if row.scores else None
    if chosen and chosen is not reference:
        reference, ratio = chosen, _times_faster(run, row, chosen)
    if reference is None or reference is row or ratio is None:
        return f"{_mean(row):.3g} ms"
    if abs(ratio - 1) < ALIKE:
        return f"as fast as {reference.id}"
    return f"{ratio:.1f}x faster than {reference.id}" if ratio > 1 else f"{1 / ratio:.1f}x slower than {reference.id}"


def _times_faster(run: Run, row: Row, other: Row) -> float:
    """By the rounds that both share; by their medians where the run does not compare them."""
    for each in run.comparisons:
        if (each.row, each.to) == (row.id, other.id):
            return each.ratio
        if (each.row, each.to) == (other.id, row.id):
            return 1 / each.ratio
    return _median(other) / _median(row)


def _median(row: Row) -> float:
    assert row.latency
    return row.latency.p50_ms


def _rightness(run: Run, row: Row) -> str:
    own = quality(run, row)
    if own is None:
        return ""
    if own.name == "agreement":
        assert row.fidelity
        return f"agrees with the model on {100 * own.value:.1f} % of {row.fidelity.images} images"
    difference = row.accuracy.difference if row.accuracy else None
    if difference:
        low, high = map(points, difference.top1_ci95)
        return f"top-1 {points(difference.top1)} points [{low}, {high}]"
    reference = reference_for(row, run.rows)
    best = quality(run, reference) if reference and reference is not row else None
    if best is None:
        assert own.ci95
        return "top-1 {:.1f} % [{:.1f}, {:.1f}]".format(*(100 * each for each in (own.value, *own.ci95)))
    return f"top-1 {points(own.value - best.value)} points"


def _size(run: Run, row: Row) -> str:
    assert row.artifact
    reference = reference_for(row, run.rows)
    if reference is None or reference is row or reference.artifact is None:
        return f"{row.artifact.size_bytes / 2**20:.3g} MiB"
    share = row.artifact.size_bytes / reference.artifact.size_bytes
    if abs(share - 1) < ALIKE:
        return "the same size"
    nearest = min(SHARES, key=lambda each: abs(share - each))
    if abs(share - nearest) < ALIKE:
        words = SHARES[nearest]
        return f"{words} {'the' if words == 'half' else 'of the'} size"
    return f"{100 * share:.0f} % of the size" if share < 1 else f"{share:.1f}x the size"
