"""Where a recommendation turns: on each limit exactly, and by the order in which rows are taken."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from math import ceil

import pytest
from made_runs import IMAGES, made_model, made_row, made_run

from rtbench.records.measurement import Comparison
from rtbench.records.run import Row
from rtbench.scores.recommendation import Loss, doubts, loss_of, recommend, recommendation, rule
from rtbench.stats import difference_interval, wilson_interval

WRONG = range(0, IMAGES, 8)
TORCH = made_row("torch/fp32", 20.0, WRONG)


def losing(made: Row, loss: float, half: float, images: int = IMAGES) -> Row:
    """A row that loses so much of top-1, known to within `half`."""
    difference = made.accuracy.difference.model_copy(
        update={"images": images, "top1": -loss, "top1_ci95": (-loss - half, -loss + half)}
    )
    return made.model_copy(
        update={"accuracy": made.accuracy.model_copy(update={"images": images, "difference": difference})}
    )


def evidence(row: Row, max_loss: float = 0.01) -> Loss:
    return loss_of(made_run([TORCH, row]), row, max_loss, 0.5)


INT8 = made_row("ort/int8", 5.0, WRONG)


def test_a_loss_is_shown_lost_or_open_by_the_ends_of_its_interval() -> None:
    row = losing(INT8, 0.25, 0.125)  # numbers that floats hold
    assert evidence(row, 0.375) == Loss("top-1", "shown", (0.125, 0.375))
    assert evidence(row, 0.374).evidence == "open"
    assert evidence(row, 0.125).evidence == "open"
    assert evidence(row, 0.124) == Loss("top-1", "lost", (0.125, 0.375))
    with pytest.raises(FrozenInstanceError):
        evidence(row).kind = "none"


def test_no_number_of_images_shows_a_loss_that_is_the_limit_itself() -> None:
    row = losing(INT8, 0.25, 0.125)
    assert evidence(row, 0.25).images_needed is None
    assert evidence(row, 0.2).images_needed is None
    assert evidence(row, 0.3125).images_needed == 1600  # a half as wide as it may be: four times the images


def test_the_images_that_would_tell_are_whole_and_enough() -> None:
    assert evidence(losing(INT8, 0.0, 0.1875, 1), 0.125).images_needed == 3  # 2.25 of them
    fidelity = INT8.fidelity.model_copy(update={"images": 400, "top1_agreement": 0.9})
    unlabelled = INT8.model_copy(update={"accuracy": None, "fidelity": fidelity})
    low, high = wilson_interval(360, 400)
    needed = 400 * ((high - low) / 2 / (0.125 - 0.1)) ** 2
    found = loss_of(made_run([TORCH, unlabelled]), unlabelled, 0.01, 0.125)
    assert (found.evidence, found.images_needed) == ("open", 10 * ceil(needed / 10))


@pytest.mark.parametrize(("images", "needed"), [(1, 4), (3, 12), (25, 100), (31, 130), (309, 1300), (2500, 10000)])
def test_the_images_that_would_tell_have_two_digits_rounded_up(images: int, needed: int) -> None:
    assert evidence(losing(INT8, 0.0, 0.25, images), 0.125).images_needed == needed


@pytest.mark.parametrize(
    ("error", "judged", "expected"),
    [(0.0, True, True), (1e-4, True, True), (1.01e-4, True, False), (None, True, False), (1e-6, False, False)],
)
def test_a_row_is_the_model_up_to_a_relative_error_of_one_in_ten_thousand(
    error: float | None, judged: bool, expected: bool
) -> None:
    row = losing(INT8, 0.25, 0.125)
    fidelity = row.fidelity.model_copy(update={"relative_error": error, "judged": judged})
    found = evidence(row.model_copy(update={"fidelity": fidelity}))
    assert (found == Loss("top-1", "shown")) == expected


def test_without_labels_or_on_the_sample_the_loss_is_of_agreement() -> None:
    row = losing(INT8, 0.25, 0.125)
    assert evidence(row.model_copy(update={"accuracy": None})).kind == "agreement"
    sample = made_run([TORCH, row]).dataset.model_copy(update={"sample": True})
    run = made_run([TORCH, row], dataset=sample)
    assert loss_of(run, row, 0.01, 0.5).kind == "agreement"
    assert loss_of(run, row, 0.01, 0.5).evidence == "shown"
    unjudged = row.fidelity.model_copy(update={"judged": False})
    assert loss_of(run, row.model_copy(update={"fidelity": unjudged}), 0.01, 0.5) == Loss("none", "open")


def test_a_row_that_nothing_was_compared_with_is_not_the_model_itself() -> None:
    unjudged = made_row("ort/fp32", 5.0, WRONG).model_copy(update={"fidelity": None, "accuracy": None})
    assert evidence(unjudged) == Loss("none", "open")


def shown(name: str, ms: float, **changes: object) -> Row:
    """A row that is shown to lose nothing."""
    return losing(made_row(name, ms, WRONG), 0.0, 0.001).model_copy(update=changes)


def test_at_most_two_faster_rows_are_told_of_the_fastest_first() -> None:
    faster = [
        losing(made_row(f"ort:{name}/int8", ms, WRONG), 0.05, 0.01) for name, ms in zip("cab", (6, 4, 5), strict=True)
    ]
    found = recommend(made_run([TORCH, *faster, shown("ort/fp16", 10.0)]))
    assert found.row == "ort/fp16"
    assert found.reason.count("but loses 4.0 to 6.0 points of top-1.") == 2
    assert found.reason.index("ort:a/int8 is") < found.reason.index("ort:b/int8 is")
    assert "ort:c" not in found.reason


def test_the_images_needed_are_those_of_the_row_that_needs_most() -> None:
    rows = [losing(made_row(f"ort:{name}/int8", 5.0, WRONG), 0.0, half) for name, half in (("a", 0.02), ("b", 0.04))]
    found = recommend(made_run([TORCH, *rows]))
    assert (found.verdict, found.images_needed) == ("not enough evidence", 16 * IMAGES)
    beside = recommend(made_run([TORCH, *rows, shown("ort/fp16", 10.0)]))
    assert (beside.row, beside.images_needed) == ("ort/fp16", 16 * IMAGES)
    slow = [row.model_copy(update={"latency": TORCH.latency.model_copy(update={"p50_ms": 30.0})}) for row in rows]
    assert recommend(made_run([TORCH, *slow])).row == "torch/fp32"
    assert recommend(made_run([TORCH, *slow])).images_needed is None


def test_the_fastest_is_the_one_of_the_lowest_median_and_not_of_the_lowest_mean() -> None:
    one, other = shown("ort/fp16", 10.0), shown("ort/int8", 11.0)
    spiky = one.latency.model_copy(update={"p50_ms": 12.0})
    found = recommend(made_run([TORCH, one.model_copy(update={"latency": spiky}), other]))
    assert found.row == "ort/int8"


def no_difference(first: Row, second: Row, *, known: bool = True) -> Comparison:
    interval = (0.99, 1.01) if known else None
    return Comparison(row=first.id, to=second.id, ratio=1.0, ci95=interval, verdict="no difference shown")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("ort/int8", "ort/bf16", "ort/bf16"),
        ("ort/fp16", "ort/bf16", "ort/fp16"),  # alike: the first
        ("ort/bf16", "ort/fp16", "ort/bf16"),
        ("trt/fp16", "ort/int8", "trt/fp16"),  # two steps each
        ("ort/int8", "trt/fp16", "ort/int8"),
        ("trt/fp16", "ort/fp16", "ort/fp16"),
        ("trt/int8", "trt/fp16", "trt/fp16"),
        ("trt/bf16", "ort/fp32", "ort/fp32"),
        ("trt/fp32", "ort/fp32", "ort/fp32"),
    ],
)
def test_an_engine_counts_as_a_step_more_than_its_precision(first: str, second: str, expected: str) -> None:
    rows = []
    for name in (first, second):
        made = shown(name.replace("bf16", "fp16"), 10.0)
        kind = "engine" if name.startswith("trt") else "onnx"
        artifact = made.artifact.model_copy(update={"format": kind, "size_bytes": 7})
        rows.append(made.model_copy(update={"id": name, "precision": name.rpartition("/")[2], "artifact": artifact}))
    found = recommend(made_run([TORCH, *rows], comparisons=[no_difference(*rows)]))
    assert found.row == expected


def test_a_lead_is_shared_only_where_a_comparison_was_possible() -> None:
    fast, small = shown("ort/fp32", 9.9), shown("ort/int8", 10.0)
    for comparisons, expected in (
        ([no_difference(fast, small)], "ort/int8"),
        ([no_difference(small, fast)], "ort/int8"),
        ([no_difference(fast, small, known=False)], "ort/fp32"),
        ([], "ort/fp32"),
        ([no_difference(fast, small).model_copy(update={"verdict": "faster"})], "ort/fp32"),
    ):
        assert recommend(made_run([TORCH, fast, small], comparisons=comparisons)).row == expected


def test_of_rows_alike_in_speed_and_size_the_simpler_is_shipped() -> None:
    """Fewer conversions, and an ONNX file before an engine, which only one kind of GPU runs."""
    rows = [shown(f"ort/{precision}", 10.0) for precision in ("int8", "fp16", "fp32")]
    engine = shown("trt/fp32", 10.0)
    rows.append(
        engine.model_copy(
            update={"artifact": engine.artifact.model_copy(update={"format": "engine"}), "id": "trt/fp32"}
        )
    )
    rows = [row.model_copy(update={"artifact": row.artifact.model_copy(update={"size_bytes": 7})}) for row in rows]
    order = ["ort/fp32", "trt/fp32", "ort/fp16", "ort/int8"]
    left = rows
    for expected in order:
        pairs = [no_difference(first, second) for first in left for second in left if first is not second]
        found = recommend(made_run([TORCH, *left], comparisons=pairs)).row
        assert found == expected or {found, expected} == {"trt/fp32", "ort/fp16"}  # both one step from the model
        left = [row for row in left if row.id != found]


@pytest.mark.parametrize(
    ("images", "top1", "published", "doubted"),
    [
        (50, 0.34, 0.7, True),
        (49, 0.34, 0.7, False),
        (50, 0.36, 0.7, False),
        (64, 0.25, 0.5, False),  # half of it, exactly
        (50, 0.34, None, False),
    ],
)
def test_a_model_is_doubted_where_fifty_images_give_less_than_half_of_what_was_published(
    images: int, top1: float, published: float | None, doubted: bool
) -> None:
    accuracy = TORCH.accuracy.model_copy(update={"images": images, "top1": top1})
    model = made_model().model_copy(update={"published_top1": published, "classes": 1000})
    run = made_run([TORCH.model_copy(update={"accuracy": accuracy})], models=[model])
    assert (doubts(run) is not None) == doubted


def test_what_is_doubted_is_the_model_itself_and_not_a_row_that_loses() -> None:
    lost = made_row("ort/int8", 5.0, range(IMAGES))
    assert lost.accuracy.top1 == 0
    assert doubts(made_run([lost])) is None  # the model itself has 87.5 % right
    gained = made_row("ort/int8", 5.0, WRONG)
    difference = gained.accuracy.difference.model_copy(update={"top1": gained.accuracy.top1})
    gained = gained.model_copy(update={"accuracy": gained.accuracy.model_copy(update={"difference": difference})})
    assert "the model itself has 0.0 %" in (doubts(made_run([gained])) or "")
    alone = gained.model_copy(update={"accuracy": gained.accuracy.model_copy(update={"top1": 0.0, "difference": None})})
    assert doubts(made_run([alone])) is None  # nothing is known of the model


def test_nothing_is_doubted_on_the_sample_with_random_weights_or_with_one_class() -> None:
    wrong = made_row("torch/fp32", 20.0, range(IMAGES))
    run = made_run([wrong])
    assert doubts(run)
    assert doubts(run.model_copy(update={"dataset": run.dataset.model_copy(update={"sample": True})})) is None
    assert doubts(run.model_copy(update={"dataset": None})) is None
    assert doubts(made_run([wrong], models=[made_model(random_weights=True)])) is None
    assert doubts(made_run([wrong], models=[made_model().model_copy(update={"classes": 1})])) is None
    assert doubts(made_run([wrong.model_copy(update={"accuracy": None})])) is None
    assert doubts(made_run([wrong.model_copy(update={"model": "unknown"})])) is None


def test_the_rule_says_which_limit_holds() -> None:
    run = made_run([TORCH])
    assert "at most 1 point of top-1" in rule(run)
    stricter = run.model_copy(update={"recommendation": recommend(run, max_loss=0.005)})
    assert "at most 0.5 points of top-1" in rule(stricter)
    unlabelled = made_run([TORCH.model_copy(update={"accuracy": None})])
    assert "at most 1 % of the model's answers" in rule(unlabelled)
    sample = run.model_copy(update={"dataset": run.dataset.model_copy(update={"sample": True})})
    assert "of the model's answers" in rule(sample)
    assert recommendation(stricter).max_loss == 0.005
    assert recommendation(run) == recommend(run)
    assert (recommend(run).max_loss, recommend(run).max_disagreement) == (0.01, 0.01)


def test_an_interrupted_run_says_so() -> None:
    whole, cut = made_run([TORCH]), made_run([TORCH], complete=False)
    assert recommend(cut).reason == f"As far as this interrupted run went: {recommend(whole).reason}"
    assert recommend(whole).reason.startswith("Ship torch/fp32, the only row: ")
    assert "only row" not in recommend(made_run([TORCH, shown("ort/fp16", 30.0)])).reason


def test_what_was_not_measured_on_labels_is_said() -> None:
    said = "Accuracy was not measured on labelled images; give --data for that."
    assert said not in recommend(made_run([TORCH])).reason
    unlabelled = TORCH.model_copy(update={"accuracy": None})
    assert recommend(made_run([unlabelled])).reason.endswith(said)
    assert recommend(made_run([unlabelled], dataset=None)).reason.endswith(said)
    sample = made_run([TORCH]).dataset.model_copy(update={"sample": True})
    said = "The built-in sample shows no accuracy; give labelled images with --data for that."
    assert recommend(made_run([TORCH], dataset=sample)).reason.endswith(said)


def test_another_model_holds_a_faster_one_back_where_it_may_be_better_by_more_than_the_limit() -> None:
    models = [made_model(), made_model("small")]
    small = made_row("small/torch/fp32", 5.0, WRONG, model="small")
    big = made_row("resnet18/torch/fp32", 20.0, WRONG)
    for max_loss, expected in ((0.06, "small/torch/fp32"), (0.01, "resnet18/torch/fp32")):
        found = recommend(made_run([big, small], models=models), max_loss=max_loss)
        assert found.row == expected if expected.startswith("small") else found.row is None or found.row == expected
    for status in ("failed", "invalid", "unavailable"):
        failed = big.model_copy(update={"status": status})
        assert recommend(made_run([failed, small], models=models)).row == "small/torch/fp32"


def test_a_model_that_may_be_behind_by_the_limit_itself_is_not_held_back() -> None:
    models = [made_model(), made_model("small")]
    small = made_row("small/torch/fp32", 5.0, range(0, IMAGES, 7), model="small")
    big = made_row("resnet18/torch/fp32", 20.0, WRONG)
    low, _ = difference_interval(
        small.accuracy.top1, small.accuracy.top1_ci95, big.accuracy.top1, big.accuracy.top1_ci95
    )
    assert recommend(made_run([big, small], models=models), max_loss=-low).row == "small/torch/fp32"
    assert recommend(made_run([big, small], models=models), max_loss=-low - 1e-9).row != "small/torch/fp32"


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1)])
def test_the_best_of_the_other_models_holds_a_row_back(order: tuple[int, ...]) -> None:
    names = ("small", "middle", "resnet18")
    wrong = (range(0, IMAGES, 3), range(0, IMAGES, 3), WRONG)
    rows = [made_row(f"{names[at]}/torch/fp32", 5.0 + 5 * at, wrong[at], model=names[at]) for at in order]
    found = recommend(made_run(rows, models=[made_model(name) for name in names]))
    assert found.row == "resnet18/torch/fp32"


@pytest.mark.parametrize("skipped", ["without labels", "not paired"])
def test_a_row_that_says_nothing_of_its_model_does_not_end_the_search_for_doubts(skipped: str) -> None:
    lost = made_row("ort/int8", 5.0, range(IMAGES))
    accuracy = None if skipped == "without labels" else lost.accuracy.model_copy(update={"difference": None})
    first = lost.model_copy(update={"accuracy": accuracy})
    torch = made_row("torch/fp32", 20.0, range(IMAGES))
    assert "the model itself has 0.0 %" in (doubts(made_run([first, torch])) or "")


def test_of_an_unstable_row_the_first_warning_is_told() -> None:
    fast = shown("ort/int8", 5.0)
    warnings = ["others were busy: wait", "median moved: let it settle"]
    fast = fast.model_copy(update={"latency": fast.latency.model_copy(update={"stable": False, "warnings": warnings})})
    found = recommend(made_run([TORCH, fast, shown("ort/fp16", 10.0)]))
    assert "but unstable: others were busy." in found.reason
