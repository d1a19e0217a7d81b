"""Warm-up, blocks of timed runs, and the only clock in the package."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtbench.runtimes import Clock, Session

host_clock: Clock = time.perf_counter_ns

CPU_LEAD_NS = 30_000_000
"""The lead: how long a process runs untimed at the head of every block. One that has just waited is slower for as
long: of ResNet18 in INT8, 5 ms a run, the first takes 24 % longer, the fourth 3 %, the seventh nothing; of PyTorch's
FP32, 31 ms a run, the first 6 % and the second 1 %."""

GPU_LEAD_NS = 200_000_000
"""That on a GPU, whose clock falls within milliseconds of rest: one card read 345 MHz idle and 1980 under load."""

WARMUP_WINDOW = 5
WARMUP_LEAST_WINDOWS = 4
WARMUP_MOST_RUNS = 300
WARMUP_MOST_NS = 60_000_000_000
STILL_FALLING = 0.02
"""A window's median this much below both of those before it is a runtime that still gets faster."""


class Timed(NamedTuple):
    """A block of runs: when each started and how long it took by the host's clock, in nanoseconds, and
    how long its compute took by the device's, NaN where the device has none."""

    starts_ns: NDArray[np.int64]
    durations_ns: NDArray[np.int64]
    device_ms: NDArray[np.float64]


def time_block(session: Session, batch: NDArray[np.float32], runs: int, clock: Clock) -> Timed:
    """Time `runs` runs.

    The timed region of every runtime: a float32 NCHW batch in host memory in, finished logits in host
    memory out.
    """
    starts = np.empty(runs, dtype=np.int64)
    durations = np.empty(runs, dtype=np.int64)
    device_ms = np.empty(runs)
    bind, run, fetch = session.bind, session.run, session.fetch
    for index in range(runs):
        start = clock()
        bind(batch)
        run()
        fetch()
        end = clock()
        starts[index] = start
        durations[index] = end - start
        on_device = session.device_ms()
        device_ms[index] = np.nan if on_device is None else on_device
    return Timed(starts, durations, device_ms)


def lead(session: Session, batch: NDArray[np.float32], least_ns: int, clock: Clock) -> None:
    """Run untimed for at least so long."""
    start = clock()
    while clock() - start < least_ns:
        time_block(session, batch, 1, clock)


def warm_up(session: Session, batch: NDArray[np.float32], clock: Clock) -> tuple[int, bool]:
    """Run until the runtime has settled: how many runs that took, and whether it has settled at all.

    At least WARMUP_LEAST_WINDOWS windows; at most WARMUP_MOST_RUNS runs or WARMUP_MOST_NS of them.
    """
    durations: list[int] = []
    while True:
        durations += time_block(session, batch, WARMUP_WINDOW, clock).durations_ns.tolist()
        if has_settled(durations):
            return len(durations), True
        if len(durations) >= WARMUP_MOST_RUNS or sum(durations) >= WARMUP_MOST_NS:
            return len(durations), False


def has_settled(durations: Sequence[int]) -> bool:
    """Whether the last window of runs is no longer faster than the two windows before it.

    Noise upwards does not count: only a latency that still falls says that the warm-up goes on.
    """
    windows = len(durations) // WARMUP_WINDOW
    if windows < WARMUP_LEAST_WINDOWS:
        return False
    last = np.array(durations[-3 * WARMUP_WINDOW :]).reshape(3, WARMUP_WINDOW)
    before, middle, newest = np.median(last, axis=1)
    return bool(newest >= (1 - STILL_FALLING) * min(before, middle))
