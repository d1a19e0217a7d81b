"""How far apart the medians of two runs are, and how far those of the same thing would; pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rtbench.stats import medians, student

Floats = NDArray[np.float64]
Parts = Sequence[Floats]
"""A run's milliseconds in independent parts: its processes, or its rounds where there are few processes."""
Estimate = tuple[float, float]
"""The logarithm of a median latency, and its variance."""

STATISTICS = "5"
"""Counted up when the verdicts of a diff change, so that none kept from before is taken for a new one."""
BETWEEN_RUNS = 0.04
"""Standard deviation, as a share, by which medians of two runs of the same thing are held to differ at least. Within an
hour 2 % was measured on a virtual machine; between days its host, its clock and its neighbours change too."""
NORMAL = 1.96


def median_change(before: Sequence[Estimate], after: Sequence[Estimate]) -> tuple[float, float, float]:
    """The logarithms of median latency before and after, and the standard error of their difference.

    `before` and `after`: the `log_median` of one or more runs of the same thing. Runs differ by more than their parts
    do, so each run has the error of its parts and BETWEEN_RUNS; where repeated runs differ by more, that is taken
    instead.
    """
    (first, first_variance), (second, second_variance) = _over_runs(before), _over_runs(after)
    return first, second, float(np.sqrt(first_variance + second_variance))


def _over_runs(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of the runs' centres, and its variance."""
    count = len(estimates)
    centres = [centre for centre, _ in estimates]
    assumed = sum(variance for _, variance in estimates) / count**2
    seen = float(np.var(centres, ddof=1)) / count if count > 1 else 0.0
    return sum(centres) / count, max(assumed, seen)


def log_median(parts: Parts) -> Estimate:
    """Of one run."""
    count = len(parts)
    within = float(np.var(np.log(medians(parts)), ddof=1)) / count if count > 1 else 0.0
    return float(np.log(np.median(np.concatenate(parts)))), within * _wider(count) + BETWEEN_RUNS**2


def _wider(count: int) -> float:
    """How much more a variance of so few parts must be, for a normal interval to be as wide as Student's."""
    return (student(count) / NORMAL) ** 2 if count > 1 else 1.0
