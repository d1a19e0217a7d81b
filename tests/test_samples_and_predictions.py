"""Samples and predictions come back as they were written, however they are named and wherever they are cut."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from rtbench.errors import UsageError
from rtbench.measure.accuracy import Predictions
from rtbench.measure.conditions import Seen
from rtbench.measure.rounds import Block
from rtbench.runs.directory import RunDirectory
from rtbench.runs.samples import read_blocks, read_samples


def test_samples_come_back_as_they_were(directory: RunDirectory) -> None:
    generator = np.random.default_rng(6)
    rows = ["ort:cpu/int8", "a, model/torch/fp32", 'the "other"/ort/fp32']
    written: dict[str, list[np.ndarray]] = {row: [] for row in rows}
    lines = []
    for number in range(4):
        for position, row in enumerate(generator.permutation(rows).tolist()):
            starts = np.sort(generator.integers(2**53, 2**62, 3 + number % 2))  # past what a double holds exactly
            durations = generator.integers(1, 10**9, 3 + number % 2)
            on_device = np.where(durations % 2, np.nan, durations / 1e6)
            block = Block(row, number, 0, number // 2, position, starts, durations, on_device)
            directory.append_samples(block)
            written[row].append(durations)
            lines += [
                (row, number, 0, number // 2, position, int(s), int(d), "" if m != m else repr(m), "")
                for s, d, m in zip(starts, durations, on_device.tolist(), strict=True)
            ]
    read = read_samples(directory.path)
    assert set(read) == set(rows)
    again = read_blocks(directory.path)[rows[0]]
    assert [block.process for block in again] == [0, 0, 1, 1]
    for row in rows:
        assert len(read[row]) == 4
        for before, after in zip(written[row], read[row], strict=True):
            np.testing.assert_allclose(after, before / 1e6, rtol=1e-15)
    with (directory.path / "samples.csv").open(newline="") as file:
        header, *table = csv.reader(file)
    assert header == [
        *("row", "round", "attempt", "process", "position", "start_ns", "duration_ns", "device_ms", "disturbed")
    ]
    assert [(row, *map(int, rest), *last) for row, *rest, last in [(*line[:-2], line[-2:]) for line in table]] == lines


def test_a_row_that_missed_a_round_keeps_the_others(directory: RunDirectory) -> None:
    for number in (0, 2):
        block = Block(
            "a/ort/fp32", number, 0, 0, 0, np.array([1, 2]), np.array([10**6, number + 1]), np.full(2, np.nan)
        )
        directory.append_samples(block)
    assert [list(samples) for samples in read_samples(directory.path)["a/ort/fp32"]] == [[1.0, 1e-6], [1.0, 3e-6]]


SEEN = Seen(0.25, 0.1, 0.01, 0.02, 0.0, cpu_mhz=2399.5, temperature_c=61.0)


def blocks(count: int) -> list[Block]:
    generator = np.random.default_rng(2)
    return [
        Block(
            ("torch/fp32", "ort/fp32")[number % 2],
            number // 2,
            0,
            0,
            0,
            np.arange(4) + 10 * number,
            generator.integers(1, 10**6, 4),
            np.array([0.1, np.nan, 1 / 3, 2e-9]) if number % 2 else np.full(4, np.nan),
            seen=SEEN if number == 2 else None,
            disturbed="other processes" if number == 2 else "",
        )
        for number in range(count)
    ]


def test_samples_cut_anywhere_come_back_as_whole_blocks(directory: RunDirectory) -> None:
    written = blocks(5)
    for block in written:
        directory.append_samples(block)
    path = directory.path / "samples.csv"
    whole = path.read_bytes()
    for keep in [0, 10, *range(60, len(whole), 7), len(whole)]:
        path.write_bytes(whole[:keep])
        taken = [block for row in directory.take_samples(lambda _: 4).values() for block in row.values()]
        done = [block for block in written if any(each.starts_ns[0] == block.starts_ns[0] for each in taken)]
        assert len(taken) == len(done)
        for block in written[len(done) :]:  # and it can be gone on with
            directory.append_samples(block)
        assert path.read_bytes() == whole


NAMES = ["plain.png", "a, b.png", 'say "hi".png', "0/ünï.png", " space .png", "two\nlines.png", "'", '"']
LABELS = [(label,) for label in range(100, 100 + len(NAMES))]
CALLED = {100: "tench, Tinca tinca", 101: 'a "dog"\nor so', 5: "cat"}


def some_predictions(top: int = 5) -> Predictions:
    classes = np.arange(len(NAMES) * top, dtype=np.int32).reshape(-1, top)
    classes[3] = -1
    confidences = np.random.default_rng(3).random(len(NAMES), dtype=np.float32)
    return Predictions(classes, confidences)


def test_a_first_line_that_ends_in_cr_needs_all_columns_too(directory: RunDirectory) -> None:
    (directory.path / "samples.csv").write_bytes(b"row,round,start_ns\rort/fp32,0,1\n")
    with pytest.raises(UsageError, match="lacks some of the columns duration_ns, round, row, start_ns"):
        read_samples(directory.path)


def test_predictions_parse_back_whatever_the_files_are_called(directory: RunDirectory) -> None:
    predictions = some_predictions()
    for part in (slice(0, 3), slice(3, 8)):
        batch = Predictions(predictions.classes[part], predictions.confidences[part])
        directory.append_predictions("ort:cpu/int8", NAMES[part], LABELS[part], batch, CALLED)
    with (directory.path / "predictions" / "ort%3Acpu-int8.csv").open(newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    assert header == ["file", "label", "top1", "top2", "top3", "top4", "top5", "confidence", "label_name", "top1_name"]
    assert [line[0] for line in lines] == NAMES
    assert [(int(line[1]),) for line in lines] == LABELS
    assert [line[-2:] for line in lines] == [
        [CALLED.get(label, ""), CALLED.get(best, "")]
        for (label,), best in zip(LABELS, predictions.classes[:, 0].tolist(), strict=True)
    ]
    assert [[int(value) for value in line[2:7]] for line in lines] == predictions.classes.tolist()
    kept = directory.read_predictions("ort:cpu/int8", NAMES, 1000)
    np.testing.assert_array_equal(kept.classes, predictions.classes)
    np.testing.assert_array_equal(kept.confidences, predictions.confidences)  # to the last bit


@pytest.mark.parametrize("top", [2, 5])
def test_predictions_cut_anywhere_are_gone_on_with(directory: RunDirectory, top: int) -> None:
    predictions = some_predictions(top)
    directory.append_predictions("row", NAMES, LABELS, predictions, CALLED)
    path = directory.path / "predictions" / "row.csv"
    whole = path.read_bytes()
    for keep in range(len(whole) + 1):
        path.write_bytes(whole[:keep])
        kept = directory.read_predictions("row", NAMES, top)
        np.testing.assert_array_equal(kept.classes, predictions.classes[: len(kept)])
        rest = Predictions(predictions.classes[len(kept) :], predictions.confidences[len(kept) :])
        directory.append_predictions("row", NAMES[len(kept) :], LABELS[len(kept) :], rest, CALLED)
        assert path.read_bytes() == whole, keep


def test_predictions_of_other_images_are_refused(directory: RunDirectory) -> None:
    directory.append_predictions("row", NAMES, LABELS, some_predictions(), {})
    with pytest.raises(UsageError, match="of other images"):
        directory.read_predictions("row", NAMES[::-1], 1000)


def test_predictions_of_few_classes_have_few_columns(directory: RunDirectory) -> None:
    batch = Predictions(np.array([[1, 0]], dtype=np.int32), np.array([0.75], dtype=np.float32))
    directory.append_predictions("torch/fp32", ["a.png"], [(1,)], batch, {1: "cat"})
    with (directory.path / "predictions" / "torch-fp32.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [
            {"file": "a.png", "label": "1", "top1": "1", "top2": "0", "confidence": "0.75"}
            | {"label_name": "cat", "top1_name": "cat"}
        ]


def test_predictions_must_be_as_many_as_the_images(directory: RunDirectory) -> None:
    with pytest.raises(ValueError, match="zip"):
        directory.append_predictions("torch/fp32", ["a", "b"], [(1,), (2,)], Predictions.unanswered(1, 5), {})
