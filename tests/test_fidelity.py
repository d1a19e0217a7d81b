"""The verdict on outputs, over networks whose right answer is known because it is made here."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rtbench.errors import InvalidOutput
from rtbench.measure.fidelity import LIMIT, ROUNDING, judge, require_outputs, require_varied, within_rounding

PRECISIONS = ["fp32", "fp16", "int8"]


def logits(images: int = 64, classes: int = 10, seed: int = 1) -> np.ndarray:
    """A trained network's: they move with the image as much as they are large."""
    return np.random.default_rng(seed).normal(0, 3, (images, classes)).astype(np.float32)


def untrained(spread: float, images: int = 64, classes: int = 10) -> np.ndarray:
    """A fixed vector of size about 1, and movement of `spread` times that between images."""
    generator = np.random.default_rng(2)
    base = generator.normal(0, 1, classes)
    base /= np.sqrt((base**2).mean())
    moving = generator.normal(0, 1, (images, classes))
    moving -= moving.mean(axis=0)
    moving *= spread / np.sqrt((moving**2).mean())
    return (base + moving).astype(np.float32)


def with_error(reference: np.ndarray, size: float, seed: int = 3) -> np.ndarray:
    """The reference and noise whose RMS is exactly `size`."""
    noise = np.random.default_rng(seed).normal(0, 1, reference.shape)
    return (reference + noise * (size / np.sqrt((noise**2).mean()))).astype(np.float32)


def spread_of(reference: np.ndarray) -> float:
    return float(np.sqrt(reference.astype(np.float64).var(axis=0).mean()))


def softmax(values: np.ndarray) -> np.ndarray:
    rows = [[math.exp(value) for value in row] for row in values.astype(np.float64)]
    return np.array([[value / sum(row) for value in row] for row in rows], dtype=np.float32)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("reference", [logits(), untrained(1e-9), logits(images=1)], ids=["real", "untrained", "one"])
def test_the_model_follows_itself(reference: np.ndarray, precision: str) -> None:
    status, fidelity = judge(reference, reference.copy(), precision)
    assert status == "ok"
    assert (fidelity.top1_agreement, fidelity.max_abs_error) == (1.0, 0.0)
    assert fidelity.relative_error in (0.0, None)
    assert fidelity.cosine_mean == pytest.approx(1.0)
    assert fidelity.images == len(reference)


def test_every_figure_by_hand() -> None:
    reference = logits(images=16, classes=5)
    outputs = with_error(reference, 1.2)
    _, fidelity = judge(reference, outputs, "int8")
    own, theirs = reference.tolist(), outputs.tolist()
    same = sum(a.index(max(a)) == b.index(max(b)) for a, b in zip(own, theirs, strict=True))
    assert same < 16  # else the next line would hold for a constant
    assert fidelity.top1_agreement == same / 16
    cosines = [
        sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)
        for a, b in zip(own, theirs, strict=True)
    ]
    assert fidelity.cosine_mean == pytest.approx(math.fsum(cosines) / 16, rel=1e-9)
    errors = [y - x for a, b in zip(own, theirs, strict=True) for x, y in zip(a, b, strict=True)]
    assert fidelity.max_abs_error == pytest.approx(max(map(abs, errors)), rel=1e-9)
    columns = list(zip(*own, strict=True))
    movement = math.fsum((x - math.fsum(column) / 16) ** 2 for column in columns for x in column)
    assert fidelity.relative_error == pytest.approx(math.sqrt(math.fsum(e * e for e in errors) / movement), rel=1e-9)
    assert fidelity.judged


def test_max_abs_error_counts_errors_below_too() -> None:
    reference = logits()
    outputs = reference.copy()
    outputs[3, 4] -= 2
    assert judge(reference, outputs, "int8")[1].max_abs_error == pytest.approx(2, abs=1e-5)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_limit_is_a_share_of_what_moves(precision: str) -> None:
    reference = logits() + np.float32(8)  # a size that is not the spread
    for share, expected in [(0.9, "ok"), (1.1, "invalid")]:
        outputs = with_error(reference, share * LIMIT[precision] * spread_of(reference))
        status, fidelity = judge(reference, outputs, precision)
        assert fidelity.relative_error == pytest.approx(share * LIMIT[precision], rel=1e-3)
        assert status == expected
        assert fidelity.judged
        assert ("do not match" in fidelity.verdict) == (expected == "invalid")


@pytest.mark.parametrize(("relative", "expected"), [(0.1, "ok"), (0.3, "ok"), (0.4, "ok"), (1.0, "invalid")])
def test_int8_noise(relative: float, expected: str) -> None:
    reference = logits(classes=1000)
    status, fidelity = judge(reference, with_error(reference, relative * spread_of(reference)), "int8")
    assert status == expected
    assert fidelity.relative_error == pytest.approx(relative, rel=1e-3)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_constant_is_not_the_model(precision: str) -> None:
    reference = logits()
    for constant in (np.zeros(10), np.full(10, 7.0), reference.mean(axis=0), reference[0]):
        outputs = np.tile(constant, (64, 1)).astype(np.float32)
        status, fidelity = judge(reference, outputs, precision)
        assert status == "invalid"
        assert fidelity.relative_error > 0.99
        assert "do not match" in fidelity.verdict


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_outputs_of_other_images_and_of_another_sign_are_not_the_models(precision: str) -> None:
    reference = logits()
    assert judge(reference, np.roll(reference, 1, axis=0), precision)[0] == "invalid"
    assert judge(reference, -reference, precision)[0] == "invalid"


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("spread", [0.0, 1e-7, 1e-6])
def test_an_untrained_network_cannot_be_judged_but_garbage_can(precision: str, spread: float) -> None:
    reference = untrained(spread)
    status, fidelity = judge(reference, with_error(reference, 0.5 * ROUNDING[precision]), precision)
    assert status == "ok"
    assert not fidelity.judged
    assert "cannot be judged" in fidelity.verdict
    status, fidelity = judge(reference, with_error(reference, 10 * ROUNDING[precision]), precision)
    assert status == "invalid"
    assert not fidelity.judged
    assert "do not match" in fidelity.verdict
    assert judge(reference, logits(), precision)[0] == "invalid"
    assert judge(reference, np.zeros_like(reference), precision)[0] == "invalid"


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rounding_is_never_invalid_however_much_the_outputs_move(precision: str) -> None:
    # From a network that hardly moves to one that does: the error is what the precision alone may cause.
    refused = [
        spread
        for spread in np.geomspace(1e-7, 1, 29)
        if judge(untrained(spread), with_error(untrained(spread), 0.99 * ROUNDING[precision]), precision)[0] != "ok"
    ]
    assert refused == []


def test_the_limits_are_those_that_were_measured() -> None:
    """To be changed only with new measurements: what is shipped depends on them."""
    assert ROUNDING == {"fp32": 1e-5, "bf16": 4e-2, "fp16": 5e-3, "int8": 0.1}
    assert LIMIT == {"fp32": 0.01, "bf16": 0.3, "fp16": 0.1, "int8": 0.7}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_two_outputs_are_within_rounding_by_their_rms(precision: str) -> None:
    reference = logits()
    size = math.sqrt(float((reference.astype(np.float64) ** 2).mean()))
    for share, expected in ((0.99, True), (1.01, False)):
        outputs = with_error(reference, share * ROUNDING[precision] * size)
        assert within_rounding(outputs, reference, precision) is expected
    assert within_rounding(reference, reference, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_what_cannot_be_judged_is_garbage_from_five_times_rounding_on(precision: str) -> None:
    reference = untrained(1e-9)  # its size is 1
    for share, expected in ((4.9, "ok"), (5.1, "invalid")):
        assert judge(reference, with_error(reference, share * ROUNDING[precision]), precision)[0] == expected


def test_one_image_is_too_few_to_judge() -> None:
    reference = logits(images=1)
    status, fidelity = judge(reference, with_error(reference, 1e-6), "fp32")
    assert status == "ok"
    assert not fidelity.judged
    assert judge(reference, -reference, "fp32")[0] == "invalid"
    two = logits(images=2)
    assert judge(two, two, "fp32")[1].judged


@pytest.mark.parametrize("precision", PRECISIONS)
def test_softmax_on_one_side_is_evened_out(precision: str) -> None:
    reference = logits()
    for own, theirs in [(reference, softmax(reference)), (softmax(reference), reference)]:
        status, fidelity = judge(own, theirs, precision)
        assert status == "ok"
        assert fidelity.judged
        assert fidelity.top1_agreement == 1.0
        assert fidelity.max_abs_error < 1e-6
        assert fidelity.relative_error < 1e-5


@pytest.mark.parametrize("precision", PRECISIONS)
def test_softmax_does_not_hide_a_wrong_answer(precision: str) -> None:
    reference, other = logits(), logits(seed=9)
    for own, theirs in [(reference, softmax(other)), (softmax(reference), other), (softmax(reference), softmax(other))]:
        assert judge(own, theirs, precision)[0] == "invalid"
    uniform = np.full_like(reference, 0.1)
    assert judge(reference, uniform, precision)[0] == "invalid"


@pytest.mark.parametrize(("total", "expected"), [(1.0009, "ok"), (0.9991, "ok"), (1.02, "invalid"), (0.98, "invalid")])
def test_probabilities_are_known_by_their_sum_to_a_thousandth(total: float, expected: str) -> None:
    reference = logits()
    probabilities = softmax(reference) * np.float32(total)
    assert judge(reference, probabilities, "int8")[0] == expected
    assert judge(probabilities, reference, "int8")[0] == expected
    shifted = softmax(reference) + np.float32(-0.1) * np.sign(reference - np.median(reference, axis=1, keepdims=True))
    assert judge(reference, shifted, "int8")[0] == "invalid"  # sums to one, and some are negative


def test_softmax_of_large_logits_does_not_overflow() -> None:
    reference = logits() * np.float32(100)
    one_hot = np.eye(10, dtype=np.float32)[reference.argmax(axis=1)]
    status, fidelity = judge(reference, one_hot, "int8")
    assert status == "ok"
    assert np.isfinite(fidelity.relative_error)


def test_images_with_nothing_in_their_outputs_have_a_cosine() -> None:
    reference = np.array([[0, 0], [0, 0], [1, 0], [0, 2], [3, 4]], dtype=np.float32)
    outputs = np.array([[0, 0], [0, 0], [0, 0], [0, 3], [4, 3]], dtype=np.float32)
    _, fidelity = judge(reference, outputs, "int8")
    assert fidelity.cosine_mean == pytest.approx((1 + 1 + 0 + 1 + 24 / 25) / 5)


def test_finite_outputs_of_the_right_shape_pass() -> None:
    require_outputs(logits(images=3, classes=7), 3, 7)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_counted_by_image(value: float) -> None:
    outputs = logits(images=5)
    outputs[1, 2] = outputs[1, 3] = outputs[4, 0] = value
    with pytest.raises(InvalidOutput, match="2 of 5 images"):
        require_outputs(outputs, 5, 10)


@pytest.mark.parametrize("shape", [(5, 9), (4, 10), (10, 5), (50,), (5, 10, 1, 1), (0, 10)])
def test_a_wrong_shape_is_told(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidOutput) as caught:
        require_outputs(np.zeros(shape, dtype=np.float32), 5, 10)
    assert str(list(shape)) in str(caught.value)
    assert "[5, 10]" in str(caught.value)


def test_the_same_output_for_several_images_is_told_and_for_one_is_not() -> None:
    require_varied(logits(images=0))
    require_varied(logits(images=1))
    require_varied(logits(images=2))
    almost = np.tile(logits(images=1), (5, 1))
    almost[3, 2] += 1
    require_varied(almost)
    for images in (2, 5):
        with pytest.raises(InvalidOutput, match=f"same for all of {images} images"):
            require_varied(np.tile(logits(images=1), (images, 1)))


def test_verdicts_say_by_how_much() -> None:
    reference = logits(images=64)
    _, fidelity = judge(reference, with_error(reference, 2 * spread_of(reference)), "fp32")
    agreement = f"{100 * fidelity.top1_agreement:.0f} %"
    assert fidelity.verdict == (
        f"outputs do not match the model's: error is 2 of their spread over images (limit 0.01), top-1 agrees on"
        f" {agreement} of 64"
    )
    still = untrained(1e-7)
    _, fidelity = judge(still, with_error(still, 0.5), "fp32")
    assert "error is 0.5 of their size, far beyond fp32 rounding" in fidelity.verdict
    _, fidelity = judge(still, still, "fp32")
    assert "move by only 1e-07 of their size between images, within fp32 rounding" in fidelity.verdict
    nothing = np.zeros_like(still)
    assert judge(nothing, nothing, "fp32")[1].verdict.startswith("cannot be judged: the model's outputs are all zero")
    status, fidelity = judge(nothing, still, "fp32")
    assert (status, fidelity.relative_error) == ("invalid", None)
    assert "error is none of their size" in fidelity.verdict
    assert judge(reference, reference, "fp32")[1].verdict == "follows the model"
