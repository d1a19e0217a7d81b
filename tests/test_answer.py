"""What is said of a row, word by word, and the front of those that no other beats, by trying every pair."""

from __future__ import annotations

import itertools
import random

import pytest
from made_runs import IMAGES, made_answers, made_difference, made_model, made_row, made_run

from rtbench.records.measurement import Comparison
from rtbench.records.run import Row, Scores
from rtbench.scores.answer import describe, measured_rows, pareto_front, points, quality, speed

WRONG = range(0, IMAGES, 8)
"""An eighth."""


def sized(made: Row, size: int, **changes: object) -> Row:
    artifact = made.artifact.model_copy(update={"size_bytes": size})
    return made.model_copy(update={"artifact": artifact} | changes)


def unpaired(made: Row) -> Row:
    """Of which it is not known how it answers the images that the model itself has right."""
    return made.model_copy(update={"accuracy": made.accuracy.model_copy(update={"difference": None})})


def sped(made: Row, ratio: float) -> Row:
    scores = Scores(size=None, latency=None, accuracy=None, on_baseline_hardware=False, speedup_vs_torch=ratio)
    return made.model_copy(update={"scores": scores})


TORCH = sized(made_row("torch/fp32", 20.0, WRONG), 1_000_000)


@pytest.mark.parametrize(
    ("difference", "words"),
    [(0.0, "0.0"), (0.0004, "0.0"), (-0.0004, "0.0"), (0.0006, "+0.1"), (-0.002, "-0.2"), (0.1234, "+12.3")],
)
def test_points_have_a_sign_and_one_digit(difference: float, words: str) -> None:
    assert points(difference) == words


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (1.0, "as fast as torch/fp32"),
        (1.029, "as fast as torch/fp32"),
        (0.971, "as fast as torch/fp32"),
        (1.031, "1.0x faster than torch/fp32"),
        (0.969, "1.0x slower than torch/fp32"),
        (2.5, "2.5x faster than torch/fp32"),
        (0.4, "2.5x slower than torch/fp32"),
    ],
)
def test_speed_is_a_ratio_to_the_model_itself_measured_in_pairs(ratio: float, words: str) -> None:
    row = sped(made_row("ort/fp32", 10.0, WRONG), ratio)
    assert speed(made_run([TORCH, row]), row) == words


def test_speed_beside_the_row_to_ship_is_that_of_their_medians() -> None:
    fast, chosen = sped(made_row("ort/int8", 4.0, WRONG), 5.0), made_row("ort/fp32", 10.0, WRONG)
    chosen = chosen.model_copy(update={"latency": chosen.latency.model_copy(update={"p50_ms": 12.0})})
    fast = fast.model_copy(update={"latency": fast.latency.model_copy(update={"p50_ms": 4.0})})
    run = made_run([TORCH, chosen, fast])
    assert speed(run, fast, chosen) == "3.0x faster than ort/fp32"
    assert speed(run, fast, TORCH) == "5.0x faster than torch/fp32"  # by the rounds that they share


@pytest.mark.parametrize(("row", "to", "ratio"), [("ort/int8", "ort/fp32", 2.5), ("ort/fp32", "ort/int8", 0.4)])
def test_speed_beside_the_row_to_ship_is_that_of_the_rounds_where_these_were_compared(
    row: str, to: str, ratio: float
) -> None:
    fast, chosen = made_row("ort/int8", 4.0, WRONG), made_row("ort/fp32", 12.0, WRONG)
    other = Comparison(row="ort/int8", to="torch/fp32", ratio=9.0, ci95=None, verdict="faster")
    paired = Comparison(row=row, to=to, ratio=ratio, ci95=None, verdict="faster")
    run = made_run([TORCH, chosen, fast], comparisons=[other, paired])
    assert speed(run, fast, chosen) == "2.5x faster than ort/fp32"
    assert speed(run, chosen, fast) == "2.5x slower than ort/int8"


def test_without_the_model_itself_speed_is_milliseconds() -> None:
    row = made_row("ort/fp32", 10.0, WRONG)
    assert speed(made_run([row]), row) == f"{row.latency.mean_ms:.3g} ms"
    assert speed(made_run([TORCH, row]), row) == f"{row.latency.mean_ms:.3g} ms"  # no rounds in common
    itself = sped(TORCH, 1.0)
    assert speed(made_run([itself]), itself) == f"{TORCH.latency.mean_ms:.3g} ms"
    assert speed(made_run([sped(row, 2.0)]), sped(row, 2.0)) == f"{row.latency.mean_ms:.3g} ms"


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (1_000_000, "the same size"),
        (1_029_000, "the same size"),
        (971_000, "the same size"),
        (500_000, "half the size"),
        (529_000, "half the size"),
        (531_000, "53 % of the size"),
        (469_000, "47 % of the size"),
        (250_000, "a quarter of the size"),
        (200_000, "a fifth of the size"),
        (229_000, "a quarter of the size"),
        (221_000, "a fifth of the size"),
        (170_000, "17 % of the size"),
        (333_333, "a third of the size"),
        (666_667, "two thirds of the size"),
        (100_000, "10 % of the size"),
        (1_500_000, "1.5x the size"),
    ],
)
def test_size_is_a_share_in_words(size: int, words: str) -> None:
    row = sized(made_row("ort/int8", 10.0, WRONG), size)
    assert describe(made_run([TORCH, row]), row).endswith(f", {words}")


def test_a_row_without_the_model_itself_has_its_size_in_mib_and_its_accuracy_with_its_interval() -> None:
    row = sized(unpaired(made_row("ort/int8", 10.0, WRONG)), 5 * 2**19)
    low, high = (f"{100 * end:.1f}" for end in row.accuracy.top1_ci95)
    said = describe(made_run([row]), row)
    assert said == f"{row.latency.mean_ms:.3g} ms, top-1 87.5 % [{low}, {high}], 2.5 MiB"
    assert describe(made_run([TORCH]), TORCH).endswith(", 0.954 MiB")
    unsized = TORCH.model_copy(update={"artifact": None})
    assert describe(made_run([unsized, row]), row).endswith(", 2.5 MiB")


def test_accuracy_beside_the_model_is_the_difference_with_its_interval_where_images_were_paired() -> None:
    wrong = [*WRONG, 1, 2, 3, 4]
    row = made_row("ort/int8", 10.0, wrong)
    assert "top-1 -1.0 points, " in describe(made_run([TORCH, unpaired(row)]), unpaired(row))
    difference = made_difference(made_answers(wrong), made_answers(WRONG))
    paired = row.model_copy(update={"accuracy": row.accuracy.model_copy(update={"difference": difference})})
    low, high = (points(end) for end in difference.top1_ci95)
    assert f"top-1 -1.0 points [{low}, {high}], " in describe(made_run([TORCH, paired]), paired)


def test_without_labels_rightness_is_agreement_and_with_random_weights_nothing() -> None:
    row = made_row("ort/int8", 10.0, WRONG).model_copy(update={"accuracy": None})
    fidelity = row.fidelity.model_copy(update={"images": 384, "top1_agreement": 0.9})
    judged = row.model_copy(update={"fidelity": fidelity})
    assert "agrees with the model on 90.0 % of 384 images" in describe(made_run([judged]), judged)
    unjudged = row.model_copy(update={"fidelity": fidelity.model_copy(update={"judged": False})})
    assert quality(made_run([unjudged]), unjudged) is None
    assert quality(made_run([judged], models=[made_model(random_weights=True)]), judged) is None
    other = made_model("other").model_copy(update={"random_weights": True})
    assert quality(made_run([judged], models=[made_model(), other]), judged) is not None
    failed = judged.model_copy(update={"status": "failed"})
    assert quality(made_run([failed]), failed) is None


def test_the_front_is_every_row_that_no_other_beats() -> None:
    chooser = random.Random(3)
    for _ in range(20):
        rows = [
            made_row(f"ort:{number}/fp32", chooser.choice((5.0, 8.0, 10.0, 12.0)), range(chooser.randrange(0, 60, 12)))
            for number in range(6)
        ]
        rows = [
            row.model_copy(update={"latency": row.latency.model_copy(update={"mean_ms": round(row.latency.mean_ms)})})
            for row in rows
        ]

        def beats(other: Row, row: Row) -> bool:
            own, its = ((each.latency.mean_ms, -each.accuracy.top1) for each in (other, row))
            return own != its and own[0] <= its[0] and own[1] <= its[1]

        front = pareto_front(made_run(rows))
        expected = [row for row in rows if not any(beats(other, row) for other in rows)]
        assert {(row.latency.mean_ms, row.accuracy.top1) for row in front} == {
            (row.latency.mean_ms, row.accuracy.top1) for row in expected
        }
        for first, second in itertools.pairwise(front):
            assert first.latency.mean_ms < second.latency.mean_ms
            assert first.accuracy.top1 < second.accuracy.top1


def test_where_no_row_has_a_quality_the_front_is_of_latency_and_size() -> None:
    rows = [
        sized(made_row(f"ort:{number}/fp32", ms, WRONG), size, accuracy=None, fidelity=None)
        for number, (ms, size) in enumerate([(5.0, 300), (8.0, 200), (9.0, 250), (12.0, 100)])
    ]
    assert [row.id for row in pareto_front(made_run(rows))] == ["ort:0/fp32", "ort:1/fp32", "ort:3/fp32"]
    known = made_row("torch/fp32", 30.0, WRONG)
    assert [row.id for row in pareto_front(made_run([*rows, known]))] == ["torch/fp32"]


def test_rows_are_measured_where_they_ended_well_with_a_latency_and_an_artifact() -> None:
    changes = [{"status": status} for status in ("failed", "invalid", "unavailable")]
    changes += [{"latency": None}, {"artifact": None}]
    others = [
        made_row(f"ort:{number}/fp32", 10.0, WRONG).model_copy(update=each) for number, each in enumerate(changes)
    ]
    assert measured_rows(made_run([*others, TORCH])) == [TORCH]


def test_accuracy_on_the_sample_says_nothing_and_no_images_leave_it_open() -> None:
    run = made_run([TORCH])
    assert quality(run, TORCH).name == "top-1"
    assert quality(run.model_copy(update={"dataset": None}), TORCH).name == "top-1"
    sample = run.dataset.model_copy(update={"sample": True})
    assert quality(run.model_copy(update={"dataset": sample}), TORCH).name == "agreement"
