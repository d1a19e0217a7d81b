"""Every figure again by another way: the standard library, sorting by hand, formulas written out."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import scipy.stats

from rtbench.stats import mean_interval, summarise_latency, wilson_interval


def noisy_rounds(seed: int, rounds: int, size: int, *, between: float = 0.3) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [10 + generator.normal(0, between) + generator.gamma(2.0, 0.5, size) for _ in range(rounds)]


def percentile_by_hand(samples: list[float], share: float) -> float:
    """Linear between order statistics, the k-th of n lying at (k - 1) / (n - 1)."""
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def wilson_by_hand(successes: int, trials: int) -> tuple[float, float]:
    z = 1.959963984540054
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return centre - half, centre + half


@pytest.mark.parametrize(("rounds", "size"), [(40, 25), (10, 3), (7, 11), (2, 1)])
def test_every_figure_of_a_summary(rounds: int, size: int) -> None:
    blocks = noisy_rounds(rounds * size, rounds, size)
    samples = [float(value) for block in blocks for value in block]
    latency = summarise_latency(blocks)
    assert (latency.runs, latency.rounds) == (rounds * size, rounds)
    assert latency.mean_ms == pytest.approx(statistics.fmean(samples), rel=1e-12)
    assert latency.std_ms == pytest.approx(statistics.stdev(samples), rel=1e-9)
    assert (latency.min_ms, latency.max_ms) == (min(samples), max(samples))
    assert latency.p50_ms == pytest.approx(statistics.median(samples), rel=1e-12)
    for share, figure in [
        (0.5, latency.p50_ms),
        (0.9, latency.p90_ms),
        (0.95, latency.p95_ms),
        (0.99, latency.p99_ms),
    ]:
        assert figure == pytest.approx(percentile_by_hand(samples, share), rel=1e-12)
    means = [statistics.fmean(block) for block in blocks]
    expected = scipy.stats.t.interval(
        0.95, rounds - 1, loc=statistics.fmean(means), scale=statistics.stdev(means) / math.sqrt(rounds)
    )
    assert latency.mean_ci95_ms == pytest.approx(expected, rel=1e-9)
    assert latency.device_mean_ms is None


def test_percentiles_of_a_small_series_known_by_heart() -> None:
    latency = summarise_latency([np.array([3.0, 1.0, 2.0]), np.array([5.0, 4.0])])
    assert (latency.p50_ms, latency.p90_ms, latency.p95_ms) == pytest.approx((3.0, 4.6, 4.8))
    assert latency.p99_ms == pytest.approx(4.96)


def test_one_sample_has_no_spread_and_no_interval() -> None:
    latency = summarise_latency([np.array([4.0])])
    assert (latency.mean_ms, latency.std_ms, latency.p99_ms) == (4.0, 0.0, 4.0)
    assert latency.mean_ci95_ms is None
    assert latency.stable


def test_one_round_has_a_spread_and_no_interval() -> None:
    latency = summarise_latency([np.array([4.0, 6.0])])
    assert latency.std_ms == pytest.approx(math.sqrt(2))
    assert latency.mean_ci95_ms is None


def test_rounds_of_unequal_size_weigh_by_their_samples() -> None:
    blocks = [np.array([1.0, 2.0, 3.0]), np.array([5.0]), np.array([2.0, 4.0])]
    low, high = mean_interval(blocks)
    assert (low + high) / 2 == pytest.approx(17 / 6)
    # sum of (weight x deviation)^2, times n / (n - 1), written out
    overall = 17 / 6
    error = math.sqrt(
        ((3 / 6 * (2 - overall)) ** 2 + (1 / 6 * (5 - overall)) ** 2 + (2 / 6 * (3 - overall)) ** 2) * 3 / 2
    )
    assert (high - low) / 2 == pytest.approx(4.302652729911275 * error, rel=1e-9)


@pytest.mark.parametrize("sizes", [[10] * 12, [11] * 6 + [10] * 6, [25] * 9 + [7]], ids=["alike", "by one", "last"])
def test_the_interval_covers_the_mean_although_rounds_differ(sizes: list[int]) -> None:
    generator = np.random.default_rng(20)
    trials, covered, naively_covered = 1500, 0, 0
    for _ in range(trials):
        blocks = [50 + generator.normal(0, 0.5) + generator.normal(0, 1, size) for size in sizes]
        low, high = mean_interval(blocks)
        covered += low <= 50 <= high
        samples = np.concatenate(blocks)
        naively_covered += abs(samples.mean() - 50) <= 1.96 * samples.std(ddof=1) / math.sqrt(len(samples))
    assert 0.92 <= covered / trials <= 0.975
    assert naively_covered / trials < 0.85  # what samples taken as independent would give: the noise matters here


@pytest.mark.parametrize(
    ("successes", "trials"), [(0, 1), (1, 1), (0, 10), (10, 10), (1, 10), (7, 45), (442, 500), (34880, 50000)]
)
def test_wilson_interval(successes: int, trials: int) -> None:
    low, high = wilson_interval(successes, trials)
    assert (low, high) == pytest.approx(wilson_by_hand(successes, trials), abs=1e-12)
    assert 0 <= low < high <= 1
    assert low == 0 if successes == 0 else low > 0
    assert high == 1 if successes == trials else high < 1


def test_wilson_interval_is_the_same_seen_from_the_failures() -> None:
    low, high = wilson_interval(30, 100)
    assert wilson_interval(70, 100) == pytest.approx((1 - high, 1 - low))


def test_a_quiet_series_has_no_warnings() -> None:
    latency = summarise_latency(noisy_rounds(5, 40, 25, between=0.05))
    assert latency.stable
    assert latency.warnings == []


@pytest.mark.parametrize(("slow_ms", "disturbed"), [(18.0, False), (22.0, True)])
def test_a_mean_far_above_the_median_is_a_disturbance(slow_ms: float, disturbed: bool) -> None:
    # One run in ten is slow, in every round alike: mean 10.8 or 11.2 beside a median of 10.
    latency = summarise_latency([np.array([10.0] * 9 + [slow_ms])] * 30)
    assert latency.stable is not disturbed
    assert len(latency.warnings) == int(disturbed)
    if disturbed:
        assert "12% above the median" in latency.warnings[0]


@pytest.mark.parametrize("backwards", [False, True], ids=["slower", "faster"])
@pytest.mark.parametrize(("by", "drifted"), [(1.04, False), (1.06, True)])
def test_a_median_that_moves_is_a_drift_either_way(by: float, drifted: bool, backwards: bool) -> None:
    blocks = [np.full(5, 10.0)] * 10 + [np.full(5, 10.0 * math.sqrt(by))] * 10 + [np.full(5, 10.0 * by)] * 10
    latency = summarise_latency(blocks[::-1] if backwards else blocks)
    assert latency.stable is not drifted
    assert len(latency.warnings) == int(drifted)
    if drifted:
        assert "from 10.6 to 10 ms" in latency.warnings[0] if backwards else "from 10 to 10.6 ms" in latency.warnings[0]


def test_drift_compares_thirds_and_needs_three_rounds() -> None:
    assert summarise_latency([np.full(5, 10.0), np.full(5, 10.8)]).stable
    assert not summarise_latency([np.full(5, 10.0), np.full(5, 10.0), np.full(5, 10.8)]).stable
    # A bump in the middle is over when the last third begins.
    assert summarise_latency([np.full(5, 10.0), np.full(5, 10.8), np.full(5, 10.0)]).stable


def test_a_disturbance_and_a_drift_are_both_told() -> None:
    blocks = [np.array([10.0] * 8 + [30.0] * 2)] * 5 + [np.array([20.0] * 8 + [90.0] * 2)] * 5
    latency = summarise_latency(blocks)
    assert not latency.stable
    assert len(latency.warnings) == 2
