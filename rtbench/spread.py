"""How far the latencies of two runs lie apart, and how far those of the same thing would; pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rtbench.stats import student

STATISTICS = "2"
"""Counted up when the verdicts of a diff change, so that none kept from before is taken for a new one."""
BETWEEN_RUNS = 0.01
"""Standard deviation, as a share, by which the median latency of two runs of the same thing is held to differ
at least, whatever each of them saw: other addresses, other clocks, another day."""
ORDINARY_SPREAD, DISTURBED_SHARE = 0.05, 0.4
"""Where the middle half of a run's samples spreads further than the first, as a logarithm, the machine was
disturbed, and another run's median may be off by the second of the excess. Measured where neighbours took most
of the machine: middle halves of 0.5, medians of the same thing off by 0.18."""
NORMAL = 1.96


def latency_change(
    before: Sequence[Sequence[NDArray[np.float64]]], after: Sequence[Sequence[NDArray[np.float64]]]
) -> tuple[float, float]:
    """The logarithm of median latency after over before, and its standard error.

    `before` and `after`: one or more runs of the same thing, each as its milliseconds in parts that are independent
    of each other, which are its processes, or where there are few its rounds. Runs differ by more than their parts
    do, so each run's median has the error of its parts' medians and a spread between runs; that is assumed
    (BETWEEN_RUNS, DISTURBED_SHARE), and where repeated runs differ by more, taken from them.
    """
    (centre_before, variance_before), (centre_after, variance_after) = _log_median(before), _log_median(after)
    return centre_after - centre_before, float(np.sqrt(variance_before + variance_after))


def _log_median(runs: Sequence[Sequence[NDArray[np.float64]]]) -> tuple[float, float]:
    """The mean over runs of the logarithm of the median, and its variance."""
    centres, variances = [], []
    for parts in runs:
        low, middle, high = np.log(np.percentile(np.concatenate(parts), [25, 50, 75]))
        between = max(BETWEEN_RUNS, DISTURBED_SHARE * float(high - low - ORDINARY_SPREAD))
        centres.append(float(middle))
        variances.append(_median_variance(parts) + between**2)
    count = len(runs)
    assumed = sum(variances) / count**2
    seen = float(np.var(centres, ddof=1)) / count if count > 1 else 0.0
    return sum(centres) / count, max(assumed, seen)


def _median_variance(parts: Sequence[NDArray[np.float64]]) -> float:
    """Variance of the logarithm of the median, from the parts' own medians; as much more as Student's interval of
    so few is wider than the normal one."""
    count = len(parts)
    if count < 2:
        return 0.0
    wider = student(count) / NORMAL
    return float(np.var([np.log(np.median(part)) for part in parts], ddof=1)) / count * wider**2
