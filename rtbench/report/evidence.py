"""What a run directory holds besides `result.json`, as the HTML report shows it: samples and predictions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rtbench.measure.rounds import Block
from rtbench.records.run import Row, Run
from rtbench.runs.predictions import Prediction, read_predictions
from rtbench.runs.reading import is_folder
from rtbench.runs.samples import read_blocks
from rtbench.scores.baselines import is_reference

QUANTILES = (5, 25, 50, 75, 95)


@dataclass(frozen=True)
class Evidence:
    """By row; rows without are missing, and so is everything where only a `result.json` was given."""

    blocks: Mapping[str, Sequence[Block]] = field(default_factory=dict)
    predictions: Mapping[str, Sequence[Prediction]] = field(default_factory=dict)


@dataclass(frozen=True)
class Flips:
    """Images of one class (its folder's name) on which a row and its model's reference row differ."""

    label: str
    images: int
    lost: int
    """Right by the model, wrong by the row."""
    gained: int
    other: int
    """Wrong by both, in different ways."""


def read_evidence(path: Path, run: Run) -> Evidence:
    """What is in the run directory at `path`, or next to a `result.json`."""
    folder = path if is_folder(path) else path.parent
    predictions = read_predictions(folder, [row.id for row in run.rows])
    return Evidence(read_blocks(folder), {row: found for row, found in predictions.items() if found})


def samples_ms(blocks: Sequence[Block]) -> NDArray[np.float64]:
    return np.concatenate([block.durations_ns for block in blocks]) / 1e6


def flips(run: Run, row: Row, evidence: Evidence) -> list[Flips]:
    """Flips by class, most lost first; empty where the row or the reference row has no predictions."""
    own = evidence.predictions.get(row.id, ())
    reference = next((each for each in run.rows if is_reference(each) and each.model == row.model), None)
    if reference is None or reference is row:
        return []
    before = {each.file: each for each in evidence.predictions.get(reference.id, ())}
    counts: dict[str, Counter[str]] = {}
    for after in own:
        if after.file not in before:
            continue
        was, now = before[after.file].classes[0], after.classes[0]
        kind = "same" if was == now else "lost" if was in after.labels else "gained" if now in after.labels else "other"
        counts.setdefault(_class_name(after), Counter())[kind] += 1
    found = [
        Flips(name, count.total(), count["lost"], count["gained"], count["other"])
        for name, count in counts.items()
        if count.total() > count["same"]
    ]
    return sorted(found, key=lambda each: (-each.lost, -each.gained, -each.other, each.label))


def _class_name(prediction: Prediction) -> str:
    folder, slash, _ = prediction.file.replace("\\", "/").rpartition("/")
    return folder if slash else str(prediction.labels[0])
