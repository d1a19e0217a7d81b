"""Rounds and blocks, by a clock that moves only when something happens."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from rtbench.latency import BLOCK_RUNS, Block, block_sizes, measure_rounds, time_block

MANY = [*range(1, 700), 999, 1000, 1001, 2500, 9999, 100_000]
BATCH = np.zeros((1, 3, 2, 2), dtype=np.float32)


class Scripted:
    """A session and the clock that it moves: each call costs its own number of nanoseconds."""

    def __init__(self, costs: dict[str, int]) -> None:
        self.costs = costs
        self.now = 10**12
        self.events: list[str] = []
        self.batches: list[np.ndarray] = []
        self.runs = 0

    def clock(self) -> int:
        self.events.append("clock")
        return self.now

    def bind(self, batch: np.ndarray) -> None:
        self.batches.append(batch)
        self._spend("bind")

    def run(self) -> None:
        self.runs += 1
        self.now += self.runs  # every run takes longer than the one before
        self._spend("run")

    def fetch(self) -> np.ndarray:
        self._spend("fetch")
        return np.zeros((1, 10), dtype=np.float32)

    def close(self) -> None:
        raise AssertionError("whoever opened it closes it")

    def _spend(self, event: str) -> None:
        self.events.append(event)
        self.now += self.costs[event]


def test_the_timed_region_is_bind_run_and_fetch_and_nothing_else() -> None:
    session = Scripted({"bind": 10_000, "run": 1_000_000, "fetch": 100_000_000})
    starts, durations = time_block(session, BATCH, 2, 3, session.clock)
    assert session.events == ["bind", "run", "fetch"] * 2 + ["clock", "bind", "run", "fetch", "clock"] * 3
    assert durations.tolist() == [101_010_003, 101_010_004, 101_010_005]
    first = 10**12 + 2 * 101_010_000 + 1 + 2
    assert starts.tolist() == [first, first + 101_010_003, first + 101_010_003 + 101_010_004]
    assert (starts.dtype, durations.dtype) == (np.int64, np.int64)


@pytest.mark.parametrize(("untimed", "runs"), [(0, 1), (3, 25), (20, 0), (0, 0)])
def test_calls_are_counted(untimed: int, runs: int) -> None:
    session = Scripted({"bind": 1, "run": 1, "fetch": 1})
    starts, durations = time_block(session, BATCH, untimed, runs, session.clock)
    assert Counter(session.events) == Counter(
        {"bind": untimed + runs, "run": untimed + runs, "fetch": untimed + runs, "clock": 2 * runs}
    )
    assert len(starts) == len(durations) == runs
    assert all(batch is BATCH for batch in session.batches)


def test_times_that_no_double_holds_are_exact() -> None:
    session = Scripted({"bind": 0, "run": 2**61, "fetch": 1})
    session.now = 2**60 + 1
    starts, durations = time_block(session, BATCH, 0, 1, session.clock)
    assert (starts[0], durations[0]) == (2**60 + 1, 2**61 + 2)


def test_block_sizes_add_up_and_are_alike() -> None:
    for runs in MANY:
        sizes = block_sizes(runs)
        assert sum(sizes) == runs
        assert max(sizes) - min(sizes) <= 1, runs
        assert 1 <= min(sizes) <= max(sizes) <= BLOCK_RUNS == 25, runs
        assert len(sizes) >= min(runs, 10), runs
        # no more rounds than that asks for
        assert len(sizes) == max(min(runs, 10), (runs + 24) // 25), runs


def test_block_sizes_known_by_heart() -> None:
    assert block_sizes(1000) == [25] * 40
    assert block_sizes(100) == [10] * 10
    assert block_sizes(12) == [2, 2] + [1] * 8
    assert block_sizes(3) == [1, 1, 1]
    assert block_sizes(0) == []


class Rows:
    """Answers for rows: some stop answering from a block of theirs on."""

    def __init__(self, fail_at: dict[str, int] | None = None) -> None:
        self.fail_at = fail_at or {}
        self.asked: list[tuple[str, int]] = []

    def __call__(self, row: str, runs: int) -> tuple[np.ndarray, np.ndarray] | None:
        turn = sum(name == row for name, _ in self.asked)
        self.asked.append((row, runs))
        if turn == self.fail_at.get(row):
            return None
        number = len(self.asked)
        return np.full(runs, number), np.full(runs, 1000 + number)


NAMES = ("torch/fp32", "ort/fp32", "ort/int8", "trt/fp16")


def rounds_of(blocks: list[Block]) -> list[list[str]]:
    by_round: dict[int, list[str]] = {}
    for block in blocks:
        by_round.setdefault(block.round, []).append(block.row)
    return list(by_round.values())


@pytest.mark.parametrize("runs", [1, 9, 10, 26, 260, 1000])
def test_each_row_has_one_block_a_round_and_all_its_runs(runs: int) -> None:
    answers = Rows()
    blocks = list(measure_rounds(NAMES, runs, answers))
    sizes = block_sizes(runs)
    assert [block.round for block in blocks] == [number for number in range(len(sizes)) for _ in NAMES]
    assert [block.position for block in blocks] == list(range(4)) * len(sizes)
    assert all(sorted(order) == sorted(NAMES) for order in rounds_of(blocks))
    assert answers.asked == [(block.row, sizes[block.round]) for block in blocks]
    for row in NAMES:
        assert sum(len(block.durations_ns) for block in blocks if block.row == row) == runs


def test_a_block_holds_what_its_own_call_gave() -> None:
    blocks = list(measure_rounds(NAMES, 30, Rows()))
    for number, block in enumerate(blocks, start=1):
        assert set(block.starts_ns.tolist()) == {number}
        assert set(block.durations_ns.tolist()) == {1000 + number}


def test_orders_vary_from_round_to_round() -> None:
    orders = [tuple(order) for order in rounds_of(list(measure_rounds(NAMES, 1000, Rows())))]
    assert len(orders) == 40
    assert len(set(orders)) > 10  # of 24 that there are
    for position in range(4):  # no row has a place of its own
        assert {order[position] for order in orders} == set(NAMES)


def test_orders_are_those_of_the_seed() -> None:
    def orders(seed: int) -> list[list[str]]:
        return rounds_of(list(measure_rounds(NAMES, 250, Rows(), seed=seed)))

    assert orders(1) == orders(1)
    assert orders(1) != orders(2)


def test_a_row_that_failed_is_not_asked_again_and_the_others_finish() -> None:
    answers = Rows({"ort/int8": 3, "torch/fp32": 0})
    names = list(NAMES)
    blocks = list(measure_rounds(names, 200, answers))
    asked = Counter(row for row, _ in answers.asked)
    assert asked == {"ort/int8": 4, "torch/fp32": 1, "ort/fp32": 10, "trt/fp16": 10}
    done = Counter()
    for block in blocks:
        done[block.row] += len(block.durations_ns)
    assert done == {"ort/int8": 60, "ort/fp32": 200, "trt/fp16": 200}
    assert names == list(NAMES)  # the caller's own list is left alone
    for order in rounds_of(blocks)[4:]:
        assert sorted(order) == ["ort/fp32", "trt/fp16"]


def test_when_all_rows_have_failed_nothing_is_asked() -> None:
    answers = Rows(dict.fromkeys(NAMES, 1))
    assert len(list(measure_rounds(NAMES, 100, answers))) == 4
    assert len(answers.asked) == 8


def test_one_row_alone_and_none_at_all() -> None:
    assert [block.position for block in measure_rounds(["only"], 100, Rows())] == [0] * 10
    assert list(measure_rounds([], 100, Rows())) == []


def test_a_block_is_handed_over_before_the_next_is_timed() -> None:
    answers = Rows()
    blocks = measure_rounds(NAMES, 100, answers)
    for taken in range(1, 9):
        next(blocks)
        assert len(answers.asked) == taken
