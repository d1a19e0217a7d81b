"""The interval of a mean: the same as Student's where it should be, and covering the mean as often as it says."""

from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
import scipy.stats
from made_samples import PROCESSES, autocorrelated, drift, in_processes, noisy_rounds

from rtbench.measure.summary import summarise_latency
from rtbench.stats import between_rounds, mean_interval


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


def test_three_processes_are_the_fewest_that_an_interval_is_over() -> None:
    blocks = noisy_rounds(9, 6, 25)
    means = [float(np.concatenate(blocks[first : first + 2]).mean()) for first in (0, 2, 4)]
    expected = scipy.stats.t.interval(
        0.95, 2, loc=statistics.fmean(means), scale=statistics.stdev(means) / math.sqrt(3)
    )
    assert mean_interval(blocks, [number // 2 for number in range(6)]) == pytest.approx(expected, rel=1e-12)


def one_by_one(clusters: list[np.ndarray]) -> tuple[float, float]:
    """The bootstrap-t of the mean of all samples, a resample at a time, before it is widened."""

    def mean_and_error(chosen: list[np.ndarray]) -> tuple[float, float]:
        count, total = len(chosen), sum(map(len, chosen))
        mean = math.fsum(math.fsum(each) for each in chosen) / total
        squares = math.fsum(((math.fsum(each) - mean * len(each)) / total) ** 2 for each in chosen)
        return mean, math.sqrt(squares * count / (count - 1))

    mean, error = mean_and_error(clusters)
    resamples = np.random.Generator(np.random.PCG64(1)).integers(0, len(clusters), (2000, len(clusters)))
    found = [mean_and_error([clusters[at] for at in each]) for each in resamples.tolist()]
    students = sorted((each - mean) / own for each, own in found if own > 0)
    low, high = (students[round(share * (len(students) - 1))] for share in (0.025, 0.975))
    return mean - high * error, mean - low * error


@pytest.mark.parametrize(("rounds", "together"), [(5, 1), (11, 1), (400, 1), (401, 2)])
def test_without_processes_the_interval_is_the_bootstrap_t_of_rounds(rounds: int, together: int) -> None:
    """And of pairs of them, where they are more than 400."""
    blocks = [np.round(block, 3) for block in noisy_rounds(3, rounds, 3)]
    clusters = [np.concatenate(blocks[at : at + together]) for at in range(0, rounds, together)]
    widened = between_rounds(np.array([cluster.mean() for cluster in clusters]))
    mean, expected = np.concatenate(blocks).mean(), one_by_one(clusters)
    low, high = mean_interval(blocks)
    assert ((low - mean) / widened, (high - mean) / widened) == pytest.approx(
        [end - mean for end in expected], rel=0.003
    )


def test_four_rounds_are_too_few_to_resample() -> None:
    assert mean_interval(noisy_rounds(3, 4, 25)) is None
    assert mean_interval(noisy_rounds(3, 5, 25)) is not None


def test_processes_of_unequal_size_weigh_by_their_samples() -> None:
    blocks = [np.array([1.0, 1.0, 1.0]), np.array([4.0])] * 30
    low, high = mean_interval(blocks, [number // 2 for number in range(60)])
    assert low == high == pytest.approx(1.75)  # all processes alike
    low, high = mean_interval(blocks, [number % 20 for number in range(60)])
    assert low < 1.75 < high


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


@pytest.mark.parametrize(
    "values", [[1, 2, 4, 5, 3], [1, 1, 2, 5, 4, 4, 1, 2], [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7]]
)
def test_between_rounds_by_hand_with_kendalls_correction(values: list[int]) -> None:
    mean, n = statistics.fmean(values), len(values)
    products = math.fsum((a - mean) * (b - mean) for a, b in itertools.pairwise(values))
    seen = products / math.fsum((value - mean) ** 2 for value in values)
    # Kendall (1954): what is seen of a true r is (1 + 4 r) / n too small, taken at what is seen.
    corrected = seen + 1 / n + 4 * seen / n
    assert 0 < corrected < 0.9
    assert between_rounds(np.array(values, dtype=float)) == pytest.approx(math.sqrt((1 + corrected) / (1 - corrected)))


def test_between_rounds_of_a_ramp_is_that_of_an_autocorrelation_of_nine_tenths() -> None:
    assert between_rounds(np.arange(200.0)) == pytest.approx(math.sqrt(1.9 / 0.1))


def test_between_rounds_never_narrows() -> None:
    assert between_rounds(np.array([1.0, -1.0] * 20)) == 1.0
    assert between_rounds(np.full(20, 3.0)) == 1.0
    assert between_rounds(np.array([1.0, 2.0])) == 1.0


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
