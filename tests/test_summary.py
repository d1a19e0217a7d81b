"""A row's figures from its samples: what it did over processes, and by the device's clock."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from rtbench.measure.summary import P99_LEAST_RUNS, summarise_latency

ROUNDS = 3


def warned(means: list[float]) -> list[str]:
    """What is said of processes with these means, ROUNDS even rounds in each."""
    rounds = [np.full(4, mean) for mean in means for _ in range(ROUNDS)]
    processes = [number for number in range(len(means)) for _ in range(ROUNDS)]
    return summarise_latency(rounds, processes).warnings


@pytest.mark.parametrize(
    ("means", "told"),
    [
        ([10.0, 10.01, 11.99, 12.0], False),  # of four, one order in twelve is steady by chance
        ([10.0, 10.01, 10.02, 11.99, 12.0], True),
        ([12.0, 11.99, 10.02, 10.01, 10.0], True),
        ([10.0, 10.01, 10.02, 11.98, 11.99, 12.0], True),
        ([10.0, 10.02, 10.01, 11.99, 12.0], False),
        ([10.01, 10.0, 10.02, 11.99, 12.0], False),
        ([10.0, 10.0, 10.01, 11.99, 12.0], False),  # two of them alike
    ],
)
def test_a_median_that_moved_is_told_where_processes_do_not_explain_it(means: list[float], told: bool) -> None:
    first, last = (f"{mean:g}" for mean in (means[0], means[-1]))
    said = f"median moved from {first} to {last} ms during the run: let the machine settle, raise --runs"
    assert warned(means) == ([said] if told else [])


def test_processes_are_counted_and_one_that_is_not_named_is_one() -> None:
    rounds = [np.array([1.0, 2.0])] * 4
    assert summarise_latency(rounds).processes == 1
    assert summarise_latency(rounds, [0, 0, 7, 7]).processes == 2


def test_the_99th_percentile_needs_enough_runs() -> None:
    assert P99_LEAST_RUNS == 1000
    samples = np.arange(1.0, P99_LEAST_RUNS + 1)
    assert summarise_latency([samples]).p99_ms == np.percentile(samples, 99)
    assert summarise_latency([samples[1:]]).p99_ms is None


def test_the_devices_mean_needs_all_of_its_runs() -> None:
    rounds = [np.array([3.0, 5.0])] * 2
    assert summarise_latency(rounds, device_rounds=[np.array([1.0, 2.0]), np.array([3.0, 6.0])]).device_mean_ms == 3.0
    assert (
        summarise_latency(rounds, device_rounds=[np.array([1.0, 2.0]), np.array([3.0, np.nan])]).device_mean_ms is None
    )
    assert summarise_latency(rounds).device_mean_ms is None


def test_a_single_run_has_no_spread() -> None:
    assert summarise_latency([np.array([2.0])]).std_ms == 0.0
    assert summarise_latency([np.array([2.0])]).warmup_runs == 0


def test_the_bound_of_the_90th_percentile_holds_in_99_of_100_cases() -> None:
    samples = np.arange(1.0, 1001)
    bound = summarise_latency([samples]).p90_bound_ms
    assert binom.cdf(bound - 1, 1000, 0.9) >= 0.99 > binom.cdf(bound - 2, 1000, 0.9)


@pytest.mark.parametrize(("slow", "share"), [(13.0, "20 %"), (61.0, "100 %"), (151.0, "250 %")])
def test_runs_that_took_far_longer_are_told_by_what_they_add_to_the_mean(slow: float, share: str) -> None:
    samples = np.ones(60)
    samples[0] = slow
    (said,) = summarise_latency([samples]).warnings
    assert said.startswith(f"mean is {share} above the median: some runs took far longer")
