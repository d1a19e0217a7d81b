"""Every figure again by another way: the standard library, sorting by hand, formulas written out."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import scipy.stats
from made_samples import noisy_rounds

from rtbench.measure.summary import summarise_latency
from rtbench.stats import (
    difference_interval,
    mcnemar_test,
    medians,
    paired_change,
    paired_interval,
    quantile_bound,
    student,
    wilson_interval,
)


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
    ]:
        assert figure == pytest.approx(percentile_by_hand(samples, share), rel=1e-12)
    if len(samples) >= 1000:
        assert latency.p99_ms == pytest.approx(percentile_by_hand(samples, 0.99), rel=1e-12)
    else:
        assert latency.p99_ms is None
    if rounds < 5:
        assert latency.mean_ci95_ms is None
    else:
        low, high = latency.mean_ci95_ms
        assert low < latency.mean_ms < high
    assert latency.device_mean_ms is None


def test_the_devices_own_time_is_its_mean_or_nothing() -> None:
    blocks = [np.array([4.0, 6.0]), np.array([5.0])]
    whole, broken = [np.array([3.0, 2.0]), np.array([1.0])], [np.array([3.0, np.nan]), np.array([1.0])]
    assert summarise_latency(blocks, device_rounds=whole).device_mean_ms == 2.0
    assert summarise_latency(blocks, device_rounds=broken).device_mean_ms is None


def test_percentiles_of_a_small_series_known_by_heart() -> None:
    latency = summarise_latency([np.array([3.0, 1.0, 2.0]), np.array([5.0, 4.0])])
    assert (latency.p50_ms, latency.p90_ms, latency.p95_ms) == pytest.approx((3.0, 4.6, 4.8))
    assert latency.p99_ms is None
    assert latency.p90_bound_ms is None


def test_one_sample_has_no_spread_and_no_interval() -> None:
    latency = summarise_latency([np.array([4.0])])
    assert (latency.mean_ms, latency.std_ms, latency.p95_ms) == (4.0, 0.0, 4.0)
    assert latency.mean_ci95_ms is None
    assert latency.stable


def test_one_round_has_a_spread_and_no_interval() -> None:
    latency = summarise_latency([np.array([4.0, 6.0])])
    assert latency.std_ms == pytest.approx(math.sqrt(2))
    assert latency.mean_ci95_ms is None


@pytest.mark.parametrize("count", [44, 64, 900, 1000])
def test_the_bound_of_p90_is_the_smallest_order_statistic_that_is_sure_enough(count: int) -> None:
    samples = np.random.default_rng(count).permutation(count) + 1.0  # the k-th smallest is k
    bound = quantile_bound(samples, 0.90, 0.99)

    def surely_above(k: int) -> float:
        """That the k-th smallest of `count` lies above the quantile: fewer than k samples below it."""
        return sum(math.comb(count, below) * 0.9**below * 0.1 ** (count - below) for below in range(k))

    if count < 44:
        assert bound is None
    else:
        k = int(bound)
        assert surely_above(k) >= 0.99 > surely_above(k - 1)


@pytest.mark.parametrize(("quantile", "confidence"), [(0.9, 0.99), (0.9, 0.5), (0.5, 0.95), (0.01, 0.2), (0.03, 0.1)])
def test_the_bound_of_any_quantile_is_the_smallest_order_statistic_that_is_sure_enough(
    quantile: float, confidence: float
) -> None:
    for count in range(1, 200):
        fewer = scipy.stats.binom.cdf(np.arange(count), count, quantile)
        sure = [k + 1 for k in range(count) if fewer[k] >= confidence]
        bound = quantile_bound(np.arange(1.0, count + 1), quantile, confidence)
        assert bound == (sure[0] if sure else None), count


def test_too_few_runs_bound_nothing() -> None:
    assert 1 - 0.9**43 < 0.99 < 1 - 0.9**44
    assert quantile_bound(np.arange(43.0), 0.90, 0.99) is None
    assert quantile_bound(np.arange(44.0), 0.90, 0.99) == 43.0


@pytest.mark.parametrize(
    ("successes", "trials"), [(0, 1), (1, 1), (0, 10), (10, 10), (1, 10), (7, 45), (442, 500), (34880, 50000)]
)
def test_wilson_interval(successes: int, trials: int) -> None:
    low, high = wilson_interval(successes, trials)
    assert (low, high) == pytest.approx(wilson_by_hand(successes, trials), abs=1e-12)
    assert 0 <= low < high <= 1
    assert low == 0 if successes == 0 else low > 0
    assert high == 1 if successes == trials else high < 1


def test_short_formulas_are_those_of_scipy() -> None:
    for trials in (1, 2, 7, 60, 50_000):
        for successes in {0, 1, trials // 3, trials - 1, trials}:
            exact = scipy.stats.binomtest(successes, trials, 0.5)
            assert wilson_interval(successes, trials) == pytest.approx(exact.proportion_ci(0.95, "wilson"), abs=1e-15)
            assert mcnemar_test(successes, trials - successes) == pytest.approx(exact.pvalue, rel=1e-9)
    for count in (*range(1, 130), 9_999, 1_000_000):
        for share, confidence in ((0.9, 0.99), (0.5, 0.9), (0.99, 0.95)):
            least = int(scipy.stats.binom.ppf(confidence, count, share))
            assert quantile_bound(np.arange(float(count)), share, confidence) == (least if least < count else None)


def test_wilson_interval_is_the_same_seen_from_the_failures() -> None:
    low, high = wilson_interval(30, 100)
    assert wilson_interval(70, 100) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize(("gained", "lost", "trials"), [(3, 5, 60), (0, 0, 10), (40, 2, 500), (1, 0, 1)])
def test_the_paired_interval_is_that_of_a_mean_with_half_a_trial_in_each_cell(
    gained: int, lost: int, trials: int
) -> None:
    """Of outcomes +1, -1 and 0: their mean, and the variance of a mean by its definition."""
    cells = {1: gained + 0.5, -1: lost + 0.5, 0: trials - gained - lost + 1}
    total = sum(cells.values())
    mean = sum(value * count for value, count in cells.items()) / total
    variance = sum((value - mean) ** 2 * count for value, count in cells.items()) / total
    centre, error = paired_change(gained, lost, trials)
    assert (centre, error) == pytest.approx((mean, math.sqrt(variance / total)), rel=1e-12)
    low, high = paired_interval(gained, lost, trials)
    half = 1.959963984540054 * error
    assert (low, high) == pytest.approx((max(mean - half, -1), min(mean + half, 1)), rel=1e-12)


def test_the_paired_interval_ends_at_one() -> None:
    assert paired_interval(1, 0, 1)[1] == 1.0
    assert paired_interval(0, 1, 1)[0] == -1.0


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 1), (3, 9), (12, 12)])
def test_mcnemars_test_counts_the_outcomes_that_are_no_likelier(gained: int, lost: int) -> None:
    total = gained + lost
    ways = [math.comb(total, each) for each in range(total + 1)]
    assert mcnemar_test(gained, lost) == pytest.approx(sum(way for way in ways if way <= ways[gained]) / 2**total)


def test_newcombes_difference_by_hand() -> None:
    """Example (a) of his table II: 56 of 70 and 48 of 80, 0.0524 to 0.3339."""
    intervals = wilson_interval(56, 70), wilson_interval(48, 80)
    low, high = difference_interval(56 / 70, intervals[0], 48 / 80, intervals[1])
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)
    low, high = difference_interval(0.2, (0.1, 0.5), 0.1, (0.06, 0.22))  # sides of 3, 4 and 5
    assert (low, high) == pytest.approx((0.1 - math.hypot(0.1, 0.12), 0.1 + math.hypot(0.3, 0.04)))


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
        assert "12 % above the median" in latency.warnings[0]


@pytest.mark.parametrize("backwards", [False, True], ids=["slower", "faster"])
@pytest.mark.parametrize(("by", "drifted"), [(1.04, False), (1.06, True)])
def test_a_median_that_moves_is_a_drift_either_way(by: float, drifted: bool, backwards: bool) -> None:
    blocks = [np.full(5, 10.0)] * 10 + [np.full(5, 10.0 * math.sqrt(by))] * 10 + [np.full(5, 10.0 * by)] * 10
    latency = summarise_latency(blocks[::-1] if backwards else blocks)
    assert latency.stable is not drifted
    assert len(latency.warnings) == int(drifted)
    if drifted:
        assert "from 10.6 to 10 ms" in latency.warnings[0] if backwards else "from 10 to 10.6 ms" in latency.warnings[0]


def test_what_processes_differ_by_is_in_the_interval_and_is_no_drift() -> None:
    """Five processes of which the first two are 8 % faster: the interval is wider than that. One after the other
    slower, it is a drift."""
    rounds = [np.full(10, 10.0 if number < 8 else 10.8) for number in range(20)]
    latency = summarise_latency(rounds, [number // 4 for number in range(20)])
    assert latency.mean_ci95_ms[1] - latency.mean_ci95_ms[0] > 0.8
    assert latency.stable
    assert not summarise_latency(rounds, [0] * 20).stable
    climbing = [np.full(10, 10 + 0.2 * (number // 4)) for number in range(20)]
    assert not summarise_latency(climbing, [number // 4 for number in range(20)]).stable


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


def test_what_was_seen_of_the_machine_and_a_warm_up_without_end_make_a_row_unstable() -> None:
    quiet = noisy_rounds(5, 40, 25, between=0.05)
    assert summarise_latency(quiet, warmup_runs=20, settled=True).stable
    assert summarise_latency(quiet, warmup_runs=20, settled=None).stable
    restless = summarise_latency(quiet, warmup_runs=300, settled=False)
    assert not restless.stable
    assert "300 untimed runs" in restless.warnings[0]
    seen = summarise_latency(quiet, disturbances=["the fan fell off"])
    assert (seen.stable, seen.warnings) == (False, ["the fan fell off"])
    assert seen.mean_ms == restless.mean_ms


def test_medians_are_those_of_each_part():
    generator = np.random.default_rng(5)
    parts = [generator.gamma(2.0, 1.0, size) for size in generator.integers(1, 12, 300)]
    np.testing.assert_array_equal(medians(parts), [np.median(part) for part in parts])
    assert medians([]).shape == (0,)


def test_students_quantile_is_that_of_the_statistics_package():
    from scipy.stats import t

    assert [student(count) for count in range(2, 500)] == [float(t.ppf(0.975, count - 1)) for count in range(2, 500)]
