"""How far runs of the same thing are held to lie apart, against simulated machines."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest

from rtbench.review.spread import BETWEEN_RUNS, log_median, median_change
from rtbench.stats import student


def change(before: list, after: list) -> tuple[float, float, float]:
    """Of runs as parts."""
    return median_change(*([log_median(parts) for parts in runs] for runs in (before, after)))


def simulated(generator: np.random.Generator, mean_ms: float, between: float, within: float = 0.0) -> list[np.ndarray]:
    """A run of five processes, each with noise that only ever adds: the run has a level of its own, and so has every
    process."""
    level = mean_ms * math.exp(between * generator.standard_normal())
    return [
        level * math.exp(within * generator.standard_normal()) * (1 + generator.gamma(1.5, 0.02, 200)) for _ in range(5)
    ]


def shown(before: list, after: list, budget: float = 0.0) -> bool:
    """Whether the 95 % interval lies beyond a budget, on either side without one."""
    first, second, error = change([before], [after])
    low = second - first - 1.96 * error
    return low > math.log1p(budget) or (not budget and second - first + 1.96 * error < 0)


@pytest.mark.parametrize("within", [0.0, 0.005, 0.02])
def test_runs_that_differ_by_no_more_than_is_assumed_are_told_apart_once_in_twenty_times(within):
    generator = np.random.default_rng(5)
    pairs = 400
    claims = sum(shown(*(simulated(generator, 7, BETWEEN_RUNS, within) for _ in range(2))) for _ in range(pairs))
    # The rate is 5 % where the assumption holds exactly; 3 sigma of 400 trials are 3.3 points more.
    assert claims / pairs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / pairs)


def test_a_quarter_trips_a_budget_of_five_percent_and_a_twentieth_does_not():
    generator = np.random.default_rng(6)
    trips = {
        factor: sum(
            shown(simulated(generator, 7, 0.01), simulated(generator, factor * 7, 0.01), 0.05) for _ in range(60)
        )
        for factor in (1.25, 1.05)
    }
    assert trips[1.25] >= 59
    assert trips[1.05] == 0


def test_repeats_narrow_the_interval_and_their_own_spread_widens_it():
    generator = np.random.default_rng(8)
    one = change([simulated(generator, 7, 0.0)], [simulated(generator, 7, 0.0)])[2]
    same = [simulated(generator, 7, 0.0) for _ in range(4)]
    assert change(same, same)[2] == pytest.approx(one / 2, rel=0.15)
    apart = [simulated(generator, mean, 0.0) for mean in (6, 7, 8, 9)]
    assert change(apart, apart)[2] > 2 * one


def test_the_change_of_medians_by_hand():
    before = [np.array([3.0, 2.0]), np.array([2.5, 2.1])]
    after = [np.array([4.0, 3.0]), np.array([2.2, 9.0])]
    first, second, error = change([before], [after])
    assert first == pytest.approx(math.log(2.3))  # of all four samples
    assert second == pytest.approx(math.log(3.5))
    # Two parts with these medians, and the variance of their mean.
    variances = [math.log(other / one) ** 2 / 2 / 2 for one, other in ((2.5, 2.3), (3.5, 5.6))]
    assert error == pytest.approx(math.sqrt(sum(variances) * (student(2) / 1.96) ** 2 + 2 * BETWEEN_RUNS**2))


def test_one_part_has_the_assumed_error_alone():
    _, _, error = change([[np.array([2.0, 3.0])]], [[np.array([2.0])]])
    assert error == pytest.approx(math.sqrt(2) * BETWEEN_RUNS)


def test_repeated_runs_by_hand():
    """Two runs of one part each: by their own spread where it is wide, by what is assumed where it is not."""
    wide = [[np.array([2.0, 4.0])], [np.array([6.0])]]
    narrow = [[np.array([3.0])], [np.array([3.03])]]
    first, second, error = median_change(*([log_median(run) for run in side] for side in (wide, narrow)))
    assert first == pytest.approx((math.log(3) + math.log(6)) / 2)
    assert second == pytest.approx((math.log(3) + math.log(3.03)) / 2)
    seen = statistics.variance([math.log(3), math.log(6)]) / 2
    assumed = 2 * BETWEEN_RUNS**2 / 2**2
    assert statistics.variance([math.log(3), math.log(3.03)]) / 2 < assumed < seen
    assert error == pytest.approx(math.sqrt(seen + assumed))


def test_what_is_assumed_is_what_was_measured():
    assert BETWEEN_RUNS == 0.04
