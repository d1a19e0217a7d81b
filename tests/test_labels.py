"""Folders and numbers as labels: what they mean is said where they can mean several things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import write_images

from rtbench.errors import UsageError
from rtbench.images.datasets import read_labelled, require_source
from rtbench.images.ground_truth import imagenet_wnids
from rtbench.images.labels import Reading
from rtbench.scores.doubt import label_doubt


def made(folder: Path, *names: str) -> Path:
    for name in names:
        write_images(folder / name, 1, side=8)
    return folder


def labels(images) -> dict[str, int]:
    return {file.name.split("/")[0]: file.label for file in images.files}


NUMBERS = [str(number) for number in range(12)]


@pytest.mark.parametrize(("order", "ten"), [(None, 10), ("number", 10), ("text", 2)])
def test_numbered_folders_from_0_are_class_indices_and_that_is_said(order, ten: int, tmp_path: Path) -> None:
    images = read_labelled(made(tmp_path, *NUMBERS), 12, Reading(order))
    assert labels(images)["10"] == ten
    (said,) = images.choices
    assert "ImageFolder" in said
    assert f"--class-order {'number' if order == 'text' else 'text'} chooses otherwise" in said


@pytest.mark.parametrize(("order", "two"), [(None, 4), ("text", 4), ("number", 1)])
def test_numbered_folders_from_1_are_in_the_order_of_image_folder(order, two: int, tmp_path: Path) -> None:
    images = read_labelled(made(tmp_path, *[str(number + 1) for number in range(12)]), 12, Reading(order))
    assert labels(images)["2"] == two
    assert sorted(labels(images).values()) == list(range(12))


def test_where_both_orders_are_the_same_nothing_is_said(tmp_path: Path) -> None:
    assert read_labelled(made(tmp_path, "00", "01", "02"), 3).choices == ()


def test_a_background_class_makes_labels_one_higher(tmp_path: Path) -> None:
    wnids = imagenet_wnids()[5:8]
    images = read_labelled(made(tmp_path, *wnids), 1001)
    assert [*labels(images).values()] == [6, 7, 8]
    assert "the first of 1001 outputs is the background; --class-offset 0 leaves" in images.choices[0]
    assert [*labels(read_labelled(tmp_path, 1001, Reading(offset=0))).values()] == [5, 6, 7]
    assert [*labels(read_labelled(tmp_path, 1000)).values()] == [5, 6, 7]


def test_an_offset_that_leads_out_of_the_classes_is_told(tmp_path: Path) -> None:
    made(tmp_path, "0", "1", "2")
    assert [*labels(read_labelled(tmp_path, 4, Reading(offset=1))).values()] == [1, 2, 3]
    for offset, worst in ((2, 4), (-1, -1)):
        with pytest.raises(UsageError, match=rf"the label {worst}, which is not a class .* 0 to 3; --class-offset"):
            read_labelled(tmp_path, 4, Reading(offset=offset))


def test_what_other_programs_leave_is_no_class_and_counted(tmp_path: Path) -> None:
    made(tmp_path, "cat", "dog", ".ipynb_checkpoints", "__MACOSX")
    for photo in [*(tmp_path / "cat").iterdir()]:
        photo.with_name(f"._{photo.name}").write_bytes(b"\0\5\x16\7")
    (tmp_path / "dog" / "notes.txt").write_text("a dog")
    (tmp_path / "dog" / "Thumbs.db").write_text("of Windows")
    images = read_labelled(tmp_path, 2)
    assert labels(images) == {"cat": 0, "dog": 1}
    assert len(images.files) == 2
    assert images.choices == ("3 files in it are not images: 1 .db, 1 .txt, 1 hidden",)


@pytest.mark.parametrize(
    ("splits", "read"),
    [
        (["train", "valid"], "valid"),
        (["Training", "Validation"], "Validation"),
        (["train", "test"], "test"),
        (["TRAIN", "VAL", "TEST", ".git"], "VAL"),
    ],
)
def test_parts_of_a_dataset_are_no_classes(splits: list[str], read: str, tmp_path: Path) -> None:
    for split in splits:
        made(tmp_path / split, "cat", "dog")
    assert require_source(tmp_path) == tmp_path / read
    assert labels(read_labelled(tmp_path, 2)) == {"cat": 0, "dog": 1}


RANDOM = np.random.default_rng(5)
LABELS = np.repeat(np.arange(20, dtype=np.int32), 5)


def wrong(answers: np.ndarray, share: float) -> np.ndarray:
    """Some of them anything."""
    chosen = RANDOM.random(len(answers)) < share
    return np.where(chosen, RANDOM.integers(0, 20, len(answers)), answers).astype(np.int32)


TEXT = np.array([sorted(range(20), key=str).index(each) for each in range(20)], dtype=np.int32)


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ((LABELS + 1) % 20, "all labels were 1 higher; see --class-offset"),
        ((LABELS - 1) % 20, "all labels were 1 lower; see --class-offset"),
        (TEXT[LABELS], "sorted the other way, as text or as numbers; see --class-order"),
        (np.argsort(TEXT)[LABELS], "sorted the other way, as text or as numbers; see --class-order"),
    ],
)
def test_labels_that_another_reading_makes_right_are_doubted(answers: np.ndarray, words: str) -> None:
    if "order" in words:  # where the two orders agree, the answers would be right
        differ = TEXT[LABELS] != LABELS
        answers, given = answers[differ], LABELS[differ]
    else:
        given = LABELS
    said = label_doubt(wrong(answers, 0.2), given, 20)
    assert said is not None
    assert words in said


def test_any_order_of_classes_is_found_where_each_has_some_images() -> None:
    moved = ((LABELS * 7 + 3) % 20).astype(np.int32)
    said = label_doubt(wrong(moved, 0.2), LABELS, 20)
    assert said is not None
    assert "the classes were in another order: images of class 0 are answered as class 3" in said


@pytest.mark.parametrize(
    "answers", [LABELS, wrong(LABELS, 0.5), wrong(LABELS, 1.0), np.full_like(LABELS, 3), np.full_like(LABELS, -1)]
)
def test_right_answers_and_answers_by_chance_are_not_doubted(answers: np.ndarray) -> None:
    assert label_doubt(answers, LABELS, 20) is None


def answers(right: int, other: int, of: int) -> tuple[np.ndarray, np.ndarray]:
    """Answers to `of` images, labelled 1 to 97 in turn: so many as labelled, so many the class after, the rest 99."""
    labels = (np.arange(of, dtype=np.int32) % 97) + 1
    best = np.full(of, 99, dtype=np.int32)
    best[:right] = labels[:right]
    best[right : right + other] = labels[right : right + other] + 1
    return best, labels


@pytest.mark.parametrize(("images", "doubted"), [(7, False), (8, True)])
def test_seven_images_are_too_few_to_doubt_labels(images: int, doubted: bool) -> None:
    assert (label_doubt(*answers(0, images, images), 100) is not None) == doubted
    given, labelled = answers(0, images, images)
    unanswered = np.full(5, -1, dtype=np.int32)
    best, labels = np.concatenate([unanswered, given]), np.concatenate([unanswered + 2, labelled])
    assert (label_doubt(best, labels, 100) is not None) == doubted


@pytest.mark.parametrize(
    ("right", "other", "doubted"),
    [
        (0, 50, True),  # half of them: enough
        (0, 49, False),
        (3, 60, True),  # three times what a guess of 100 classes has right
        (4, 60, False),
    ],
)
def test_an_offset_is_told_where_half_would_be_right_and_hardly_any_is(right: int, other: int, doubted: bool) -> None:
    said = label_doubt(*answers(right, other, 100), 100)
    assert (said is not None) == doubted
    if said:
        assert said.startswith(f"check the labels: {right} % of the answers are right, and {other} % would be if all")


@pytest.mark.parametrize(("right", "other", "doubted"), [(12, 50, True), (13, 52, False), (12, 47, False)])
def test_with_few_classes_an_explanation_must_be_four_times_as_good(right: int, other: int, doubted: bool) -> None:
    best = np.repeat(np.array([0, 3, 1, 2], dtype=np.int32), [right, other, 20, 80 - right - other])
    assert (label_doubt(best, np.zeros(100, dtype=np.int32), 4) is not None) == doubted


def test_of_two_classes_no_order_is_another_one() -> None:
    labels = np.tile(np.arange(2, dtype=np.int32), 20)
    assert label_doubt(1 - labels, labels, 2) is None
    assert label_doubt((labels + 1).astype(np.int32), labels, 3) is not None


def test_an_order_is_found_where_each_class_has_three_images() -> None:
    labels = np.repeat(np.arange(20, dtype=np.int32), 3)
    moved = ((labels * 7 + 3) % 20).astype(np.int32)
    assert "another order" in (label_doubt(moved, labels, 20) or "")
    assert label_doubt(moved[labels < 1][:2].repeat(4), np.zeros(8, dtype=np.int32), 20) is not None  # an offset of 3
    assert label_doubt(moved.reshape(20, 3)[:, :2].ravel(), labels.reshape(20, 3)[:, :2].ravel(), 20) is None
    assert label_doubt(np.where(moved == 3, 10, moved), labels, 20) is None  # two classes answered as the same


def test_an_order_counts_the_images_that_it_would_make_right() -> None:
    labels = np.repeat(np.arange(20, dtype=np.int32), 4)
    moved = ((labels * 7 + 3) % 20).astype(np.int32)
    half = moved.copy()
    half[np.arange(80) % 4 == 3] = labels[np.arange(80) % 4 == 3] // 2 + 40
    said = label_doubt(half, labels, 100)
    assert said is not None
    assert "and 75 % would be if the classes were in another order" in said
