"""Accuracy of a comparison's rows: predictions kept as they come, then counted and compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from rtbench.compare.plan import PlannedRow
from rtbench.compare.prepared import Prepared
from rtbench.errors import InvalidOutput
from rtbench.images.ground_truth import imagenet_wnids
from rtbench.images.image_set import ImageSet
from rtbench.images.labels import FOLDER_LABELS
from rtbench.measure.accuracy import CPU_BATCH, GPU_BATCH, NO_CLASS, TOP, Predictions, flipped, score_predictions
from rtbench.records.model import Model
from rtbench.runs.directory import RunDirectory
from rtbench.scores.doubt import label_doubt

FREE_BATCH = frozenset({"state_dict", "saved_model", "onnx", "fake"})
"""Formats known to take any batch where their artifact says so; the others are given single images."""


class Labelled:
    """The labelled images of one model, in order, and which of them can be read."""

    def __init__(self, prepared: Prepared) -> None:
        files = prepared.image_set.files
        self.indices = prepared.image_set.labelled
        self.names = [files[index].name for index in self.indices]
        chosen = [files[index] for index in self.indices]
        self.labels = [(file.label, *file.also) for file in chosen if file.label is not None]
        self.class_names = _class_names(prepared.image_set, prepared.model)
        self._unreadable = prepared.images.unreadable

    @property
    def all_labels(self) -> NDArray[np.int32]:
        """(N, K), filled up with NO_CLASS."""
        table = np.full((len(self.labels), max(map(len, self.labels), default=1)), NO_CLASS, dtype=np.int32)
        for place, labels in enumerate(self.labels):
            table[place, : len(labels)] = labels
        return table

    def readable(self, first: int) -> list[int]:
        """Positions from `first` on of images that can be read."""
        return [at for at in range(first, len(self.indices)) if self.indices[at] not in self._unreadable]

    def unreadable_in(self, count: int) -> int:
        return sum(index in self._unreadable for index in self.indices[:count])


class _Keeping:
    """Appends predictions to the run directory as they come, unreadable images between them unanswered."""

    def __init__(self, row: PlannedRow, directory: RunDirectory, images: Labelled) -> None:
        self._row, self._directory, self._images = row, directory, images
        self._top = min(TOP, row.prepared.model.classes)
        self.done = len(self.predictions())
        self.left = images.readable(self.done)
        self._answered = 0

    def add(self, batch: Predictions) -> None:
        positions = self.left[self._answered : self._answered + len(batch)]
        self._answered += len(batch)
        self._append(positions, batch, positions[-1] + 1)

    def finish(self) -> None:
        total = len(self._images.indices)
        if self.done < total:
            self._append([], Predictions.unanswered(0, self._top), total)

    def predictions(self) -> Predictions:
        """What the run directory has, which is all there is however an interrupt fell."""
        return self._directory.read_predictions(self._row.id, self._images.names, self._row.prepared.model.classes)

    def _append(self, positions: Sequence[int], batch: Predictions, upto: int) -> None:
        part = Predictions.unanswered(upto - self.done, self._top)
        here = np.array(positions, dtype=np.intp) - self.done
        part.classes[here], part.confidences[here] = batch.classes, batch.confidences
        names, labels = self._images.names[self.done : upto], self._images.labels[self.done : upto]
        self._directory.append_predictions(self._row.id, names, labels, part, self._images.class_names)
        self.done = upto


def predict_row(
    row: PlannedRow, directory: RunDirectory, batch_size: int | None, progress: Callable[[int, int], None]
) -> None:
    """Predict those labelled images that the run directory does not have of this row yet.

    What is known by then stays with the row however this ends. InvalidOutput where outputs are not finite.
    """
    images = Labelled(row.prepared)
    if not images.indices:
        return
    assert row.worker
    keeping = _Keeping(row, directory, images)
    chosen = [images.indices[position] for position in keeping.left]

    def on_progress(batch: Predictions) -> None:
        keeping.add(batch)
        progress(keeping.done, len(images.indices))

    try:
        if chosen:
            row.batch_size = _batch_size(row, batch_size, chosen)
            among = row.prepared.image_set.among
            row.worker.call("predict", chosen, row.batch_size, *([among] if among else []), on_progress=on_progress)
        keeping.finish()
    finally:
        row.predictions = keeping.predictions()
    unanswered = int((row.predictions.classes[:, 0] < 0).sum()) - images.unreadable_in(len(row.predictions))
    if unanswered:
        raise InvalidOutput(f"output has NaN or infinity for {unanswered} of {len(images.indices)} images")


def _batch_size(row: PlannedRow, asked: int | None, chosen: Sequence[int]) -> int:
    """The size asked for or the default, 1 where the artifact takes no batch or answers it differently."""
    artifact = row.record.artifact
    assert artifact and row.worker
    if artifact.batch > 1:
        return artifact.batch
    by_default = CPU_BATCH.get(row.choice.runtime.name, 1) if row.choice.device == "cpu" else GPU_BATCH
    if "compile" in row.choice.variants:
        by_default = 1  # any other size would be compiled again
    size = min(asked or by_default, len(chosen))
    if size == 1:
        return 1
    if not (artifact.dynamic_batch and artifact.format in FREE_BATCH) or row.choice.device == "trt":
        if asked:
            row.warn(f"takes no batches, so --batch-size {asked} was not used")
        return 1
    if not row.worker.call("batches_agree", chosen[:size], row.record.precision):
        row.warn(f"answers a batch of {size} differently from single images, so they were evaluated one by one")
        return 1
    return size


def score_accuracy(rows: Sequence[PlannedRow], directory: RunDirectory) -> None:
    """Give every row its accuracy, and keep the images whose class is not that of the model's own row."""
    for row in rows:
        if row.predictions is None or not len(row.predictions) or row.record.status != "ok":
            continue
        own = next((other.predictions for other in rows if _is_own(other, row)), row.prepared.own)
        images = Labelled(row.prepared)
        labels = images.all_labels
        _doubt(row, rows, own if own is not None else row.predictions, labels[:, 0])
        row.update(
            accuracy=score_predictions(
                row.predictions,
                labels,
                own,
                unreadable=images.unreadable_in(len(row.predictions)),
                batch_size=row.batch_size,
                names=images.class_names,
            )
        )
        if own is not None and own is not row.predictions:
            _save_flipped(row.id, row.predictions, own, images, directory)


def _doubt(row: PlannedRow, rows: Sequence[PlannedRow], own: Predictions, labels: NDArray[np.int32]) -> None:
    """Warn, once for a model, where its own answers say that labels were read wrongly."""
    said = label_doubt(own.classes[:, 0], labels[: len(own)], row.prepared.model.classes)
    if said and not any(said in other.record.warnings for other in rows if other.prepared is row.prepared):
        row.warn(said)


def _is_own(other: PlannedRow, row: PlannedRow) -> bool:
    """Whether `other` is the model's own row, for `row` to be compared with."""
    return (
        other.prepared is row.prepared
        and other.choice.is_reference
        and other.record.precision == other.prepared.model.precision
        and other.predictions is not None
        and other.record.status == "ok"
    )


def _save_flipped(row: str, mine: Predictions, own: Predictions, images: Labelled, directory: RunDirectory) -> None:
    count = min(len(mine), len(own))
    mine, own = mine.first(count), own.first(count)
    directory.save_flipped(
        row,
        (
            (
                images.names[at],
                images.labels[at][0],
                int(own.classes[at, 0]),
                float(own.confidences[at]),
                int(mine.classes[at, 0]),
                float(mine.confidences[at]),
            )
            for at in np.flatnonzero(flipped(mine, own)).tolist()
        ),
    )


def _class_names(images: ImageSet, model: Model) -> dict[int, str]:
    """What to call the classes: as the model does, else by their folders, else by ImageNet's wnids where there are
    1000."""
    if len(model.class_names) == model.classes:
        return dict(enumerate(model.class_names))
    if images.labels in FOLDER_LABELS:
        return {file.label: file.name.split("/")[0] for file in images.files if file.label is not None}
    wnids = imagenet_wnids()
    return dict(enumerate(wnids)) if model.classes == len(wnids) else {}
