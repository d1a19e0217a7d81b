"""From what the user named to a model, its checked artifacts and its own outputs on real images."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from rtbench import artifacts
from rtbench.compare.checks import CHECK_IMAGES, checked
from rtbench.compare.prepared import Place, Prepared, Progress
from rtbench.errors import ExportFailed, RuntimeUnavailable, UsageError, WorkerFailed
from rtbench.export.recipes import choose_recipes
from rtbench.export.tensorrt import SOURCES
from rtbench.export.tensorrt_library import choose_builder
from rtbench.images import sample
from rtbench.images.cache import CachedImages, cache_images
from rtbench.images.datasets import read_images, read_labelled, require_source
from rtbench.images.image_set import ImageSet, spread_indices
from rtbench.measure.accuracy import Predictions, predict_batch
from rtbench.measure.environment import find_gpu
from rtbench.options import ArtifactOptions, DataOptions, PrepareOptions
from rtbench.records.model import Artifact, Calibration, Model, Recipe, RecipeCalibration
from rtbench.terms import Format, Precision
from rtbench.worker import Worker

EXPORTED: tuple[Format, ...] = ("onnx", "onnx_trt", "engine")
"""The formats that a model can be exported to."""
FIDELITY_IMAGES = 384
"""Enough to show that answers differ on less than one in a hundred, where none does."""
OWN_CHUNK = 512
EXPORT_TIMEOUT_S = 3600.0


def prepare(
    source: str,
    options: PrepareOptions,
    place: Place,
    progress: Progress,
    *,
    formats: Collection[Format],
    data: DataOptions,
    evaluate_own: bool = False,
    export_only: bool = False,
) -> Prepared:
    """Load a model in a process of its own, export it to `formats`, check each artifact.

    `formats` are some of EXPORTED. `evaluate_own`: have the model itself answer the labelled images, since no row
    does; a file that is an artifact already has no such row either. An artifact that cannot be made ends in `failures`,
    one that this machine cannot make in `unavailable`; one that computes something else keeps its verdict
    in `check`. Raises UsageError for bad input, before anything is written.
    """
    recipes = choose_recipes(options.recipe, options.precisions, find_gpu()) if "engine" in formats else []
    if options.calibration:
        read_images(options.calibration)  # found wanting now, not after the export
    if data.data:
        require_source(data.data)
    with _Exporting(source, options, data.reference, place, progress) as exporter:
        model, direct = exporter.load()
        image_set = read_images(data.data) if data.data and export_only else _images(data, model)
        cached = cache(image_set, model, place, progress)
        judged = CHECK_IMAGES if len(image_set.labelled) >= FIDELITY_IMAGES else FIDELITY_IMAGES
        indices = [cached.readable[position] for position in spread_indices(len(cached.readable), judged)]
        outputs = exporter.call("reference", cached.path, indices, model.preprocessing)
        folder = place.folder or artifacts.artifact_folder(place.engines, model)
        own = _own_answers(exporter, image_set, cached, model) if direct or evaluate_own else None
        prepared = Prepared(model, folder, image_set, cached, indices, outputs, [], own=own)
        if direct and export_only:
            raise UsageError(f"{source} is an artifact already", "export the PyTorch model, or compare this file")
        if direct:
            prepared.artifacts.append(direct)
            return prepared
        buildable = _buildable(recipes, prepared)
        prepared.artifacts.append(exporter.call("export_torch", folder))
        for kind, precision in _onnx_wanted(formats, options.precisions, buildable):
            recipe = next((each for each in buildable if (kind, precision) == SOURCES[each.precision]), None)
            calibrating: tuple[Calibration | None, Path | None] = (None, None)
            if precision != "fp32":
                calibrating = _calibrate_with(options, recipe, data.data, prepared, place, progress)
            try:
                made = exporter.call("export_onnx", folder, precision, *calibrating, kind)
            except (ExportFailed, WorkerFailed) as error:
                prepared.failures[kind, precision] = f"export: {error}"
            else:
                prepared.artifacts.append(made)
    prepared.artifacts[:] = [checked(artifact, prepared, place, progress) for artifact in prepared.artifacts]
    for recipe in buildable:
        _build_engines(recipe, options.build_repeats, prepared, place, progress)
    return prepared


def _buildable(recipes: Sequence[Recipe], prepared: Prepared) -> list[Recipe]:
    """The recipes that a library on this machine can build; the others end in `unavailable`."""
    buildable = []
    for recipe in recipes:
        try:
            choose_builder(recipe, find_gpu())
        except RuntimeUnavailable as error:
            prepared.unavailable["engine", recipe.precision] = str(error)
        else:
            buildable.append(recipe)
    return buildable


def _onnx_wanted(
    formats: Collection[Format], precisions: Sequence[Precision], recipes: Sequence[Recipe]
) -> list[tuple[Format, Precision]]:
    """Every ONNX to write: those asked for and those that engines are built from, each once."""
    wanted: list[tuple[Format, Precision]] = []
    if "onnx" in formats:
        wanted += [("onnx", precision) for precision in precisions]
    if "onnx_trt" in formats and "int8" in precisions:
        wanted.append(("onnx_trt", "int8"))
    wanted += [SOURCES[recipe.precision] for recipe in recipes]
    return list(dict.fromkeys(wanted))


def _build_engines(recipe: Recipe, repeats: int, prepared: Prepared, place: Place, progress: Progress) -> None:
    """Build one recipe's engines, each in a process of its own, from an ONNX that has passed its check."""
    made = {(artifact.format, artifact.precision): artifact for artifact in prepared.artifacts}
    source = made.get(SOURCES[recipe.precision])
    key: tuple[Format, Precision] = ("engine", recipe.precision)
    if source is None:
        prepared.failures[key] = prepared.failures[SOURCES[recipe.precision]]
        return
    if source.check and source.check.status != "ok":
        prepared.failures[key] = f"{Path(source.path).name}, which it is built from: {source.check.reason}"
        return
    for number in range(1, repeats + 1):
        host, log = "rtbench.export.tensorrt:EngineBuilder", place.logs / f"build-{recipe.precision}-{number}.log"
        try:
            with Worker(host, log=log, timeout_s=EXPORT_TIMEOUT_S, threads=place.threads) as worker:
                engine = worker.call("build", source, recipe, find_gpu(), number, on_progress=progress)
        except RuntimeUnavailable as error:
            prepared.unavailable[key] = str(error)
            return
        except (ExportFailed, WorkerFailed) as error:
            prepared.failures[key] = f"build: {error}"
            return
        prepared.artifacts.append(engine)


class _Exporting:
    """The export process, started again with the model loaded where a call has killed it."""

    def __init__(
        self, source: str, options: PrepareOptions, reference: str | None, place: Place, progress: Progress
    ) -> None:
        self._load_arguments = (source, options, reference, place.threads)
        self._place, self._progress = place, progress
        self._worker = self._start()

    def load(self) -> tuple[Model, Artifact | None]:
        return cast("tuple[Model, Artifact | None]", self.call("load", *self._load_arguments))

    def call(self, method: str, *args: object) -> Any:
        try:
            return self._worker.call(method, *args, on_progress=self._progress)
        except WorkerFailed:
            self._worker.close()
            self._worker = self._start()
            if method != "load":
                self.load()
            raise

    def _start(self) -> Worker:
        log = self._place.logs / "export.log"
        host = "rtbench.export.exporter:Exporter"
        return Worker(host, log=log, timeout_s=EXPORT_TIMEOUT_S, threads=self._place.threads, timed=False)

    def __enter__(self) -> _Exporting:
        return self

    def __exit__(self, *exception: object) -> None:
        self._worker.close()


def _own_answers(exporter: _Exporting, images: ImageSet, cached: CachedImages, model: Model) -> Predictions | None:
    """The model's own predictions for the labelled images, NO_CLASS for those that cannot be read."""
    labelled = images.labelled
    readable = [index for index in labelled if index not in cached.unreadable]
    parts = []
    for start in range(0, len(readable), OWN_CHUNK):
        outputs = exporter.call("reference", cached.path, readable[start : start + OWN_CHUNK], model.preprocessing)
        if outputs is None:
            return None
        parts.append(predict_batch(outputs))
    if not parts:
        return None
    answers = Predictions.join(parts)
    whole = Predictions.unanswered(len(labelled), answers.classes.shape[1])
    places = np.flatnonzero(np.isin(labelled, readable))
    whole.classes[places], whole.confidences[places] = answers.classes, answers.confidences
    return whole


def _images(data: DataOptions, model: Model) -> ImageSet:
    images = read_labelled(data.data, model.classes) if data.data else sample.sample_photographs()
    if not data.data and model.arch != sample.ARCH:
        images = images.unlabelled()  # the sample's labels are ImageNet's, this model's may be others
    return images.spread(data.limit) if data.limit else images


def cache(images: ImageSet, model: Model, place: Place, progress: Progress) -> CachedImages:
    """The images decoded as the model takes them."""

    def report(done: int, total: int) -> None:
        progress("decode images", done, total)

    return cache_images(images, model.preprocessing, place.cache, place.threads, report)


def _calibrate_with(
    options: ArtifactOptions,
    recipe: Recipe | None,
    data: Path | None,
    prepared: Prepared,
    place: Place,
    progress: Progress,
) -> tuple[Calibration, Path]:
    """The images to calibrate with: the user's folder, else some of those measured on, else sample crops.

    How many and by which method is the user's to say, else the recipe's, else the default's.
    """
    how = recipe.calibration if recipe and recipe.calibration else RecipeCalibration()
    count, method = options.calibration_images or how.images, options.calibration_method or how.method
    if options.calibration:
        chosen = read_images(options.calibration).spread(count)
    elif data:
        files = prepared.image_set.files
        readable = tuple(files[index] for index in prepared.images.readable)
        chosen = replace(prepared.image_set, files=readable).spread(count)
    else:
        chosen = sample.calibration_crops(count)
    cached = cache(chosen, prepared.model, place, progress)
    if cached.unreadable:
        raise UsageError(next(iter(cached.unreadable.values())), "remove or replace it, calibration needs every image")
    return Calibration(
        source=chosen.source,
        method=method,
        images=cached.count,
        fingerprint=cached.fingerprint,
        evaluation_images=options.calibration is None and data is not None,
        files=[file.name for file in chosen.files],
    ), cached.path
