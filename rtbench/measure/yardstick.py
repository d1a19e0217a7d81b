"""The yardstick: fixed work that a comparison times at the head of every round, to know what state the machine is in.

On a virtual machine what one thread hands to another takes twice as long for seconds or minutes at a time, as if the
host had moved its cores apart; nothing that the machine says of itself shows it. So the
yardstick is mostly handing over: products of matrices so small that numpy's threads meet every thirty
microseconds. `diff` compares rounds in which it took the same (`spread.alike`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rtbench.measure.latency import LEAD_RUNS, host_clock

SIDE, PRODUCTS, RUNS = 128, 20, 5


class Yardstick:
    """Hosted by a worker, which gives numpy as many threads as a row's runtime has."""

    def __init__(self, _report: Callable[..., None]) -> None:
        generator = np.random.default_rng(0)
        self._left, self._right = generator.standard_normal((2, SIDE, SIDE), dtype=np.float32)
        self._product = np.empty_like(self._left)

    def measure(self) -> float:
        """Milliseconds of the quickest of RUNS."""
        durations = []
        for _ in range(LEAD_RUNS + RUNS):
            start = host_clock()
            for _ in range(PRODUCTS):
                np.matmul(self._left, self._right, out=self._product)
            durations.append(host_clock() - start)
        return min(durations[LEAD_RUNS:]) / 1e6
