"""Every figure again by another way: the standard library, sorting by hand, formulas written out."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import scipy.stats

from rtbench.stats import (
    SAME,
    between_rounds,
    compare_rounds,
    mean_interval,
    quantile_bound,
    summarise_latency,
    wilson_interval,
)


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


def test_with_many_independent_rounds_the_interval_is_students() -> None:
    generator = np.random.default_rng(8)
    blocks = [10 + generator.normal(0, 1) + generator.normal(0, 1, 5) for _ in range(200)]
    means = [statistics.fmean(block) for block in blocks]
    expected = scipy.stats.t.interval(
        0.95, 199, loc=statistics.fmean(means), scale=statistics.stdev(means) / math.sqrt(200)
    )
    widened = between_rounds(np.array(means))
    assert 1 <= widened < 1.2
    low, high = mean_interval(blocks)
    assert high - low == pytest.approx((expected[1] - expected[0]) * widened, rel=0.1)


def test_over_processes_the_interval_is_students_over_their_means() -> None:
    blocks = noisy_rounds(9, 10, 25)
    processes = [number // 2 for number in range(10)]
    means = [float(np.concatenate(blocks[first : first + 2]).mean()) for first in range(0, 10, 2)]
    expected = scipy.stats.t.interval(
        0.95, 4, loc=statistics.fmean(means), scale=statistics.stdev(means) / math.sqrt(5)
    )
    assert mean_interval(blocks, processes) == pytest.approx(expected, rel=1e-12)
    assert summarise_latency(blocks, processes).mean_ci95_ms == mean_interval(blocks, processes)
    assert summarise_latency(blocks, processes).processes == 5
    # two processes say too little of how processes differ
    assert mean_interval(blocks, [number // 5 for number in range(10)]) == mean_interval(blocks)


def test_processes_of_unequal_size_weigh_by_their_samples() -> None:
    blocks = [np.array([1.0, 1.0, 1.0]), np.array([4.0])] * 30
    low, high = mean_interval(blocks, [number // 2 for number in range(60)])
    assert low == high == pytest.approx(1.75)  # all processes alike
    low, high = mean_interval(blocks, [number % 20 for number in range(60)])
    assert low < 1.75 < high


PROCESSES = [number // 2 for number in range(10)]


def drift(generator: np.random.Generator) -> np.ndarray:
    """What the machine does to 200 runs: noise that is as strong over a process as over a run."""
    return sum(0.005 * np.repeat(generator.normal(size=200 // step), step) for step in (1, 5, 20, 40))


def in_processes(generator: np.random.Generator, machine: np.ndarray, spread: float) -> np.ndarray:
    """Ten rounds of twenty runs in five processes that differ by `spread`."""
    levels = np.repeat(spread * generator.normal(size=5), 40)
    return (10 * np.exp(machine + levels + 0.01 * generator.standard_exponential(200))).reshape(10, 20)


@pytest.mark.parametrize("spread", [0.0, 0.003, 0.03])
def test_the_interval_over_processes_covers_the_mean_however_much_they_differ(spread: float) -> None:
    generator = np.random.default_rng(31)
    true = np.mean([in_processes(generator, drift(generator), spread).mean() for _ in range(20_000)])
    trials, covered = 400, 0
    for _ in range(trials):
        blocks = list(in_processes(generator, drift(generator), spread))
        low, high = mean_interval(blocks, PROCESSES)
        covered += low <= true <= high
    assert 0.92 <= covered / trials <= 0.98


def test_rounds_of_unequal_size_weigh_by_their_samples() -> None:
    blocks = [np.array([1.0, 1.0, 1.0]), np.array([4.0])] * 30
    low, high = mean_interval(blocks)
    assert low < 1.75 < high  # not 2.5, the mean of the round means
    assert high - low < 0.7


def test_rounds_that_are_all_alike_have_an_interval_of_one_point() -> None:
    assert mean_interval([np.array([2.0, 4.0])] * 10) == (3.0, 3.0)


def autocorrelated(generator: np.random.Generator, count: int, r: float) -> np.ndarray:
    """A first-order autoregression of unit variance."""
    values = generator.normal(0, 1, count)
    for index in range(1, count):
        values[index] = r * values[index - 1] + math.sqrt(1 - r**2) * values[index]
    return values


@pytest.mark.parametrize(("r", "least", "without"), [(0.0, 0.92, 0.96), (0.5, 0.88, 0.85)])
def test_the_interval_covers_the_mean_of_rounds_that_resemble_their_neighbours(
    r: float, least: float, without: float
) -> None:
    generator = np.random.default_rng(30)
    covered = as_if_independent = 0
    trials = 400
    for _ in range(trials):
        levels = 10 + 0.5 * autocorrelated(generator, 40, r)
        blocks = [level + 0.5 * autocorrelated(generator, 25, 0.8) + generator.gamma(0.3, 1, 25) for level in levels]
        low, high = mean_interval(blocks)
        covered += low <= 10.3 <= high
        means = [block.mean() for block in blocks]
        low, high = scipy.stats.t.interval(0.95, 39, loc=np.mean(means), scale=np.std(means, ddof=1) / math.sqrt(40))
        as_if_independent += low <= 10.3 <= high
    assert least <= covered / trials <= 0.98
    assert as_if_independent / trials <= without


@pytest.mark.parametrize("r", [0.0, 0.3, 0.6])
def test_between_rounds_is_the_inflation_of_an_autoregression(r: float) -> None:
    values = autocorrelated(np.random.default_rng(5), 20_000, r)
    assert between_rounds(values) == pytest.approx(math.sqrt((1 + r) / (1 - r)), rel=0.05)


def test_between_rounds_never_narrows() -> None:
    assert between_rounds(np.array([1.0, -1.0] * 20)) == 1.0
    assert between_rounds(np.full(20, 3.0)) == 1.0
    assert between_rounds(np.array([1.0, 2.0])) == 1.0


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


def test_too_few_runs_bound_nothing() -> None:
    assert 1 - 0.9**43 < 0.99 < 1 - 0.9**44
    assert quantile_bound(np.arange(43.0), 0.90, 0.99) is None
    assert quantile_bound(np.arange(44.0), 0.90, 0.99) == 43.0


def rounds_of(values: np.ndarray) -> dict[int, np.ndarray]:
    return dict(enumerate(values))


def test_the_interval_of_a_ratio_is_where_wilcoxons_test_does_not_reject() -> None:
    generator = np.random.default_rng(12)
    own = 10 * np.exp(generator.normal(0, 0.02, (15, 1)))
    other = 11 * np.exp(generator.normal(0, 0.02, (15, 1)))
    ratio, (low, high), verdict = compare_rounds(rounds_of(own), rounds_of(other))
    logs = np.log(other / own).ravel()
    widened = between_rounds(logs)
    walsh = sorted((a + b) / 2 for index, a in enumerate(logs) for b in logs[index:])
    assert ratio == pytest.approx(math.exp(statistics.median(walsh)), rel=1e-12)
    for end in (low, high):  # undo the widening: the exact interval's own end
        exact = math.log(ratio) + (math.log(end) - math.log(ratio)) / widened
        outward = 1e-9 if end > ratio else -1e-9
        inside = scipy.stats.wilcoxon(logs - (exact - outward), method="exact").pvalue
        outside = scipy.stats.wilcoxon(logs - (exact + outward), method="exact").pvalue
        assert outside <= 0.05 < inside
    assert verdict == "faster"


def test_the_order_of_two_rows_turns_the_ratio_over() -> None:
    generator = np.random.default_rng(13)
    own, other = (rounds_of(generator.gamma(50, size, (12, 9))) for size in (1.0, 1.2))
    ratio, (low, high), verdict = compare_rounds(own, other)
    back, (back_low, back_high), back_verdict = compare_rounds(other, own)
    assert (back, back_low, back_high) == pytest.approx((1 / ratio, 1 / high, 1 / low))
    assert (verdict, back_verdict) == ("faster", "slower")


def test_what_slows_the_whole_machine_falls_out_of_a_paired_ratio() -> None:
    generator = np.random.default_rng(14)
    machine = np.exp(autocorrelated(generator, 20, 0.9))[:, None]  # by several times, up and down
    own = 10 * machine * np.exp(generator.normal(0, 0.003, (20, 5)))
    other = 10.5 * machine * np.exp(generator.normal(0, 0.003, (20, 5)))
    ratio, (low, high), verdict = compare_rounds(rounds_of(own), rounds_of(other))
    assert ratio == pytest.approx(1.05, abs=0.005)
    assert high - low < 0.01
    assert verdict == "faster"


def test_only_rounds_that_both_rows_have_are_compared() -> None:
    own = {number: np.array([2.0]) for number in range(10)}
    other = {number: np.array([4.0]) for number in range(4, 20)}
    assert compare_rounds(own, other) == (2.0, (2.0, 2.0), "faster")


def test_where_processes_differ_the_interval_of_a_ratio_is_students() -> None:
    generator = np.random.default_rng(16)
    level = np.exp(np.repeat([0.0, 0.03, -0.02, 0.01, 0.04], 3))[:, None]
    own, other = (
        10 * np.exp(generator.normal(0, 0.01, (15, 9))),
        11 * level * np.exp(generator.normal(0, 0.01, (15, 9))),
    )
    processes = {number: number // 3 for number in range(15)}
    logs = np.log(np.median(other, axis=1) / np.median(own, axis=1)).reshape(5, 3)
    assert scipy.stats.f_oneway(*logs).pvalue < 0.01
    centres = [
        statistics.median([(a + b) / 2 for index, a in enumerate(each) for b in each[index:]]) for each in logs.tolist()
    ]
    expected = scipy.stats.ttest_1samp(centres, 0).confidence_interval(0.95)
    ratio, (low, high), verdict = compare_rounds(rounds_of(own), rounds_of(other), processes)
    assert ratio == pytest.approx(math.exp(statistics.fmean(centres)), rel=1e-12)
    assert (low, high) == pytest.approx((math.exp(expected.low), math.exp(expected.high)), rel=1e-12)
    assert verdict == "faster"
    one = dict.fromkeys(range(15), 0)
    assert compare_rounds(rounds_of(own), rounds_of(other), one) == compare_rounds(rounds_of(own), rounds_of(other))


def test_where_processes_do_not_differ_rounds_are_taken_together() -> None:
    generator = np.random.default_rng(18)
    trials, together = 200, 0
    for _ in range(trials):
        own, other = (rounds_of(10 * np.exp(generator.normal(0, 0.02, (20, 9)))) for _ in range(2))
        processes = {number: number // 4 for number in range(20)}
        together += compare_rounds(own, other, processes) == compare_rounds(own, other)
    assert together / trials == pytest.approx(0.9, abs=0.07)  # the level of the analysis of variance
    alike = {number: np.array([2.0]) for number in range(20)}
    slower = {number: np.array([3.0]) for number in range(20)}
    assert compare_rounds(alike, slower, processes) == (1.5, (1.5, 1.5), "faster")


def test_a_low_quantile_compares_rows_that_a_neighbour_disturbs() -> None:
    """Between a third and two thirds of the runs take twice as long, in one row as in the other by chance."""
    generator = np.random.default_rng(19)
    medians, deciles = [], []
    for _ in range(100):
        own, other = (
            rounds_of(
                level
                * (1 + (generator.random((20, 10)) < generator.uniform(1 / 3, 2 / 3, (20, 1))))
                * np.exp(generator.normal(0, 0.005, (20, 10)))
            )
            for level in (10, 10.5)
        )
        processes = {number: number // 4 for number in range(20)}
        medians.append(compare_rounds(own, other, processes)[2])
        deciles.append(compare_rounds(own, other, processes, quantile=0.1)[2])
    assert medians.count("faster") < 20
    assert deciles.count("faster") >= 90


@pytest.mark.parametrize(("spread", "tells"), [(0.0, True), (0.003, True), (0.01, True), (0.04, False)])
def test_what_differs_from_process_to_process_is_no_difference_between_rows(spread: float, tells: bool) -> None:
    generator = np.random.default_rng(17)
    which = dict(enumerate(PROCESSES))
    trials, covered, claimed, found = 300, 0, 0, 0
    for _ in range(trials):
        machine = drift(generator)
        own, other = (rounds_of(in_processes(generator, machine, spread)) for _ in range(2))
        _, (low, high), verdict = compare_rounds(own, other, which)
        covered += low <= 1 <= high
        claimed += verdict != "no difference shown"
        slower = {number: 1.05 * samples for number, samples in other.items()}
        found += compare_rounds(own, slower, which)[2] == "faster"
    assert 0.92 <= covered / trials <= 0.98
    assert claimed / trials <= 0.05
    assert (found / trials >= 0.9) == tells


def test_five_rounds_are_too_few_to_show_anything() -> None:
    own, other = ({number: np.array([size]) for number in range(5)} for size in (1.0, 3.0))
    ratio, interval, verdict = compare_rounds(own, other)
    assert (ratio, interval, verdict) == (pytest.approx(3.0), None, "no difference shown")


def test_a_difference_within_what_two_processes_differ_by_is_not_shown() -> None:
    own = {number: np.array([1.0]) for number in range(30)}
    for factor, expected in ((1 + 0.9 * SAME, "no difference shown"), (1 + 1.1 * SAME, "faster")):
        other = {number: np.array([factor]) for number in range(30)}
        assert compare_rounds(own, other)[2] == expected
        assert (compare_rounds(other, own)[2] == "slower") == (expected == "faster")


@pytest.mark.parametrize("rounds", [10, 40])
def test_rows_that_do_not_differ_are_seldom_called_different_and_five_percent_is_found(rounds: int) -> None:
    generator = np.random.default_rng(rounds)
    claimed = found = covered = 0
    trials = 300
    for _ in range(trials):
        machine = 10 * np.exp(0.05 * autocorrelated(generator, rounds, 0.5))[:, None]
        own, other = (
            machine * np.exp(generator.normal(0, 0.015, (rounds, 1)) + generator.gamma(0.3, 0.05, (rounds, 20)))
            for _ in range(2)
        )
        _, (low, high), verdict = compare_rounds(rounds_of(own), rounds_of(other))
        covered += low <= 1 <= high
        claimed += verdict != "no difference shown"
        found += compare_rounds(rounds_of(own), rounds_of(1.05 * other))[2] == "faster"
    assert covered / trials >= 0.93
    assert claimed / trials <= 0.05
    assert found / trials >= 0.9


def test_more_rounds_than_are_told_apart_are_taken_together() -> None:
    generator = np.random.default_rng(15)
    own, other = (size * np.exp(generator.normal(0, 0.1, (3000, 2))) for size in (10, 12))
    _, (low, high), _ = compare_rounds(rounds_of(own), rounds_of(other))
    assert low < 1.2 < high
    assert high - low < 0.03
    low, high = mean_interval(list(own))
    assert (high - low) / 2 == pytest.approx(1.96 * own.std() / math.sqrt(own.size), rel=0.2)


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
