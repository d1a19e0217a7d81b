"""`predictions/ROW.csv`: what a row answered for every labelled image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtbench.measure.accuracy import Predictions
from rtbench.runs.csv_lines import file_name, whole_lines


def prediction_header(predictions: Predictions) -> str:
    ranks = [f"top{rank + 1}" for rank in range(predictions.classes.shape[1])]
    return ",".join(["file", "label", *ranks, "confidence"]) + "\n"


def prediction_lines(names: Sequence[str], labels: Sequence[int], predictions: Predictions) -> str:
    classes, confidences = predictions.classes.tolist(), predictions.confidences.tolist()
    return "".join(
        f"{quoted(name)},{label},{','.join(map(str, best))},{confidence:.9g}\n"
        for name, label, best, confidence in zip(names, labels, classes, confidences, strict=True)
    )


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Prediction:
    file: str
    label: int
    classes: tuple[int, ...]
    """With the largest output first; -1 where the output was not finite."""


def read_predictions(path: Path, row: str) -> list[Prediction]:
    """What a row answered for every labelled image; empty where it was not asked."""
    return [
        Prediction(
            line["file"], int(line["label"]), tuple(int(line[key]) for key in line if key and key.startswith("top"))
        )
        for line in whole_lines(path / "predictions" / f"{file_name(row)}.csv")
    ]
