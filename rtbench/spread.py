"""How far the latencies of two runs lie apart, and how far those of the same thing would; pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

STATISTICS = "1"
"""Counted up when the verdicts of a diff change, so that none kept from before is taken for a new one."""
BETWEEN_RUNS = 0.01
"""Standard deviation, as a share, by which the median latency of two runs of the same thing is held to differ
at least, whatever each of them saw: other addresses, other clocks, another day."""
ORDINARY_SPREAD, DISTURBED_SHARE = 0.05, 0.4
"""Where the middle half of a run's samples spreads further than the first, as a logarithm, the machine was
disturbed, and another run's median may be off by the second of the excess. Measured where neighbours took most
of the machine: middle halves of 0.5, medians of the same thing off by 0.18."""
_RESAMPLES = 400


def latency_change(
    before: Sequence[Sequence[NDArray[np.float64]]], after: Sequence[Sequence[NDArray[np.float64]]]
) -> tuple[float, float]:
    """The logarithm of median latency after over before, and its standard error.

    `before` and `after`: one or more runs of the same thing, each as its rounds of milliseconds. Runs differ by
    more than their rounds do, so each run's median has the error of resampled rounds and a spread between runs;
    that is assumed (BETWEEN_RUNS, DISTURBED_SHARE), and where repeated runs differ by more, taken from them.
    """
    (centre_before, variance_before), (centre_after, variance_after) = _log_median(before), _log_median(after)
    return centre_after - centre_before, float(np.sqrt(variance_before + variance_after))


def _log_median(runs: Sequence[Sequence[NDArray[np.float64]]]) -> tuple[float, float]:
    """The mean over runs of the logarithm of the median, and its variance."""
    centres, variances = [], []
    for rounds in runs:
        low, middle, high = np.log(np.percentile(np.concatenate(rounds), [25, 50, 75]))
        between = max(BETWEEN_RUNS, DISTURBED_SHARE * float(high - low - ORDINARY_SPREAD))
        centres.append(float(middle))
        variances.append(_median_variance(rounds) + between**2)
    count = len(runs)
    assumed = sum(variances) / count**2
    seen = float(np.var(centres, ddof=1)) / count if count > 1 else 0.0
    return sum(centres) / count, max(assumed, seen)


def _median_variance(rounds: Sequence[NDArray[np.float64]]) -> float:
    """Variance of the logarithm of the median when whole rounds are drawn again (_RESAMPLES times, seeded)."""
    shortest = min(len(samples) for samples in rounds)
    table = np.stack([samples[:shortest] for samples in rounds])
    drawn = np.random.Generator(np.random.PCG64(0)).integers(0, len(table), (_RESAMPLES, len(table)))
    return float(np.log(np.median(table[drawn].reshape(_RESAMPLES, -1), axis=1)).var())
