"""Rounds that are timed again: which attempt counts, which are left out, what was kept before an interruption."""

from __future__ import annotations

import numpy as np
import pytest

from rtbench.measure.latency import Timed
from rtbench.measure.rounds import (
    Block,
    Round,
    Schedule,
    counted_blocks,
    disturbed_rounds,
    last_attempts,
    measure_rounds,
    undisturbed,
)


def block(row: str, number: int, attempt: int = 0, disturbed: str = "") -> Block:
    value = np.array([100 * number + attempt])
    return Block(row, number, attempt, 0, 0, value, value, np.full(1, np.nan), disturbed=disturbed)


def rows_of(blocks: dict[str, dict[int, Block]]) -> dict[str, dict[int, int]]:
    """The attempt by row and round."""
    return {row: {number: each.attempt for number, each in rounds.items()} for row, rounds in blocks.items()}


def test_a_block_has_its_durations_in_milliseconds() -> None:
    assert block("a", 25_000, 1).ms.tolist() == [2.500001]


def timed(_: str, runs: int) -> Timed:
    return Timed(np.zeros(runs, dtype=np.int64), np.ones(runs, dtype=np.int64), np.full(runs, np.nan))


def test_every_row_is_timed_again_in_an_attempt_of_its_own() -> None:
    rounds = [Round(0, 2, 0), Round(0, 2, 0, 1), Round(1, 2, 1), Round(1, 2, 1, 1), Round(1, 2, 1, 2)]
    blocks = list(measure_rounds(["a", "b"], rounds, timed))
    assert [(each.round, each.attempt, each.process, each.position) for each in blocks] == [
        (number, attempt, process, position) for number, _, process, attempt in rounds for position in (0, 1)
    ]
    for at in range(0, 10, 2):
        assert {each.row for each in blocks[at : at + 2]} == {"a", "b"}


def test_what_was_timed_before_an_interruption_is_timed_again_only_in_a_new_attempt() -> None:
    kept = {("a", 0, 0), ("a", 1, 1), ("b", 1, 1)}
    rounds = [Round(0, 2, 0), Round(0, 2, 0, 1), Round(1, 2, 0, 1), Round(1, 2, 0, 2)]
    blocks = list(measure_rounds(["a", "b"], rounds, timed, kept=kept))
    assert sorted((each.row, each.round, each.attempt) for each in blocks) == [
        ("a", 0, 1),
        ("a", 1, 2),
        ("b", 0, 0),
        ("b", 0, 1),
        ("b", 1, 2),
    ]


def test_only_the_last_attempt_at_a_round_counts_for_all_rows() -> None:
    blocks = [
        *(block("a", 0), block("b", 0), block("a", 1, disturbed="steal"), block("b", 1)),
        *(block("b", 1, 1), block("a", 1, 1), block("a", 2), block("b", 2)),
    ]
    assert rows_of(last_attempts(blocks)) == {"a": {0: 0, 1: 1, 2: 0}, "b": {0: 0, 1: 1, 2: 0}}
    assert disturbed_rounds(last_attempts(blocks)["a"].values()) == set()


def test_a_row_that_an_interrupt_kept_from_the_last_attempt_lacks_the_round() -> None:
    blocks = [block("a", 0), block("b", 0), block("a", 0, 1)]
    assert rows_of(last_attempts(blocks)) == {"a": {0: 1}, "b": {}}
    assert last_attempts([]) == {}


@pytest.mark.parametrize(
    ("rounds", "bad", "left"),
    [
        (20, range(0), 20),
        (20, range(10), 10),  # half of them are enough
        (20, range(11), None),
        (1, range(1), None),
        (3, [1], 2),
        (3, [0, 1], None),
        (4, [7, 9], 4),  # of rounds that this row has not
    ],
)
def test_figures_need_half_of_a_rows_rounds(rounds: int, bad: range, left: int | None) -> None:
    own = [block("a", number) for number in range(rounds)]
    found = undisturbed(own, set(bad))
    assert (found if found is None else len(found)) == left
    assert {each.round for each in found or ()}.isdisjoint(bad)


def test_a_round_in_which_any_row_was_disturbed_counts_for_none() -> None:
    rows = {
        "a": {number: block("a", number, disturbed="steal" if number == 0 else "") for number in range(4)},
        "b": {number: block("b", number, disturbed="throttled" if number == 3 else "") for number in range(4)},
    }
    assert {row: [each.round for each in blocks] for row, blocks in counted_blocks(rows).items()} == {
        "a": [1, 2],
        "b": [1, 2],
    }


def test_a_row_with_too_few_quiet_rounds_keeps_all_and_the_others_keep_theirs() -> None:
    rows = {
        "a": {number: block("a", number, disturbed="steal" if number < 3 else "") for number in range(4)},
        "b": {number: block("b", number) for number in range(10)},
    }
    counted = counted_blocks(rows)
    assert [each.round for each in counted["a"]] == [0, 1, 2, 3]
    assert [each.round for each in counted["b"]] == list(range(3, 10))


def test_rounds_are_of_one_process_and_in_the_order_of_seed_0_where_nothing_is_said() -> None:
    assert Schedule(500) == Schedule(500, processes=1)
    names, rounds = [*"abcdef"], [Round(number, 2, 0) for number in range(10)]
    said, unsaid = ([each.row for each in measure_rounds(names, rounds, timed, **given)] for given in ({"seed": 0}, {}))
    assert said == unsaid
