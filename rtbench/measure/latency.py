"""Warm-up, interleaved rounds of timed blocks, and the only clock in the package."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtbench.runtimes import Clock, Session

host_clock: Clock = time.perf_counter_ns

BLOCK_RUNS = 10
"""The fewer, the nearer in time are the runs of two rows that a round compares: the noise of a machine over tenths
of a second falls out of a comparison then. Blocks of ten make its interval half as wide as blocks of 20 did."""
LEAD_RUNS = 3
"""Untimed runs at the head of every block. Without them a process that has just waited measures means 8
to 10 % too high; with three, its medians are those of a process alone on the machine, within 3 %."""
LEAST_ROUNDS = 20
"""Comparisons rest on rounds: there are at least this many where there are runs enough."""
PROCESS_RUNS = 25
"""A process is opened for at least so many runs, on average."""

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


def time_block(session: Session, batch: NDArray[np.float32], untimed: int, runs: int, clock: Clock) -> Timed:
    """Time `runs` runs after `untimed` ones.

    The timed region of every runtime: a float32 NCHW batch in host memory in, finished logits in host
    memory out.
    """
    starts = np.empty(runs, dtype=np.int64)
    durations = np.empty(runs, dtype=np.int64)
    device_ms = np.empty(runs)
    bind, run, fetch = session.bind, session.run, session.fetch
    for _ in range(untimed):
        bind(batch)
        run()
        fetch()
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


def warm_up(session: Session, batch: NDArray[np.float32], clock: Clock) -> tuple[int, bool]:
    """Run until the runtime has settled: how many runs that took, and whether it has settled at all.

    At least WARMUP_LEAST_WINDOWS windows; at most WARMUP_MOST_RUNS runs or WARMUP_MOST_NS of them.
    """
    durations: list[int] = []
    while True:
        durations += time_block(session, batch, 0, WARMUP_WINDOW, clock).durations_ns.tolist()
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


class Round(NamedTuple):
    """How many runs of each row are timed in a round, and in which of the row's processes; how long the yardstick
    took at its head, NaN where that is not known."""

    number: int
    runs: int
    process: int
    yardstick_ms: float = float("nan")


@dataclass(frozen=True)
class Schedule:
    """The rounds that time `runs` runs of each row, over `processes`, or as many as have PROCESS_RUNS each on average.

    Processes follow one another, since what differs from one to the next (where memory lies, what the machine
    does at the time) is not averaged out by more runs in one of them.
    """

    runs: int
    processes: int = 1

    @cached_property
    def sizes(self) -> list[int]:
        return block_sizes(self.runs)

    def round(self, number: int) -> Round:
        """Past the planned rounds these are whole blocks, and processes change as often as before."""
        planned = len(self.sizes)
        processes = max(1, min(self.processes, self.runs // PROCESS_RUNS))
        return Round(
            number,
            self.sizes[number] if number < planned else BLOCK_RUNS,
            number * processes // planned if processes > 1 else 0,
        )


@dataclass(frozen=True)
class Block:
    """One row's runs in one round; `position` is its turn within the round."""

    row: str
    round: int
    process: int
    position: int
    starts_ns: NDArray[np.int64]
    durations_ns: NDArray[np.int64]
    device_ms: NDArray[np.float64]
    yardstick_ms: float = float("nan")

    @property
    def ms(self) -> NDArray[np.float64]:
        return self.durations_ns / 1e6


def block_sizes(runs: int) -> list[int]:
    """How many runs each round times, at most BLOCK_RUNS, alike to within one, adding up to `runs`.

    At least LEAST_ROUNDS where there are runs enough, since the interval of the mean rests on rounds.
    """
    rounds = max(-(-runs // BLOCK_RUNS), min(runs, LEAST_ROUNDS))
    return [runs // rounds + (index < runs % rounds) for index in range(rounds)]


def measure_rounds(
    rows: Sequence[str],
    rounds: Iterable[Round],
    time_row: Callable[[str, int], Timed | None],
    seed: int = 0,
    kept: Container[tuple[str, int]] = frozenset(),
) -> Iterator[Block]:
    """Visit the rows in a freshly shuffled order, a block each, in each of `rounds`.

    `time_row(row, runs)` times one block and returns None when its row has failed: it is not asked
    again and the others go on. `rounds` is read round by round, after the round before is handed over.
    `kept`: rows and rounds that an earlier sitting has timed.
    """
    shuffler = random.Random(seed)
    live = list(rows)
    for number, runs, process, yardstick_ms in rounds:
        if not live:
            return
        order = list(live)
        shuffler.shuffle(order)
        for position, row in enumerate(order):
            if (row, number) in kept:
                continue
            timed = time_row(row, runs)
            if timed is None:
                live.remove(row)
            else:
                yield Block(row, number, process, position, *timed, yardstick_ms)
