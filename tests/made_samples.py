"""Made samples: rounds with noise between them, processes that differ, values that resemble their neighbours."""

from __future__ import annotations

import math

import numpy as np


def noisy_rounds(seed: int, rounds: int, size: int, *, between: float = 0.3) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [10 + generator.normal(0, between) + generator.gamma(2.0, 0.5, size) for _ in range(rounds)]


PROCESSES = [number // 2 for number in range(10)]


def drift(generator: np.random.Generator) -> np.ndarray:
    """What the machine does to 200 runs: noise that is as strong over a process as over a run."""
    return sum(0.005 * np.repeat(generator.normal(size=200 // step), step) for step in (1, 5, 20, 40))


def in_processes(generator: np.random.Generator, machine: np.ndarray, spread: float) -> np.ndarray:
    """Ten rounds of twenty runs in five processes that differ by `spread`."""
    levels = np.repeat(spread * generator.normal(size=5), 40)
    return (10 * np.exp(machine + levels + 0.01 * generator.standard_exponential(200))).reshape(10, 20)


def autocorrelated(generator: np.random.Generator, count: int, r: float) -> np.ndarray:
    """A first-order autoregression of unit variance."""
    values = generator.normal(0, 1, count)
    for index in range(1, count):
        values[index] = r * values[index - 1] + math.sqrt(1 - r**2) * values[index]
    return values
