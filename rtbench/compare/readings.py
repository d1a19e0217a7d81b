"""Which of several readings of a model file is right, by how many labelled images each has right."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtbench.compare.exporting import Exporting
from rtbench.compare.prepared import Place, Progress
from rtbench.errors import UsageError
from rtbench.images.cache import cache_images
from rtbench.images.image_set import ImageSet
from rtbench.measure.accuracy import predict_batch
from rtbench.measure.environment import available_cores
from rtbench.options import PrepareOptions, flag
from rtbench.records.model import Model
from rtbench.stats import mcnemar_test

IMAGES = 100
LEAST = 20
MOST_READINGS = 6
CERTAIN = 0.05


@dataclass(frozen=True)
class _Tried:
    options: PrepareOptions
    value: str | bool
    right: NDArray[np.bool_]


def choose_reading(
    exporter: Exporting, model: Model, images: ImageSet, options: PrepareOptions, place: Place, progress: Progress
) -> Model:
    """The model as the exporter has it now: in the reading that has most of the images right, said in its `choices`.

    UsageError where none is likelier than the others, or too few images have labels.
    """
    if not model.readings:
        return model
    labelled = replace(images, files=tuple(images.files[index] for index in images.labelled)).spread(IMAGES)
    if images.sample or len(labelled.files) < LEAST:
        return _undecided(model, "")
    option = model.readings[0].option
    values = [_taken(model, option), *(each.value for each in model.readings[: MOST_READINGS - 1])]
    trial = _Trial(exporter, options, option, labelled, model.classes, place, progress)
    tried = [found for value in values if (found := trial.of(value))]
    if len(tried) < 2:
        exporter.take(options)
        return _undecided(model, "")
    best = max(tried, key=lambda each: int(each.right.sum()))
    counts = ", ".join(f"{_named(option, each.value)} {int(each.right.sum())}" for each in tried)
    said = f"right of {len(labelled.files)} labelled images: {counts}"
    if not all(_p(best, each) < CERTAIN for each in tried if each is not best):
        exporter.take(options)
        return _undecided(model, said)
    chosen, _ = exporter.take(best.options)
    taken = _named(option, best.value) if isinstance(best.value, bool) else f"{flag(option)} {best.value}"
    evidence = f"{taken} was taken by evidence: {said}"
    again = choose_reading(exporter, chosen, images, best.options, place, progress)
    return again.model_copy(update={"choices": [*again.choices, evidence]})


def _taken(model: Model, option: str) -> str | bool:
    return bool(model.arch_options[option]) if option in model.arch_options else str(getattr(model, option))


def _named(option: str, value: str | bool) -> str:
    return flag(option, value) if isinstance(value, bool) else value


def _undecided(model: Model, said: str) -> Model:
    if model.undecided:
        why = f"{model.undecided}; {said}" if said else model.undecided
        raise UsageError(why, f"say which with {flag(model.readings[0].option)}")
    return model.model_copy(update={"choices": [*model.choices, *([said] if said else [])], "readings": []})


@dataclass(frozen=True)
class _Trial:
    exporter: Exporting
    options: PrepareOptions
    option: str
    images: ImageSet
    classes: int
    place: Place
    progress: Progress

    def of(self, value: str | bool) -> _Tried | None:
        """None where it cannot be what the labels are of: no network that is known, or of other classes."""
        changed: dict[str, Any] = {self.option: value}
        options = replace(self.options, **changed)
        try:
            model, _ = self.exporter.take(options)
        except UsageError:
            return None
        return _Tried(options, value, self._right(model)) if model.classes == self.classes else None

    def _right(self, model: Model) -> NDArray[np.bool_]:
        def report(done: int, total: int) -> None:
            self.progress("decode images", done, total)

        files, processes = self.images.files, min(self.place.threads, available_cores())
        cached = cache_images(self.images, model.preprocessing, self.place.cache, processes, report)
        outputs = self.exporter.call("reference", cached.path, list(range(len(files))), model.preprocessing)
        best = predict_batch(outputs, self.images.among).classes[:, 0]
        return np.array([answer in (file.label, *file.also) for answer, file in zip(best, files, strict=True)])


def _p(one: _Tried, other: _Tried) -> float:
    return mcnemar_test(int((one.right & ~other.right).sum()), int((other.right & ~one.right).sum()))
