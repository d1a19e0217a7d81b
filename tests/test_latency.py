"""Rounds and blocks, by a clock that moves only when something happens."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest

from rtbench.measure.latency import (
    WARMUP_LEAST_WINDOWS,
    WARMUP_MOST_RUNS,
    WARMUP_WINDOW,
    Timed,
    has_settled,
    lead,
    time_block,
    warm_up,
)
from rtbench.measure.rounds import BLOCK_RUNS, Block, Round, Schedule, block_sizes, measure_rounds

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
        self.on_device: float | None = None

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

    def device_ms(self) -> float | None:
        self.events.append("device")
        return self.on_device

    def close(self) -> None:
        raise AssertionError("whoever opened it closes it")

    def _spend(self, event: str) -> None:
        self.events.append(event)
        self.now += self.costs[event]


def test_the_timed_region_is_bind_run_and_fetch_and_nothing_else() -> None:
    session = Scripted({"bind": 10_000, "run": 1_000_000, "fetch": 100_000_000})
    starts, durations, device_ms = time_block(session, BATCH, 3, session.clock)
    assert session.events == ["clock", "bind", "run", "fetch", "clock", "device"] * 3
    assert np.isnan(device_ms).all()
    assert durations.tolist() == [101_010_001, 101_010_002, 101_010_003]
    first = 10**12
    assert starts.tolist() == [first, first + 101_010_001, first + 101_010_001 + 101_010_002]
    assert (starts.dtype, durations.dtype) == (np.int64, np.int64)


def test_the_devices_own_time_is_kept_where_it_has_one() -> None:
    session = Scripted({"bind": 1, "run": 1, "fetch": 1})
    session.on_device = 0.25
    assert time_block(session, BATCH, 2, session.clock).device_ms.tolist() == [0.25, 0.25]


@pytest.mark.parametrize("runs", [0, 1, 25])
def test_calls_are_counted(runs: int) -> None:
    session = Scripted({"bind": 1, "run": 1, "fetch": 1})
    starts, durations, _ = time_block(session, BATCH, runs, session.clock)
    assert Counter(session.events) == Counter(
        {"bind": runs, "run": runs, "fetch": runs, "clock": 2 * runs, "device": runs}
    )
    assert len(starts) == len(durations) == runs
    assert all(batch is BATCH for batch in session.batches)


@pytest.mark.parametrize(("least_ns", "runs"), [(0, 0), (1, 1), (30_000_006, 3), (30_000_007, 4)])
def test_a_lead_ends_with_the_run_that_its_time_is_over_in(least_ns: int, runs: int) -> None:
    session = Scripted({"bind": 0, "run": 10_000_000, "fetch": 0})  # runs of 10 ms, and 1 ns, 2 ns, …
    lead(session, BATCH, least_ns, session.clock)
    assert session.runs == runs


def test_times_that_no_double_holds_are_exact() -> None:
    session = Scripted({"bind": 0, "run": 2**61, "fetch": 1})
    session.now = 2**60 + 1
    starts, durations, _ = time_block(session, BATCH, 1, session.clock)
    assert (starts[0], durations[0]) == (2**60 + 1, 2**61 + 2)


def test_block_sizes_add_up_and_are_alike() -> None:
    for runs in MANY:
        sizes = block_sizes(runs)
        assert sum(sizes) == runs
        assert max(sizes) - min(sizes) <= 1, runs
        assert 1 <= min(sizes) <= max(sizes) <= BLOCK_RUNS == 10, runs
        assert len(sizes) >= min(runs, 20), runs
        # no more rounds than that asks for
        assert len(sizes) == max(min(runs, 20), (runs + 9) // 10), runs


def test_block_sizes_known_by_heart() -> None:
    assert block_sizes(1000) == [10] * 100
    assert block_sizes(100) == [5] * 20
    assert block_sizes(22) == [2, 2] + [1] * 18
    assert block_sizes(3) == [1, 1, 1]
    assert block_sizes(0) == []


def planned(runs: int, processes: int = 1) -> list[Round]:
    schedule = Schedule(runs, processes)
    return [schedule.round(number) for number in range(len(schedule.sizes))]


def test_processes_share_the_rounds_evenly_and_have_enough_runs_on_average() -> None:
    for runs, asked in itertools.product(MANY, (1, 2, 5, 40)):
        rounds = planned(runs, asked)
        assert [each.number for each in rounds] == list(range(len(rounds)))
        assert [each.runs for each in rounds] == block_sizes(runs)
        count = Counter(each.process for each in rounds)
        assert sorted(count) == list(range(max(1, min(asked, runs // 25))))
        assert max(count.values()) - min(count.values()) <= 1
        assert [each.process for each in rounds] == sorted(each.process for each in rounds)  # one after the other


def test_past_the_planned_rounds_processes_change_as_often_as_before() -> None:
    schedule = Schedule(130, 5)  # four rounds each
    assert [schedule.round(number)[:3] for number in (18, 19, 20, 23, 24)] == [
        (18, 6, 4),
        (19, 6, 4),
        (20, 10, 5),
        (23, 10, 5),
        (24, 10, 6),
    ]
    assert Schedule(100, 1).round(1000)[:3] == (1000, BLOCK_RUNS, 0)  # the only one that was asked for


class Rows:
    """Answers for rows: some stop answering from a block of theirs on."""

    def __init__(self, fail_at: dict[str, int] | None = None) -> None:
        self.fail_at = fail_at or {}
        self.asked: list[tuple[str, int]] = []

    def __call__(self, row: str, runs: int) -> Timed | None:
        turn = sum(name == row for name, _ in self.asked)
        self.asked.append((row, runs))
        if turn == self.fail_at.get(row):
            return None
        number = len(self.asked)
        return Timed(np.full(runs, number), np.full(runs, 1000 + number), np.full(runs, np.nan))


NAMES = ("torch/fp32", "ort/fp32", "ort/int8", "trt/fp16")


def rounds_of(blocks: list[Block]) -> list[list[str]]:
    by_round: dict[int, list[str]] = {}
    for block in blocks:
        by_round.setdefault(block.round, []).append(block.row)
    return list(by_round.values())


@pytest.mark.parametrize("runs", [1, 9, 10, 26, 260, 1000])
def test_each_row_has_one_block_a_round_and_all_its_runs(runs: int) -> None:
    answers = Rows()
    blocks = list(measure_rounds(NAMES, planned(runs), answers))
    sizes = block_sizes(runs)
    assert [block.round for block in blocks] == [number for number in range(len(sizes)) for _ in NAMES]
    assert [block.position for block in blocks] == list(range(4)) * len(sizes)
    assert all(sorted(order) == sorted(NAMES) for order in rounds_of(blocks))
    assert answers.asked == [(block.row, sizes[block.round]) for block in blocks]
    for row in NAMES:
        assert sum(len(block.durations_ns) for block in blocks if block.row == row) == runs


def test_a_block_holds_what_its_own_call_gave() -> None:
    blocks = list(measure_rounds(NAMES, planned(30), Rows()))
    for number, block in enumerate(blocks, start=1):
        assert set(block.starts_ns.tolist()) == {number}
        assert set(block.durations_ns.tolist()) == {1000 + number}


def test_orders_vary_from_round_to_round() -> None:
    orders = [tuple(order) for order in rounds_of(list(measure_rounds(NAMES, planned(1000), Rows())))]
    assert len(orders) == 100
    assert len(set(orders)) > 20  # of 24 that there are
    for position in range(4):  # no row has a place of its own
        assert {order[position] for order in orders} == set(NAMES)


def test_orders_are_those_of_the_seed() -> None:
    def orders(seed: int) -> list[list[str]]:
        return rounds_of(list(measure_rounds(NAMES, planned(250), Rows(), seed=seed)))

    assert orders(1) == orders(1)
    assert orders(1) != orders(2)


def test_a_row_that_failed_is_not_asked_again_and_the_others_finish() -> None:
    answers = Rows({"ort/int8": 3, "torch/fp32": 0})
    names = list(NAMES)
    blocks = list(measure_rounds(names, planned(200), answers))
    asked = Counter(row for row, _ in answers.asked)
    assert asked == {"ort/int8": 4, "torch/fp32": 1, "ort/fp32": 20, "trt/fp16": 20}
    done = Counter()
    for block in blocks:
        done[block.row] += len(block.durations_ns)
    assert done == {"ort/int8": 30, "ort/fp32": 200, "trt/fp16": 200}
    assert names == list(NAMES)  # the caller's own list is left alone
    for order in rounds_of(blocks)[4:]:
        assert sorted(order) == ["ort/fp32", "trt/fp16"]


def test_when_all_rows_have_failed_nothing_is_asked() -> None:
    answers = Rows(dict.fromkeys(NAMES, 1))
    assert len(list(measure_rounds(NAMES, planned(100), answers))) == 4
    assert len(answers.asked) == 8


def test_one_row_alone_and_none_at_all() -> None:
    assert [block.position for block in measure_rounds(["only"], planned(100), Rows())] == [0] * 20
    assert list(measure_rounds([], planned(100), Rows())) == []


def test_a_block_is_handed_over_before_the_next_is_timed() -> None:
    answers = Rows()
    blocks = measure_rounds(NAMES, planned(100), answers)
    for taken in range(1, 9):
        next(blocks)
        assert len(answers.asked) == taken


def test_a_round_is_asked_for_after_the_one_before_is_handed_over() -> None:
    seen: list[Block] = []

    def rounds() -> Iterator[Round]:
        for each in planned(250, 5):
            assert len(seen) == 4 * each.number
            yield each

    for block in measure_rounds(NAMES, rounds(), Rows()):
        seen.append(block)
    assert [block.process for block in seen] == [block.round // 5 for block in seen]
    assert len(seen) == 100


class Falling(Scripted):
    """A runtime that gets faster from run to run until it has settled."""

    def __init__(self, durations: list[int]) -> None:
        super().__init__({"bind": 0, "run": 0, "fetch": 0})
        self.durations = durations

    def run(self) -> None:
        self.now += self.durations[min(self.runs, len(self.durations) - 1)]
        self.runs += 1


LEAST = WARMUP_LEAST_WINDOWS * WARMUP_WINDOW


def test_a_steady_runtime_settles_at_once() -> None:
    session = Falling([1000])
    assert warm_up(session, BATCH, session.clock) == (LEAST, True)


def test_the_warm_up_goes_on_while_the_latency_falls() -> None:
    session = Falling([round(1000 + 4000 * 0.97**run) for run in range(400)])
    runs, settled = warm_up(session, BATCH, session.clock)
    assert settled
    assert LEAST < runs < WARMUP_MOST_RUNS
    assert session.runs == runs
    # It stopped where five runs make less than 2 % of difference to the ten before.
    assert session.durations[runs] > 0.95 * session.durations[runs - 10]


def test_a_runtime_that_never_settles_is_told() -> None:
    session = Falling([round(1e9 * 0.99**run) for run in range(1000)])
    runs, settled = warm_up(session, BATCH, session.clock)
    assert (runs, settled) == (95, False)  # 100 * (1 - 0.99**n) seconds pass a minute with the 92nd run
    quick = Falling([round(1e6 * 0.99**run) for run in range(1000)])
    assert warm_up(quick, BATCH, quick.clock) == (WARMUP_MOST_RUNS, False)


def test_noise_is_no_reason_to_go_on_but_a_fall_is() -> None:
    generator = np.random.default_rng(3)
    steady = [*(1000 + generator.gamma(1, 5, LEAST))]
    assert has_settled(steady)
    assert not has_settled(steady[: LEAST - 1])
    assert has_settled([*steady[:-WARMUP_WINDOW], *(1500 + generator.gamma(1, 5, WARMUP_WINDOW))])
    assert not has_settled([*steady[:-WARMUP_WINDOW], *(950 + generator.gamma(1, 5, WARMUP_WINDOW))])


def windows_of(*medians: int) -> list[int]:
    """Five runs each, of which the one in the middle counts: one far above and one far below do not."""
    return [run for median in medians for run in (median, 10 * median, median, 1, median)]


@pytest.mark.parametrize(
    ("before", "middle", "newest", "settled"),
    [
        (1000, 1000, 980, True),  # two percent are no fall
        (1000, 1000, 979, False),
        (1000, 900, 882, True),  # the lower of the two counts
        (900, 1000, 882, True),
        (1000, 1000, 1500, True),
    ],
)
def test_settled_is_a_median_at_most_two_percent_below_both_before(
    before: int, middle: int, newest: int, settled: bool
) -> None:
    assert has_settled(windows_of(5000, before, middle, newest)) is settled
    assert has_settled([7, 7, *windows_of(5000, before, middle, newest)]) is settled  # of the last runs, in fives
    assert not has_settled(windows_of(before, middle, newest))


def test_the_warm_up_ends_after_a_minute_to_the_nanosecond() -> None:
    """Each window of five runs is 3 % faster than the one before; fifteen of them take a minute."""
    shares = [0.97**window for window in range(20) for _ in range(5)]
    falling = [round(share * 60e9 / sum(shares[:75])) for share in shares]
    falling[0] += 60_000_000_000 - sum(falling[:75])
    session = Falling(falling)
    assert warm_up(session, BATCH, session.clock) == (75, False)
    falling[0] -= 1
    session = Falling(falling)
    assert warm_up(session, BATCH, session.clock) == (80, False)
