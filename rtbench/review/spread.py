"""How far the latencies of two runs lie apart, and how far those of the same thing would; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rtbench.stats import DISTURBED_QUANTILE, student

Floats = NDArray[np.float64]
Parts = Sequence[Floats]
"""A run's milliseconds in independent parts: its processes, or its rounds where there are few processes."""

STATISTICS = "4"
"""Counted up when the verdicts of a diff change, so that none kept from before is taken for a new one."""
BETWEEN_MEDIANS, BETWEEN_P10 = 0.015, 0.007
"""Standard deviation, as a share, by which medians and 10th percentiles of two runs of the same thing are held to
differ at least, in rounds in which the yardstick took the same. Measured on a virtual machine, over runs of half a
minute: medians 0.3 to 0.9 %, and 1.6 % beside a neighbour that came and went; 10th percentiles 0.2 to 0.8 %."""
BETWEEN_STATES = 0.02
"""The same where it is not known what the yardstick took: both by 2 %."""
ALIKE = 1.15
"""Yardsticks within this factor are of one state; those of the two states that were seen lie 1.9 apart."""
LEAST_ALIKE = 10
"""Rounds that a run must have in the other's state, but no more than half of what it has."""
ORDINARY_SPREAD, DISTURBED_SHARE = 0.015, 0.7
"""Where the middle half of a run's samples spreads further than the first, as a logarithm, the machine was
disturbed, and another run's median may be off by the second of the excess. On a quiet machine the middle half spreads
over 0.010 to 0.015; where the host took time away, and did not say so, over 0.03 to 0.07, and medians were off by
0.01 to 0.07; where neighbours took most of the machine, over 0.5, and by 0.18."""
NORMAL = 1.96


def alike(before: Sequence[Floats], after: Sequence[Floats]) -> tuple[list[NDArray[np.bool_]], ...] | None:
    """For each run of both sides, by what the yardstick took in its rounds, those in which the machine was in the
    quickest state that both sides have met; None where they have met none in common.

    A run that has not met it counts for none of its rounds.
    """
    quick = [[float(np.quantile(run, 0.1, method="lower")) for run in runs] for runs in (before, after)]
    level = max(min(each) for each in quick)
    masks = tuple([_of_state(run, level) for run in runs] for runs in (before, after))
    return masks if all(any(mask.any() for mask in side) for side in masks) else None


def _of_state(run: Floats, level: float) -> NDArray[np.bool_]:
    inside = (run <= level * ALIKE) & (run >= level / ALIKE)
    return inside if inside.sum() >= min(LEAST_ALIKE, len(run) / 2) else np.zeros(len(run), dtype=np.bool_)


def median_change(before: Sequence[Parts], after: Sequence[Parts], *, same_state: bool) -> tuple[float, float, float]:
    """The logarithms of median latency before and after, and the standard error of their difference.

    `before` and `after`: one or more runs of the same thing; `same_state`: whether the machine is known to have been in
    one state. Runs differ by more than their parts do, so each run has the error of its parts and a spread between
    runs; that is assumed (BETWEEN_MEDIANS, BETWEEN_STATES, DISTURBED_SHARE), and where repeated runs differ by more,
    taken from them.
    """
    between = BETWEEN_MEDIANS if same_state else BETWEEN_STATES
    return _change(before, after, lambda parts: _log_median(parts, between))


def p10_change(before: Sequence[Parts], after: Sequence[Parts], *, same_state: bool) -> tuple[float, float, float]:
    """The same of the 10th percentile, which others that use the machine now and then leave almost alone."""
    between = BETWEEN_P10 if same_state else BETWEEN_STATES
    return _change(before, after, lambda parts: _log_p10(parts, between))


def _change(
    before: Sequence[Parts], after: Sequence[Parts], estimate: Callable[[Parts], tuple[float, float]]
) -> tuple[float, float, float]:
    (centre_before, variance_before), (centre_after, variance_after) = (
        _over_runs([estimate(parts) for parts in runs]) for runs in (before, after)
    )
    return centre_before, centre_after, float(np.sqrt(variance_before + variance_after))


def _over_runs(estimates: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The mean of the runs' centres, and its variance."""
    count = len(estimates)
    centres = [centre for centre, _ in estimates]
    assumed = sum(variance for _, variance in estimates) / count**2
    seen = float(np.var(centres, ddof=1)) / count if count > 1 else 0.0
    return sum(centres) / count, max(assumed, seen)


def _log_median(parts: Parts, between: float) -> tuple[float, float]:
    """Of one run, with its variance."""
    low, middle, high = np.log(np.percentile(np.concatenate(parts), [25, 50, 75]))
    between = max(between, DISTURBED_SHARE * float(high - low - ORDINARY_SPREAD))
    count = len(parts)
    within = float(np.var(np.log([np.median(part) for part in parts]), ddof=1)) / count if count > 1 else 0.0
    return float(middle), within * _wider(count) + between**2


def _log_p10(parts: Parts, between: float) -> tuple[float, float]:
    """The same; the variance is the jackknife's, leaving out a part at a time: one that was disturbed has no say in the
    10th percentile of all, and then none in its variance."""
    count = len(parts)
    others = [_log_tenth([*parts[:each], *parts[each + 1 :]]) for each in range(count)] if count > 1 else [0.0]
    return _log_tenth(parts), (count - 1) * float(np.var(others)) * _wider(count) + between**2


def _log_tenth(parts: Parts) -> float:
    return float(np.log(np.quantile(np.concatenate(parts), DISTURBED_QUANTILE)))


def _wider(count: int) -> float:
    """How much more a variance of so few parts must be, for a normal interval to be as wide as Student's."""
    return (student(count) / NORMAL) ** 2 if count > 1 else 1.0
