"""How far runs of the same thing are held to lie apart, against simulated machines."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rtbench.review.spread import (
    BETWEEN_MEDIANS,
    BETWEEN_P10,
    BETWEEN_STATES,
    alike,
    median_change,
    p10_change,
)
from rtbench.stats import student

CHANGES = {median_change: BETWEEN_MEDIANS, p10_change: BETWEEN_P10}


def simulated(generator: np.random.Generator, mean_ms: float, between: float, within: float = 0.0) -> list[np.ndarray]:
    """A run of five processes, each with noise that only ever adds: the run has a level of its own, and so has every
    process."""
    level = mean_ms * math.exp(between * generator.standard_normal())
    return [
        level * math.exp(within * generator.standard_normal()) * (1 + generator.gamma(1.5, 0.02, 200)) for _ in range(5)
    ]


def shown(change, before: list, after: list, budget: float = 0.0, *, same_state: bool = True) -> bool:
    """Whether the 95 % interval lies beyond a budget, on either side without one."""
    first, second, error = change([before], [after], same_state=same_state)
    low = second - first - 1.96 * error
    return low > math.log1p(budget) or (not budget and second - first + 1.96 * error < 0)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("same_state", [True, False])
def test_runs_that_differ_by_no_more_than_is_assumed_are_told_apart_once_in_twenty_times(change, same_state):
    generator = np.random.default_rng(5)
    between = CHANGES[change] if same_state else BETWEEN_STATES
    pairs = 200
    claims = sum(
        shown(change, simulated(generator, 7, between), simulated(generator, 7, between), same_state=same_state)
        for _ in range(pairs)
    )
    # The rate is 5 % where the assumption holds exactly; 3 sigma of 200 trials are 4.6 points more.
    assert claims / pairs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / pairs)


@pytest.mark.parametrize("within", [0.005, 0.02])
@pytest.mark.parametrize("change", CHANGES)
def test_what_processes_differ_by_widens_the_interval(change, within):
    generator = np.random.default_rng(9)
    pairs = 200
    claims = sum(
        shown(change, *(simulated(generator, 7, CHANGES[change], within) for _ in range(2))) for _ in range(pairs)
    )
    assert claims / pairs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / pairs)


def test_a_tenth_trips_a_budget_of_five_percent_where_the_machine_was_in_one_state():
    generator = np.random.default_rng(6)
    trips = [
        shown(p10_change, simulated(generator, 7, 0.007), simulated(generator, 7.7, 0.007), 0.05) for _ in range(60)
    ]
    assert sum(trips) >= 59


@pytest.mark.parametrize("change", CHANGES)
def test_a_neighbour_that_comes_and_goes_widens_the_interval(change):
    """Runs that are disturbed in different ways: a third to two thirds of the samples take twice as long."""
    generator = np.random.default_rng(7)

    def disturbed() -> list[np.ndarray]:
        share = generator.uniform(1 / 3, 2 / 3)
        return [7 * (1 + (generator.random(200) < share)) * generator.lognormal(0, 0.02, 200) for _ in range(5)]

    assert sum(shown(change, disturbed(), disturbed()) for _ in range(60)) <= 3


@pytest.mark.parametrize("change", CHANGES)
def test_repeats_narrow_the_interval_and_their_own_spread_widens_it(change):
    generator = np.random.default_rng(8)
    one = change([simulated(generator, 7, 0.0)], [simulated(generator, 7, 0.0)], same_state=True)[2]
    same = [simulated(generator, 7, 0.0) for _ in range(4)]
    assert change(same, same, same_state=True)[2] == pytest.approx(one / 2, rel=0.15)
    apart = [simulated(generator, mean, 0.0) for mean in (6, 7, 8, 9)]
    assert change(apart, apart, same_state=True)[2] > 2 * one


def test_the_change_of_10th_percentiles_by_hand():
    before = [np.array([3.0, 2.0]), np.array([2.5, 2.1])]
    after = [np.array([4.0, 3.0]), np.array([2.2, 9.0])]
    first, second, error = p10_change([before], [after], same_state=True)
    # Of four values the 10th percentile lies 0.3 of the way from the least to the next, of two 0.1.
    assert first == pytest.approx(math.log(2.0 + 0.3 * 0.1))
    assert second == pytest.approx(math.log(2.2 + 0.3 * 0.8))
    # The jackknife of two parts: each alone, and a quarter of their squared distance.
    variances = [math.log(other / one) ** 2 / 4 for one, other in ((2.14, 2.1), (2.88, 3.1))]
    assert error == pytest.approx(math.sqrt(sum(variances) * (student(2) / 1.96) ** 2 + 2 * BETWEEN_P10**2))


def test_one_disturbed_process_of_five_hardly_moves_the_10th_percentile():
    generator = np.random.default_rng(11)
    run = [7 * generator.lognormal(0, 0.005, 200) for _ in range(5)]
    disturbed = [*run[:4], run[4] * 1.1]
    first, second, error = p10_change([run], [disturbed], same_state=True)
    assert second - first == pytest.approx(0, abs=0.002)
    assert error < 1.1 * p10_change([run], [run], same_state=True)[2]


def states(*counts: tuple[float, int]) -> np.ndarray:
    return np.concatenate([np.full(count, value) for value, count in counts])


def kept(masks) -> list[list[int]]:
    return [[int(mask.sum()) for mask in side] for side in masks]


def test_the_state_compared_is_the_quickest_that_both_have_met():
    near, far = 0.6, 1.2
    mixed = states((far, 60), (near, 40))
    assert kept(alike([mixed], [states((near, 100))])) == [[40], [100]]
    assert kept(alike([mixed], [states((far, 100))])) == [[60], [100]]
    assert kept(alike([mixed], [mixed])) == [[40], [40]]
    assert alike([states((near, 100))], [states((far, 100))]) is None


def test_a_few_rounds_in_a_state_do_not_make_it_met():
    assert alike([states((1.2, 95), (0.6, 5))], [states((0.6, 100))]) is None
    assert kept(alike([states((0.6, 4))], [states((0.63, 100))])) == [[4], [100]]  # but all of a short run do


def test_repeats_that_have_not_met_the_state_do_not_count():
    assert kept(alike([states((0.6, 50)), states((1.2, 50))], [states((0.61, 50))])) == [[50, 0], [50]]


def test_a_yardstick_that_is_disturbed_now_and_then_is_of_the_same_state():
    generator = np.random.default_rng(1)
    first, second = (0.6 * (1 + generator.gamma(0.5, 0.02, 100)) for _ in range(2))
    first[::10] *= 3
    masks = alike([first], [second])
    assert kept(masks)[0][0] in range(85, 91)
    assert kept(masks)[1][0] >= 95
