"""Pure statistics over samples and counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rtbench.records import Interval

Floats = NDArray[np.float64]
Verdict = Literal["faster", "slower", "no difference shown"]

SAME = 0.01
"""How far apart the latencies of one artifact in two processes may be: a difference within it is not
shown, however narrow the interval. Measured by benchmarks/latency.py in 40 comparisons of a file with itself: 0.3 %
in the middle one, 1.5 % at most."""

LEAST_PROCESSES = 3
"""With fewer, nothing is known of how processes differ."""
_RESAMPLES = 2000
_MOST_GROUPS = 400
"""More rounds than this are taken together with their neighbours, which costs nothing in precision."""


def wilson_interval(successes: int, trials: int) -> Interval:
    """The 95 % Wilson score interval of a proportion, as fractions."""
    share, z = successes / trials, normal(0.975)
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * (share * (1 - share) / trials + z**2 / (4 * trials**2)) ** 0.5
    return centre - half if successes else 0.0, centre + half if successes < trials else 1.0


def difference_interval(first: float, first_ci95: Interval, second: float, second_ci95: Interval) -> Interval:
    """The 95 % interval of `first` - `second`, proportions measured apart, from the Wilson intervals of both
    (Newcombe, Statistics in Medicine 17, 1998, method 10)."""
    difference = first - second
    low = difference - float(np.hypot(first - first_ci95[0], second_ci95[1] - second))
    return low, difference + float(np.hypot(first_ci95[1] - first, second - second_ci95[0]))


def paired_change(gained: int, lost: int, trials: int) -> tuple[float, float]:
    """The centre and the standard error of an interval for the difference of two proportions measured on the same
    trials, of which `gained` succeeded only with the second and `lost` only with the first.

    Wald's interval with half a trial added to each cell (Agresti and Min, Statistics in Medicine 24, 2005).
    """
    up, down, total = gained + 0.5, lost + 0.5, trials + 2
    return (up - down) / total, float(np.sqrt(up + down - (up - down) ** 2 / total)) / total


def paired_interval(gained: int, lost: int, trials: int) -> Interval:
    """The 95 % interval of the difference of two proportions measured on the same trials, as fractions.

    `gained` trials succeeded only with the first, `lost` only with the second. Wald's interval with half
    a trial added to each cell (Agresti and Min, Statistics in Medicine 24, 2005): without that it is far
    too narrow where few trials differ.
    """
    difference, error = paired_change(gained, lost, trials)
    half = normal(0.975) * error
    return max(difference - half, -1.0), min(difference + half, 1.0)


def mcnemar_test(gained: int, lost: int) -> float:
    """The exact two-sided p-value of McNemar's test: are gains and losses equally likely? 1 without any."""
    from scipy.special import bdtr  # the binomial distribution, without scipy.stats, which takes a second to load

    return min(2 * float(bdtr(min(gained, lost), gained + lost, 0.5)), 1.0)


def mean_interval(rounds: Sequence[Floats], processes: Sequence[int] = ()) -> Interval | None:
    """The 95 % interval of the mean of all samples; None below five rounds, too few to resample.

    `processes`: the process that each round was timed in; without, they count as one. Samples that follow each
    other resemble each other, over seconds and minutes too (the noise of a computer has no scale of its own), and
    processes differ. So where there are LEAST_PROCESSES, the interval is Student's over their means, by the
    variance of a ratio estimator over clusters. With fewer, rounds are resampled: the bootstrap-t of Efron and
    Tibshirani (1993, section 12.5) of that estimator, widened by `between_rounds` where rounds are not independent.
    """
    if len(rounds) < 5:
        return None
    sizes = np.array([len(samples) for samples in rounds], dtype=np.float64)
    sums = np.array([samples.sum() for samples in rounds])
    if len(set(processes)) >= LEAST_PROCESSES:
        mean, error = _ratio_and_error(_by_process(sums, processes), _by_process(sizes, processes))
        half = student(len(set(processes))) * float(error)
        return float(mean) - half, float(mean) + half
    sizes, sums = _grouped(sizes), _grouped(sums)
    mean, error = _ratio_and_error(sums, sizes)
    if error == 0:
        return mean, mean
    drawn = np.random.Generator(np.random.PCG64(1)).integers(0, len(sums), (_RESAMPLES, len(sums)))
    means, errors = _ratio_and_error(sums[drawn], sizes[drawn])
    students = (means - mean)[errors > 0] / errors[errors > 0]
    low, high = np.percentile(students, [2.5, 97.5])
    wider = error * between_rounds(sums / sizes)
    return float(mean - high * wider), float(mean - low * wider)


def _by_process(values: Floats, processes: Sequence[int]) -> Floats:
    """Sums over the rounds of each process."""
    _, which = np.unique(np.asarray(processes), return_inverse=True)
    return np.bincount(which, weights=values).astype(np.float64)


def student(count: int) -> float:
    """How many standard errors a 95 % interval of the mean of `count` values reaches to either side."""
    from scipy.special import stdtrit

    return float(stdtrit(count - 1, 0.975))


def normal(share: float) -> float:
    """The quantile of the standard normal distribution."""
    from scipy.special import ndtri

    return float(ndtri(share))


def medians(parts: Sequence[Floats]) -> Floats:
    """The median of each part, those of one size at once."""
    sizes = np.array([len(part) for part in parts])
    found = np.empty(len(parts))
    for size in np.unique(sizes):
        found[sizes == size] = np.median([part for part in parts if len(part) == size], axis=1)
    return found


def _ratio_and_error(sums: Floats, sizes: Floats) -> tuple[Any, Any]:
    """Sum over size of all clusters along the last axis, and its standard error."""
    n = sums.shape[-1]
    total = sizes.sum(axis=-1, keepdims=True)
    ratio = sums.sum(axis=-1, keepdims=True) / total
    deviations = (sums - ratio * sizes) / total
    error = np.sqrt((deviations**2).sum(axis=-1) * n / (n - 1))
    return ratio[..., 0], error


def between_rounds(values: Floats) -> float:
    """The factor by which a standard error grows since neighbouring rounds resemble each other.

    The square root of (1 + r) / (1 - r) for a first-order autoregression, r being the autocorrelation at
    lag one with Kendall's (1954) correction of its bias, between 0 and 0.9.
    """
    n = len(values)
    deviations = values - values.mean()
    power = float((deviations**2).sum())
    if n < 5 or power == 0:
        return 1.0
    lag_one = float((deviations[1:] * deviations[:-1]).sum()) / power
    r = min(max(lag_one + (1 + 4 * lag_one) / n, 0.0), 0.9)
    return float(np.sqrt((1 + r) / (1 - r)))


def quantile_bound(samples: Floats, quantile: float, confidence: float) -> float | None:
    """The one-sided upper bound of a quantile by order statistics; None with too few samples for one.

    As in MLPerf's early stopping, samples are taken as independent: the k-th smallest of n, k being the
    least with P(Binomial(n, quantile) < k) >= confidence.
    """
    from scipy.special import bdtr, bdtrik

    count = len(samples)
    rank = max(int(np.nan_to_num(bdtrik(confidence, count, quantile))) - 1, 0)
    while bdtr(rank, count, quantile) < confidence:
        rank += 1
    return float(np.sort(samples)[rank]) if rank < count else None


def compare_rounds(
    own: Mapping[int, Floats],
    other: Mapping[int, Floats],
    processes: Mapping[int, int] | None = None,
) -> tuple[float, Interval | None, Verdict]:
    """How many times faster `own` is than `other`, its 95 % interval, and what that shows.

    Each maps the number of a round to its samples, `processes` to the process that it was timed in. Rounds are
    compared in pairs, by the logarithm of the ratio of their medians, so that what slows the whole machine for a
    while falls out. The estimate is that of Hodges and Lehmann, the interval that of Wilcoxon's signed-rank test
    (Hollander and Wolfe, 1973, section 3.3), exact for independent rounds and widened by `between_rounds` where they
    are not; None below six rounds. But where rounds differ from process to process more than within one, both are
    Student's over the processes. A difference is shown where the whole interval is beyond SAME.
    """
    shared = sorted(own.keys() & other.keys())
    ratios = np.log(medians([other[at] for at in shared]) / medians([own[at] for at in shared]))
    which = np.array([processes[number] if processes else 0 for number in shared])
    apart = [ratios[which == process] for process in np.unique(which)]
    if _processes_differ(apart):
        estimate, interval = _student_interval(np.array([_signed_rank(each)[0] for each in apart]))
    else:
        ratios = _grouped(ratios) / _grouped(np.ones(len(ratios)))
        estimate, interval = _signed_rank(ratios)
        if interval is not None:
            wider = between_rounds(ratios)
            interval = estimate + (interval[0] - estimate) * wider, estimate + (interval[1] - estimate) * wider
    if interval is None:
        return float(np.exp(estimate)), None, "no difference shown"
    low, high = (float(np.exp(end)) for end in interval)
    verdict: Verdict = "faster" if low > 1 + SAME else "slower" if high < 1 / (1 + SAME) else "no difference shown"
    return float(np.exp(estimate)), (low, high), verdict


def _processes_differ(apart: Sequence[Floats]) -> bool:
    """Whether rounds cannot be taken together, by an analysis of variance. Its level is high, since to take together
    what differs is worse than the wider interval (Bancroft, Biometrics 20, 1964); at 0.1 both keep their level."""
    from scipy.special import fdtrc

    if len(apart) < LEAST_PROCESSES or min(map(len, apart)) < 2:
        return False
    if all(np.ptp(each) == 0 for each in apart):
        return len({float(each[0]) for each in apart}) > 1
    sizes, means = np.array([len(each) for each in apart]), np.array([each.mean() for each in apart])
    between = float((sizes * (means - np.average(means, weights=sizes)) ** 2).sum())
    within = sum(float(((each - mean) ** 2).sum()) for each, mean in zip(apart, means, strict=True))
    free, left = len(apart) - 1, int(sizes.sum()) - len(apart)
    return float(fdtrc(free, left, between / free / (within / left))) < 0.1


def _student_interval(values: Floats) -> tuple[float, Interval | None]:
    mean, half = float(values.mean()), student(len(values)) * float(values.std(ddof=1)) / len(values) ** 0.5
    return mean, (mean - half, mean + half)


def _signed_rank(values: Floats) -> tuple[float, Interval | None]:
    first, second = np.triu_indices(len(values))
    walsh = np.sort((values[first] + values[second]) / 2)
    distribution = np.ones(1)
    for rank in range(1, len(values) + 1):
        distribution = (np.append(distribution, np.zeros(rank)) + np.append(np.zeros(rank), distribution)) / 2
    beyond = int(np.searchsorted(np.cumsum(distribution), 0.025, side="right"))
    if not beyond:
        return float(np.median(walsh)), None
    return float(np.median(walsh)), (float(walsh[beyond - 1]), float(walsh[-beyond]))


def _grouped(values: Floats) -> Floats:
    """Sums of neighbours, so that there are at most _MOST_GROUPS."""
    step = -(-len(values) // _MOST_GROUPS)
    grouped: Floats = np.add.reduceat(values, np.arange(0, len(values), step))
    return grouped
