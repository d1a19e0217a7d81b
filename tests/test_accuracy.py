"""Accuracy from predictions: counted again by hand, and the paired statistics by their definitions."""

from __future__ import annotations

from math import comb, sqrt

import numpy as np
import pytest
from scipy.stats import multinomial

from rtbench.measure.accuracy import Predictions, flipped, predict_batch, score_predictions
from rtbench.stats import mcnemar_test, paired_interval, wilson_interval


def predictions(*top1: int, classes: int = 10) -> Predictions:
    """Predictions with these first classes, the others following in order."""
    rows = [[first, *(other for other in range(classes) if other != first)][:5] for first in top1]
    return Predictions(np.array(rows, dtype=np.int32), np.linspace(0.5, 1, len(rows), dtype=np.float32))


def labels(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def test_outputs_become_classes_largest_first_and_the_firsts_probability() -> None:
    logits = np.array([[0, 3, 1, 2, -1, 5], [2, 2, 2, 2, 2, 2]], dtype=np.float32)
    made = predict_batch(logits)
    assert made.classes.tolist() == [[5, 1, 3, 2, 0], [0, 1, 2, 3, 4]]  # of equals the lower class first
    expected = np.exp(5) / np.exp(logits[0].astype(float)).sum()
    np.testing.assert_allclose(made.confidences, [expected, 1 / 6], rtol=1e-6)


def test_probabilities_are_taken_as_they_are() -> None:
    made = predict_batch(np.array([[0.2, 0.7, 0.1], [0, 0, 1]], dtype=np.float32))
    assert made.classes.tolist() == [[1, 0, 2], [2, 0, 1]]
    np.testing.assert_array_equal(made.confidences, np.array([0.7, 1], dtype=np.float32))


def test_large_outputs_do_not_overflow() -> None:
    made = predict_batch(np.array([[1000, 999, -1000]], dtype=np.float32))
    np.testing.assert_allclose(made.confidences, [1 / (1 + np.exp(-1))], rtol=1e-6)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_an_output_that_is_no_number_is_no_answer(wrong: float) -> None:
    logits = np.tile(np.arange(6, dtype=np.float32), (3, 1))
    logits[1, 2] = wrong
    made = predict_batch(logits)
    assert made.classes[1].tolist() == [-1] * 5
    assert made.confidences[1] == 0
    assert made.classes[[0, 2], 0].tolist() == [5, 5]


def test_a_row_is_compared_with_the_models_own_image_by_image() -> None:
    truth = labels(0, 0, 1, 1, 2, 2, 3)
    own = predictions(0, 0, 1, 1, 2, 9, 9)
    mine = predictions(0, 5, 5, 1, 2, 2, 8)
    found = score_predictions(mine, truth, own, names={1: "one"}).difference
    assert found is not None
    assert (found.images, found.lost, found.gained, found.flipped) == (7, 2, 1, 4)
    assert found.top1 == pytest.approx(-1 / 7)
    assert found.top1_ci95 == paired_interval(1, 2, 7)
    assert found.mcnemar_p == 1.0
    assert [(each.label, each.name, each.images, each.own_right, each.right) for each in found.worst_classes] == [
        (0, "0", 2, 2, 1),
        (1, "one", 2, 2, 1),
    ]
    assert flipped(mine, own).tolist() == [False, True, True, False, False, True, True]


def test_the_models_own_row_is_not_compared_with_itself() -> None:
    own = predictions(0, 1, 2)
    scored = score_predictions(own, labels(0, 1, 1), own)
    assert (scored.difference, scored.agreement) == (None, 1.0)


def test_what_is_known_of_only_the_first_images_is_of_those() -> None:
    truth = labels(0, 1, 2, 3, 4)
    scored = score_predictions(predictions(0, 9, 2), truth, predictions(0, 1), unreadable=1)
    assert (scored.images, scored.top1, scored.unreadable) == (3, pytest.approx(2 / 3), 1)
    assert scored.difference is not None
    assert (scored.difference.images, scored.difference.lost, scored.agreement) == (2, 1, 0.5)


def test_an_unanswered_image_is_wrong_even_where_the_label_is_the_last_class() -> None:
    scored = score_predictions(Predictions.unanswered(2, 5), labels(9, 0), None)
    assert (scored.top1, scored.top5) == (0, 0)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (0, 1), (1, 0), (3, 9), (12, 12), (40, 71), (0, 20)])
def test_mcnemars_test_is_the_sum_of_binomial_terms(gained: int, lost: int) -> None:
    total = gained + lost
    terms = [comb(total, count) / 2**total for count in range(total + 1)]
    expected = min(1.0, 2 * sum(terms[: min(gained, lost) + 1])) if total else 1.0
    assert mcnemar_test(gained, lost) == pytest.approx(expected, rel=1e-12)


def test_the_paired_interval_follows_its_formula() -> None:
    # 500 images, 12 lost and 3 gained, worked out step by step
    up, down, total = 3.5, 12.5, 502
    difference = (up - down) / total
    variance = (up / total + down / total - difference**2) / total
    low, high = paired_interval(3, 12, 500)
    assert low == pytest.approx(difference - 1.959963985 * sqrt(variance), rel=1e-8)
    assert high == pytest.approx(difference + 1.959963985 * sqrt(variance), rel=1e-8)
    assert low < -9 / 500 < high
    assert paired_interval(0, 0, 1)[0] >= -1


@pytest.mark.parametrize(("gain", "loss"), [(0.005, 0.01), (0.02, 0.02), (0.001, 0.002), (0.1, 0.12)])
def test_the_paired_interval_covers_the_truth_as_often_as_it_says(gain: float, loss: float) -> None:
    """Over every outcome of 500 images, weighted by how likely it is."""
    gains, losses = (column.ravel() for column in np.meshgrid(np.arange(100), np.arange(110), indexing="ij"))
    weights = multinomial.pmf(
        np.stack([gains, losses, 500 - gains - losses], axis=1), 500, [gain, loss, 1 - gain - loss]
    )
    likely = weights > 1e-9
    covered = total = 0.0
    for up, down, weight in zip(gains[likely], losses[likely], weights[likely], strict=True):
        low, high = paired_interval(int(up), int(down), 500)
        covered += weight * (low <= gain - loss <= high)
        total += weight
    assert total > 0.999
    assert 0.945 < covered / total < 1


def test_the_interval_of_top1_is_wilsons() -> None:
    # Wilson 1927 by hand: 442 of 500
    z, n, p = 1.959963985, 500, 0.884
    centre, half = p + z**2 / (2 * n), z * sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = wilson_interval(442, 500)
    assert low == pytest.approx((centre - half) / (1 + z**2 / n), rel=1e-8)
    assert high == pytest.approx((centre + half) / (1 + z**2 / n), rel=1e-8)
