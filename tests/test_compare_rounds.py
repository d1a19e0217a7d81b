"""The ratio of two rows: its interval as other ways give it, and how often a difference is claimed and found."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
from made_samples import PROCESSES, autocorrelated, drift, in_processes

from rtbench.stats import SAME, between_rounds, compare_rounds, mean_interval


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


def test_three_processes_are_the_fewest_that_are_told_apart() -> None:
    level = np.exp(np.repeat([0.0, 0.3, -0.2], 4))
    own = {number: np.array([10.0 + number % 4 / 100]) for number in range(12)}
    other = {number: own[number] * level[number] for number in own}
    mean, half = (0.3 - 0.2) / 3, scipy.stats.t.ppf(0.975, 2) * np.std([0.0, 0.3, -0.2], ddof=1) / math.sqrt(3)
    ratio, interval, _ = compare_rounds(own, other, {number: number // 4 for number in own})
    assert ratio == pytest.approx(math.exp(mean))
    assert interval == pytest.approx((math.exp(mean - half), math.exp(mean + half)))
    two = {number: number // 4 for number in range(8)}
    first = ({number: each[number] for number in two} for each in (own, other))
    assert compare_rounds(*first, two)[1] != pytest.approx((math.exp(mean - half), math.exp(mean + half)))


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


def test_rounds_are_taken_together_up_to_a_level_of_one_in_ten() -> None:
    """The same noise in five processes, the levels of which are drawn apart until the test says just 0.1."""
    generator = np.random.default_rng(19)
    noise, levels = generator.normal(0, 0.01, (5, 4)), generator.normal(0, 1, (5, 1))
    processes = {number: number // 4 for number in range(20)}

    def p_value(apart: float) -> float:
        return float(scipy.stats.f_oneway(*(noise + apart * levels)).pvalue)

    at = scipy.optimize.brentq(lambda apart: p_value(apart) - 0.1, 0.004, 0.1)
    for apart, together in ((0.99 * at, True), (1.01 * at, False)):
        assert (p_value(apart) > 0.1) == together
        own, other = rounds_of(np.full((20, 1), 10.0)), rounds_of(10 * np.exp((noise + apart * levels).reshape(20, 1)))
        assert (compare_rounds(own, other, processes) == compare_rounds(own, other)) == together


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
