"""Interleaved rounds of timed blocks, and which of them count."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rtbench.measure.conditions import Seen
from rtbench.measure.latency import Timed

BLOCK_RUNS = 10
"""The fewer, the nearer in time are the runs of two rows that a round compares: the noise of a machine over tenths
of a second falls out of a comparison then. Blocks of ten make its interval half as wide as blocks of 20 did."""
LEAST_ROUNDS = 20
"""Comparisons rest on rounds: there are at least this many where there are runs enough."""
PROCESS_RUNS = 25
"""A process is opened for at least so many runs, on average."""


class Round(NamedTuple):
    """How many runs of each row are timed in a round, and in which of the row's processes; `attempt` counts up where
    it is timed again."""

    number: int
    runs: int
    process: int
    attempt: int = 0


@dataclass(frozen=True)
class Schedule:
    """The rounds that time `runs` runs of each row, over `processes`, or as many as have PROCESS_RUNS each on average.

    Processes follow one another, since what differs from one to the next (where memory is, what the machine
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


@dataclass(frozen=True, slots=True)
class Block:
    """One row's runs in one attempt at a round; `position` is its turn within it. `disturbed` says by what, and is
    empty where nothing did; `seen` is what the machine did meanwhile, None where that is not known."""

    row: str
    round: int
    attempt: int
    process: int
    position: int
    starts_ns: NDArray[np.int64]
    durations_ns: NDArray[np.int64]
    device_ms: NDArray[np.float64]
    seen: Seen | None = None
    disturbed: str = ""

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
    kept: Container[tuple[str, int, int]] = frozenset(),
) -> Iterator[Block]:
    """Visit the rows in a freshly shuffled order, a block each, in each of `rounds`.

    `time_row(row, runs)` times one block and returns None when its row has failed: it is not asked
    again and the others go on. `rounds` is read round by round, after the round before is handed over.
    `kept`: rows, rounds and attempts timed before an interruption.
    """
    shuffler = random.Random(seed)
    live = list(rows)
    for number, runs, process, attempt in rounds:
        if not live:
            return
        order = list(live)
        shuffler.shuffle(order)
        for position, row in enumerate(order):
            if (row, number, attempt) in kept:
                continue
            timed = time_row(row, runs)
            if timed is None:
                live.remove(row)
            else:
                yield Block(row, number, attempt, process, position, *timed)


def last_attempts(blocks: Iterable[Block]) -> dict[str, dict[int, Block]]:
    """By row and round, the blocks of the last attempt at each round; a row that has none of it lacks the round."""
    every = list(blocks)
    last: dict[int, int] = {}
    for block in every:
        last[block.round] = max(block.attempt, last.get(block.round, 0))
    found: dict[str, dict[int, Block]] = {}
    for block in every:
        rounds = found.setdefault(block.row, {})
        if block.attempt == last[block.round]:
            rounds[block.round] = block
    return found


def disturbed_rounds(blocks: Iterable[Block]) -> set[int]:
    """The rounds in which any row was disturbed: rows are compared round by round, so none of it counts."""
    return {block.round for block in blocks if block.disturbed}


def counted_blocks(rows: Mapping[str, Mapping[int, Block]]) -> dict[str, list[Block]]:
    """By row, the blocks that figures are made of: those that `undisturbed` leaves, or where it leaves too few, all."""
    bad = disturbed_rounds(block for rounds in rows.values() for block in rounds.values())
    every = {row: list(rounds.values()) for row, rounds in rows.items()}
    return {row: undisturbed(blocks, bad) or blocks for row, blocks in every.items()}


def undisturbed(own: Sequence[Block], disturbed: Container[int]) -> list[Block] | None:
    """A row's blocks without those of `disturbed` rounds; None where fewer than half are left."""
    left = [block for block in own if block.round not in disturbed]
    return left if 2 * len(left) >= len(own) else None
