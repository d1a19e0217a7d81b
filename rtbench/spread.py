"""How far the latencies of two runs lie apart, and how far those of the same thing would; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rtbench.stats import student

Parts = Sequence[NDArray[np.float64]]
"""A run's milliseconds in independent parts: its processes, or its rounds where there are few processes."""

STATISTICS = "3"
"""Counted up when the verdicts of a diff change, so that none kept from before is taken for a new one."""
BETWEEN_MEDIANS, BETWEEN_QUICKEST = 0.015, 0.007
"""Standard deviation, as a share, by which the median and the quickest run of two runs of the same thing are held to
differ at least, whatever each of them saw. Measured on a virtual machine, whose host slows it down for tens of
seconds: medians by 2.1 %, of which 0.9 % show within a run; quickest runs by 0.5 to 0.8 %, on a worse day by 2 %."""
ORDINARY_SPREAD, DISTURBED_SHARE = 0.05, 0.4
"""Where the middle half of a run's samples spreads further than the first, as a logarithm, the machine was
disturbed, and another run's median may be off by the second of the excess. Measured where neighbours took most
of the machine: middle halves of 0.5, medians of the same thing off by 0.18."""
NORMAL = 1.96


def median_change(before: Sequence[Parts], after: Sequence[Parts]) -> tuple[float, float]:
    """The logarithm of median latency after over before, and its standard error.

    `before` and `after`: one or more runs of the same thing. Runs differ by more than their parts do, so each run
    has the error of its parts and a spread between runs; that is assumed (BETWEEN_MEDIANS, DISTURBED_SHARE), and
    where repeated runs differ by more, taken from them.
    """
    return _change(before, after, _log_median)


def quickest_change(before: Sequence[Parts], after: Sequence[Parts]) -> tuple[float, float]:
    """The same of the quickest run, which a machine that others use too slows down least (Chen and Revels, "Robust
    benchmarking in noisy environments", 2016)."""
    return _change(before, after, _log_quickest)


def _change(
    before: Sequence[Parts], after: Sequence[Parts], estimate: Callable[[Parts], tuple[float, float]]
) -> tuple[float, float]:
    (centre_before, variance_before), (centre_after, variance_after) = (
        _over_runs([estimate(parts) for parts in runs]) for runs in (before, after)
    )
    return centre_after - centre_before, float(np.sqrt(variance_before + variance_after))


def _over_runs(estimates: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The mean of the runs' centres, and its variance."""
    count = len(estimates)
    centres = [centre for centre, _ in estimates]
    assumed = sum(variance for _, variance in estimates) / count**2
    seen = float(np.var(centres, ddof=1)) / count if count > 1 else 0.0
    return sum(centres) / count, max(assumed, seen)


def _log_median(parts: Parts) -> tuple[float, float]:
    """Of one run, with its variance: as much more than that of the parts as Student's interval of so few is wider
    than the normal one."""
    low, middle, high = np.log(np.percentile(np.concatenate(parts), [25, 50, 75]))
    between = max(BETWEEN_MEDIANS, DISTURBED_SHARE * float(high - low - ORDINARY_SPREAD))
    wider = student(len(parts)) / NORMAL if len(parts) > 1 else 1.0
    return float(middle), _variance([float(np.median(part)) for part in parts]) * wider**2 + between**2


def _log_quickest(parts: Parts) -> tuple[float, float]:
    quickest = [float(part.min()) for part in parts]
    return float(np.log(min(quickest))), _variance(quickest) + BETWEEN_QUICKEST**2


def _variance(values: Sequence[float]) -> float:
    """Variance of the mean of the logarithms."""
    return float(np.var(np.log(values), ddof=1)) / len(values) if len(values) > 1 else 0.0
