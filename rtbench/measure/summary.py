"""A row's raw samples as the figures of its latency; pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rtbench.records import Interval
from rtbench.records.measurement import Latency
from rtbench.stats import LEAST_PROCESSES, Floats, mean_interval, quantile_bound

OUTLYING = 1.10
"""Mean over median past which some runs took far longer than most."""
DRIFTED = 1.05
"""Median of the last third of the rounds over that of the first (or the reverse) past which a row drifted, where the
interval of its mean over processes does not allow for that already."""
P99_LEAST_RUNS = 1000
"""Runs with which ten are beyond the 99th percentile; with fewer it is a guess."""
STEADY_PROCESSES = 5
"""So many means in order, by chance, in 1 case of 60: then it is a drift."""


def summarise_latency(
    rounds: Sequence[Floats],
    processes: Sequence[int] = (),
    *,
    device_rounds: Sequence[Floats] = (),
    warmup_runs: int = 0,
    settled: bool | None = None,
    disturbances: Sequence[str] = (),
) -> Latency:
    """Every figure of a row's latency from its raw samples.

    `rounds`: one array of milliseconds a round, in the order measured; `processes`: the process of each.
    `device_rounds`: the same by the device's clock, NaN where it has none. `disturbances`: what was seen
    of the machine meanwhile, as sentences. Percentiles interpolate linearly between order statistics
    (numpy's default, type 7 of Hyndman and Fan); `std_ms` has n - 1 below it.
    """
    samples = np.concatenate(rounds)
    p50, p90, p95, p99 = (float(value) for value in np.percentile(samples, [50, 90, 95, 99]))
    mean = float(samples.mean())
    warnings = [*disturbances]
    if settled is False:
        warnings.append(f"still got faster after {warmup_runs} untimed runs: raise --runs, or set --warmup higher")
    if mean > OUTLYING * p50:
        warnings.append(
            f"mean is {100 * (mean / p50 - 1):.0f} % above the median: some runs took far longer;"
            " see their times, raise --runs"
        )
    interval = mean_interval(rounds, processes)
    third = len(rounds) // 3
    if third:
        first = float(np.median(np.concatenate(rounds[:third])))
        last = float(np.median(np.concatenate(rounds[-third:])))
        moved = max(first, last) > DRIFTED * min(first, last)
        if moved and not _is_within_processes(abs(first - last), interval, rounds, processes):
            warnings.append(
                f"median moved from {first:.3g} to {last:.3g} ms during the run: let the machine settle, raise --runs"
            )
    return Latency(
        runs=len(samples),
        rounds=len(rounds),
        processes=len(set(processes)) or 1,
        mean_ms=mean,
        std_ms=float(samples.std(ddof=1)) if len(samples) > 1 else 0.0,
        min_ms=float(samples.min()),
        max_ms=float(samples.max()),
        p50_ms=p50,
        p90_ms=p90,
        p90_bound_ms=quantile_bound(samples, 0.90, 0.99),
        p95_ms=p95,
        p99_ms=p99 if len(samples) >= P99_LEAST_RUNS else None,
        mean_ci95_ms=interval,
        device_mean_ms=_mean_or_none(device_rounds),
        warmup_runs=warmup_runs,
        settled=settled,
        stable=not warnings,
        warnings=warnings,
    )


def _is_within_processes(
    moved: float, interval: Interval | None, rounds: Sequence[Floats], processes: Sequence[int]
) -> bool:
    """Whether a median has moved by no more than processes differ by, and not steadily from one to the next."""
    names = sorted(set(processes))
    if interval is None or len(names) < LEAST_PROCESSES or moved > interval[1] - interval[0]:
        return False
    means = [
        float(np.mean([samples.mean() for samples, each in zip(rounds, processes, strict=True) if each == name]))
        for name in names
    ]
    steps = np.diff(means)
    steady = len(names) >= STEADY_PROCESSES and bool((steps > 0).all() or (steps < 0).all())
    return not steady


def _mean_or_none(rounds: Sequence[Floats]) -> float | None:
    """The mean of all samples, None where any is missing."""
    samples = np.concatenate([np.empty(0), *rounds])
    return float(samples.mean()) if len(samples) and not np.isnan(samples).any() else None
