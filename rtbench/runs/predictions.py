"""`predictions/ROW.csv`: what a row answered for every labelled image."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rtbench.measure.accuracy import Predictions
from rtbench.runs.csv_lines import Table, read_columns, read_table, row_file
from rtbench.runs.reading import parsing

PREDICTIONS = "predictions"
Labels = tuple[int, ...]
PLAIN = re.compile(r"[\w./+|-]*")
RANK = re.compile(r"top\d+")
LEAST_COLUMNS = ("file", "label", "top1")


def prediction_columns(top: int) -> list[str]:
    """The names are those of the label and of the first answer, empty where classes have none."""
    ranks = (f"top{rank + 1}" for rank in range(top))
    return ["file", "label", *ranks, "confidence", "label_name", "top1_name"]


def prediction_lines(
    names: Sequence[str], labels: Sequence[Labels], predictions: Predictions, class_names: Mapping[int, str]
) -> str:
    """As many lines as there are images, `labels` and `predictions`; `class_names` by class."""
    classes, confidences = predictions.classes.tolist(), predictions.confidences.tolist()
    called = {number: quoted(name) for number, name in class_names.items()}
    return "".join(
        f"{quoted(name)},{'|'.join(map(str, label))},{','.join(map(str, best))},{confidence:.9g},"
        f"{called.get(label[0], '')},{called.get(best[0], '')}\n"
        for name, label, best, confidence in zip(names, labels, classes, confidences, strict=True)
    )


def as_line(cells: Iterable[str]) -> str:
    return ",".join(map(quoted, cells)) + "\n"


def quoted(name: str) -> str:
    """As a cell of CSV, between quotes where it needs them."""
    return name if PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Prediction:
    file: str
    labels: Labels
    """All that are right; it counts as of the first."""
    classes: tuple[int, ...]
    """With the largest output first; -1 where the output was not finite."""


def read_predictions(path: Path, rows: Sequence[str]) -> dict[str, list[Prediction]]:
    """What the rows of a run, all of which are given, answered for every labelled image; empty where not asked."""
    return {row: _read(row_file(path / PREDICTIONS, row, rows)) for row in rows}


def read_right(path: Path, rows: Sequence[str]) -> dict[str, dict[str, bool]]:
    """By row and the name of each labelled image, whether it was answered rightly, as `read_predictions`."""
    return {row: _read_right(row_file(path / PREDICTIONS, row, rows)) for row in rows}


def _read(path: Path) -> list[Prediction]:
    table = read_table(path, LEAST_COLUMNS)
    if not table.lines:
        return []
    file, label = _indexes(table, "file", "label")
    ranks = [index for index, name in enumerate(table.columns) if RANK.fullmatch(name)]
    with parsing(path):
        return [
            Prediction(line[file], _labels(line[label]), tuple(int(line[rank]) for rank in ranks))
            for line in table.lines
        ]


def _read_right(path: Path) -> dict[str, bool]:
    columns = read_columns(path, LEAST_COLUMNS)
    if not columns:
        return {}
    files, labels, best = columns
    with parsing(path):
        for text in {*labels, *best}:
            _labels(text)
    if any("|" in text for text in labels):
        return {file: top1 in text.split("|") for file, text, top1 in zip(files, labels, best, strict=True)}
    return dict(zip(files, map(operator.eq, labels, best), strict=True))


def _labels(text: str) -> Labels:
    return tuple(int(each) for each in text.split("|"))


def _indexes(table: Table, *names: str) -> list[int]:
    return [table.columns.index(name) for name in names]
