"""Interleaved rounds of timed blocks, and the only clock in the package."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtbench.runtimes import Clock, Session

host_clock: Clock = time.perf_counter_ns

BLOCK_RUNS = 25
LEAD_RUNS = 3
"""Untimed runs at the head of every block. Without them a process that has just waited measures means 8
to 10 % too high; with three, its medians are those of a process alone on the machine, within 3 %."""
WARMUP_RUNS = 20


def time_block(
    session: Session, batch: NDArray[np.float32], untimed: int, runs: int, clock: Clock
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Time `runs` runs after `untimed` ones: when each started and how long it took, in nanoseconds.

    The timed region of every runtime: a float32 NCHW batch in host memory in, finished logits in host
    memory out.
    """
    starts = np.empty(runs, dtype=np.int64)
    durations = np.empty(runs, dtype=np.int64)
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
    return starts, durations


@dataclass(frozen=True)
class Block:
    """One row's runs in one round; `position` is its turn within the round."""

    row: str
    round: int
    position: int
    starts_ns: NDArray[np.int64]
    durations_ns: NDArray[np.int64]


def block_sizes(runs: int) -> list[int]:
    """How many runs each round times, at most BLOCK_RUNS, alike to within one, adding up to `runs`.

    At least ten rounds where there are runs enough, since the interval of the mean rests on rounds.
    """
    rounds = max(-(-runs // BLOCK_RUNS), min(runs, 10))
    return [runs // rounds + (index < runs % rounds) for index in range(rounds)]


def measure_rounds(
    rows: Sequence[str],
    runs: int,
    time_row: Callable[[str, int], tuple[NDArray[np.int64], NDArray[np.int64]] | None],
    seed: int = 0,
) -> Iterator[Block]:
    """Visit the rows in a freshly shuffled order, a block each, round after round.

    `time_row(row, runs)` times one block and returns None when its row has failed: it is not asked
    again and the others go on.
    """
    shuffler = random.Random(seed)
    live = list(rows)
    for number, size in enumerate(block_sizes(runs)):
        order = list(live)
        shuffler.shuffle(order)
        for position, row in enumerate(order):
            timed = time_row(row, size)
            if timed is None:
                live.remove(row)
            else:
                yield Block(row, number, position, *timed)
