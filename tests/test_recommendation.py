"""Which row is recommended, and what is said where the evidence does not reach."""

from __future__ import annotations

import pytest
from made_runs import IMAGES, LABELS, made_answers, made_difference, made_model, made_row, made_run
from scipy.stats import binom, norm

from rtbench.records.measurement import Comparison
from rtbench.records.run import Row, Run
from rtbench.scores.recommendation import loss_of, recommend, rule
from rtbench.stats import difference_interval, paired_interval, wilson_interval

WRONG = list(range(0, IMAGES, 8))


def row(name: str, mean_ms: float, lost: int = 0, gained: int = 0, **changes: object) -> Row:
    """A row that loses and gains so many of the images that the model itself has right."""
    wrong = [*WRONG[gained:], *[index for index in range(IMAGES) if index not in WRONG][:lost]]
    made = made_row(name, mean_ms, wrong)
    own = made_answers(WRONG)
    difference = None if name.startswith("torch") else made_difference(made_answers(wrong), own)
    accuracy = made.accuracy.model_copy(update={"difference": difference})
    return made.model_copy(update={"accuracy": accuracy} | changes)


def with_images(made: Row, images: int, lost: int, gained: int) -> Row:
    """The same of another number of images, of which the model itself has four in five right."""
    own = round(0.8 * images)
    right = own - lost + gained
    difference = made.accuracy.difference.model_copy(
        update={
            "images": images,
            "top1": (gained - lost) / images,
            "top1_ci95": paired_interval(gained, lost, images),
            "lost": lost,
            "gained": gained,
        }
    )
    accuracy = made.accuracy.model_copy(
        update={
            "images": images,
            "top1": right / images,
            "top1_ci95": wilson_interval(right, images),
            "difference": difference,
        }
    )
    return made.model_copy(update={"accuracy": accuracy})


def unstable(made: Row, **changes: object) -> Row:
    latency = made.latency.model_copy(update={"stable": False, "warnings": ["others were busy: wait"]} | changes)
    return made.model_copy(update={"latency": latency})


def run_of(*rows: Row, **changes: object) -> Run:
    return made_run(rows, **changes)


TORCH = row("torch/fp32", 20.0)


def test_the_fastest_row_whose_loss_is_shown_to_be_small_is_shipped():
    fp16 = with_images(row("ort/fp16", 8.0), 5000, 5, 5)
    int8 = with_images(row("ort/int8", 5.0), 5000, 20, 10)
    found = recommend(run_of(TORCH, fp16, int8))
    assert (found.verdict, found.row, found.images_needed) == ("ship", "ort/int8", None)
    assert found.reason.startswith("Ship ort/int8: ")
    assert recommend(run_of(TORCH, fp16, int8), max_loss=0.001).row != "ort/int8"


def test_the_end_of_the_interval_decides_and_not_its_centre():
    """-0.6 points on 500 images, as was once shipped under a rule of one point."""
    int8 = with_images(row("ort/int8", 5.0), 500, 4, 1)
    low, high = int8.accuracy.difference.top1_ci95
    assert low < -0.01 < int8.accuracy.difference.top1
    found = recommend(run_of(TORCH, int8))
    assert (found.verdict, found.row) == ("not enough evidence", None)
    assert f"its loss is between {-100 * high:.1f} and {-100 * low:.1f} points of top-1" in found.reason
    assert f"about {found.images_needed:,} images would tell" in found.reason
    # With so many images and the same shares lost and gained, the interval's end is within the limit, and barely so.
    scale = found.images_needed / 500
    enough = with_images(int8, found.images_needed, round(4 * scale), round(1 * scale))
    assert recommend(run_of(TORCH, enough)).row == "ort/int8"
    assert -enough.accuracy.difference.top1_ci95[0] == pytest.approx(0.01, rel=0.1)


def test_a_loss_that_is_shown_to_be_large_needs_no_more_images():
    int8 = with_images(row("ort/int8", 5.0), 5000, 200, 10)
    found = recommend(run_of(TORCH, int8))
    assert (found.verdict, found.row, found.images_needed) == ("ship", "torch/fp32", None)
    assert "ort/int8 is" in found.reason
    assert "but loses" in found.reason


def test_outputs_that_are_the_models_but_for_rounding_have_no_loss_to_look_for():
    few = with_images(row("ort/fp32", 12.0), 20, 0, 0)
    same = few.model_copy(update={"fidelity": few.fidelity.model_copy(update={"relative_error": 1e-6})})
    assert recommend(run_of(TORCH, few)).row is None
    assert recommend(run_of(TORCH, same)).row == "ort/fp32"
    assert loss_of(run_of(TORCH, same), same, 0.01, 0.01).evidence == "shown"


def test_an_unstable_row_is_never_recommended():
    fast = unstable(with_images(row("ort/int8", 5.0), 5000, 0, 0))
    sound = with_images(row("ort/fp16", 8.0), 5000, 0, 0)
    found = recommend(run_of(TORCH, sound, fast))
    assert found.row == "ort/fp16"
    assert "ort/int8 is" in found.reason
    assert "but unstable: others were busy." in found.reason
    every = [unstable(each) for each in (TORCH, sound, fast)]
    assert recommend(run_of(*every)).row is None
    assert "every row was unstable" in recommend(run_of(*every)).reason


def test_no_speed_is_claimed_of_a_row_that_others_disturbed():
    fast = unstable(with_images(row("ort/int8", 0.3), 5000, 0, 0), disturbed="other processes kept 1.4 of 2 cores busy")
    sound = with_images(row("ort/fp16", 8.0), 5000, 0, 0)
    found = recommend(run_of(TORCH, sound, fast))
    assert found.row == "ort/fp16"
    assert "ort/int8" not in found.reason


def test_rows_that_share_the_lead_are_judged_by_size_then_by_simplicity():
    rows = {name: with_images(row(name, 8.0), 5000, 0, 0) for name in ("ort/fp32", "ort/fp16", "ort:trt/fp16")}
    pairs = [(a, b) for a in rows for b in rows if a != b]
    alike = [Comparison(row=a, to=b, ratio=1.0, ci95=(0.99, 1.01), verdict="no difference shown") for a, b in pairs]
    assert recommend(run_of(TORCH, rows["ort/fp32"], rows["ort/fp16"], comparisons=alike)).row == "ort/fp16"
    same_size = rows["ort/fp32"].artifact.model_copy(update={"size_bytes": rows["ort/fp16"].artifact.size_bytes})
    small = rows["ort/fp32"].model_copy(update={"artifact": same_size})
    assert recommend(run_of(TORCH, rows["ort/fp16"], small, comparisons=alike)).row == "ort/fp32"


@pytest.mark.parametrize(
    ("right", "classes", "published", "words"),
    [
        (0, 1000, None, "not above chance (0.1 %)"),
        (40, 10, None, "not above chance (10 %)"),
        (100, 1000, 0.6976, "69.8 % was published for these weights"),
    ],
)
def test_a_model_that_is_right_by_chance_or_half_as_often_as_published_is_doubted_first(
    right, classes, published, words
):
    wrong = list(range(IMAGES - right))
    torch = made_row("torch/fp32", 20.0, wrong)
    int8 = made_row("ort/int8", 5.0, wrong)
    model = made_model().model_copy(update={"classes": classes, "published_top1": published})
    found = recommend(run_of(torch, int8, models=[model]))
    assert (found.verdict, found.row) == ("check", None)
    said = f"Check labels and preprocessing: the model itself has {right / 4:.1f} % of 400 images right"
    assert found.reason.startswith(said)
    assert words in found.reason


def test_without_a_torch_row_the_loss_is_still_against_the_model():
    """What was once shipped: 30 % right, where the model itself has 73 %."""
    int8 = with_images(row("ort/int8", 5.0), 1000, 430, 0)
    fp16 = with_images(row("ort/fp16", 8.0), 1000, 0, 0)
    assert recommend(run_of(fp16, int8)).row == "ort/fp16"
    assert recommend(run_of(int8)).verdict == "not enough evidence"


def agreeing(made: Row, images: int, disagreeing: int) -> Row:
    fidelity = made.fidelity.model_copy(update={"images": images, "top1_agreement": 1 - disagreeing / images})
    return made.model_copy(update={"accuracy": None, "fidelity": fidelity})


def test_unlabelled_images_are_judged_by_agreement_and_its_interval():
    torch = agreeing(TORCH, 384, 0)
    shown, unsure = agreeing(row("ort/fp16", 8.0), 384, 0), agreeing(row("ort/int8", 5.0), 384, 3)
    found = recommend(run_of(torch, shown, unsure))
    assert found.row == "ort/fp16"
    low, high = wilson_interval(381, 384)
    assert f"its loss is between {100 * (1 - high):.1f} and {100 * (1 - low):.1f} % of the model's answers" in (
        found.reason
    )
    assert "give --data" in found.reason
    assert recommend(run_of(torch, unsure), max_disagreement=0.03).row == "ort/int8"
    assert recommend(run_of(torch, agreeing(shown, 256, 0))).row is None  # too few to show one in a hundred
    assert "1 % of the model's answers" in rule(run_of(torch, shown))


def test_a_graph_that_there_is_no_model_to_judge_by_is_the_model_itself():
    own = row("ort/fp32", 5.0)
    artifact = own.artifact.model_copy(update={"made_from": {"file": "mine.onnx"}})
    accuracy = own.accuracy.model_copy(update={"difference": None})
    alone = own.model_copy(update={"artifact": artifact, "fidelity": None, "accuracy": accuracy})
    assert recommend(run_of(alone)).reason.startswith("Ship ort/fp32, the only row: 5 ms, top-1 87.5 %")
    wrong = accuracy.model_copy(update={"top1": 0.0, "top1_ci95": (0.0, 0.01)})
    assert recommend(run_of(alone.model_copy(update={"accuracy": wrong}))).verdict == "check"
    quantised = alone.model_copy(update={"id": "ort/int8", "precision": "int8"})
    assert "give --reference MODEL" in recommend(run_of(quantised)).reason


def test_random_weights_are_never_recommended():
    found = recommend(run_of(TORCH, row("ort/int8", 5.0), models=[made_model(random_weights=True)]))
    assert found.row is None
    assert "random weights say nothing of accuracy" in found.reason


def test_another_model_that_is_better_keeps_a_faster_one_back():
    other = made_row("small/torch/fp32", 5.0, list(range(0, IMAGES, 3)), model="small")
    best = made_row("resnet18/torch/fp32", 20.0, WRONG)
    found = recommend(run_of(best, other, models=[made_model(), made_model("small")]))
    assert found.row == "resnet18/torch/fp32"
    assert "its model is less accurate than another one" in found.reason


def test_nothing_measured():
    assert recommend(run_of(TORCH.model_copy(update={"latency": None}))).verdict == "none"


def test_newcombes_interval_covers_the_difference():
    """By counting over all outcomes of two samples of 60."""
    covered = 0.0
    for first in range(61):
        for second in range(61):
            weight = binom.pmf(first, 60, 0.7) * binom.pmf(second, 60, 0.6)
            if weight > 1e-9:
                low, high = difference_interval(
                    first / 60, wilson_interval(first, 60), second / 60, wilson_interval(second, 60)
                )
                covered += weight * (low <= 0.1 <= high)
    assert 0.94 < covered < 0.97
    assert norm.ppf(0.975) == pytest.approx(1.96, abs=0.001)
    assert len(LABELS) == IMAGES
