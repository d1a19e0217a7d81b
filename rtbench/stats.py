"""Pure statistics over samples and counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rtbench.records import Interval, Latency

DISTURBED = 1.10
"""Mean over median past which a row is called disturbed: a busy neighbour raises means by 40 % and more
and leaves medians almost alone."""
DRIFTED = 1.05
"""Median of the last third of the rounds over that of the first (or the reverse) past which a row drifted."""


def wilson_interval(successes: int, trials: int) -> Interval:
    """The 95 % Wilson score interval of a proportion, as fractions."""
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(confidence_level=0.95, method="wilson")
    return float(interval.low), float(interval.high)


def mean_interval(rounds: Sequence[NDArray[np.float64]]) -> Interval | None:
    """The 95 % interval of the mean of all samples, None for fewer than two rounds.

    Samples within a round follow each other and are not independent, so the rounds are the units:
    Student's t over the round means, each weighted by its number of samples.
    """
    if len(rounds) < 2:
        return None
    from scipy.stats import t

    sizes = np.array([len(samples) for samples in rounds], dtype=np.float64)
    means = np.array([samples.mean() for samples in rounds])
    weights = sizes / sizes.sum()
    mean = float(weights @ means)
    # Variance of a weighted mean of independent round means; s2 / n where all rounds are of one size.
    n = len(rounds)
    error = float(np.sqrt(np.sum((weights * (means - mean)) ** 2) * n / (n - 1)))
    half = float(t.ppf(0.975, n - 1)) * error
    return mean - half, mean + half


def summarise_latency(rounds: Sequence[NDArray[np.float64]]) -> Latency:
    """Every figure of a row's latency from its raw samples.

    `rounds`: one array of milliseconds a round, in the order measured. Percentiles interpolate linearly
    between order statistics (numpy's default, type 7 of Hyndman and Fan); `std_ms` has n - 1 below it.
    """
    samples = np.concatenate(rounds)
    p50, p90, p95, p99 = (float(value) for value in np.percentile(samples, [50, 90, 95, 99]))
    mean = float(samples.mean())
    warnings = []
    if mean > DISTURBED * p50:
        warnings.append(
            f"mean is {mean / p50 - 1:.0%} above the median: something else used this machine; close it and run again"
        )
    third = len(rounds) // 3
    if third:
        first = float(np.median(np.concatenate(rounds[:third])))
        last = float(np.median(np.concatenate(rounds[-third:])))
        if max(first, last) > DRIFTED * min(first, last):
            warnings.append(
                f"median moved from {first:.3g} to {last:.3g} ms during the run: let the machine settle, raise --runs"
            )
    return Latency(
        runs=len(samples),
        rounds=len(rounds),
        mean_ms=mean,
        std_ms=float(samples.std(ddof=1)) if len(samples) > 1 else 0.0,
        min_ms=float(samples.min()),
        max_ms=float(samples.max()),
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        mean_ci95_ms=mean_interval(rounds),
        stable=not warnings,
        warnings=warnings,
    )
