"""From what the user named to a model, its checked artifacts and its own outputs on real images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from rtbench import artifacts
from rtbench.compare.checks import CHECK_IMAGES, checked
from rtbench.compare.exporting import Exporting, build_worker
from rtbench.compare.held import hold
from rtbench.compare.prepared import Place, Prepared, Progress
from rtbench.compare.readings import choose_reading
from rtbench.compare.wanted import require_ours, wanted
from rtbench.errors import ExportFailed, RuntimeUnavailable, UsageError, WorkerFailed
from rtbench.export.known import OWN
from rtbench.export.recipes import choose_recipes
from rtbench.export.tensorrt import SOURCES
from rtbench.export.tensorrt_library import choose_builder
from rtbench.images import sample
from rtbench.images.cache import CachedImages, cache_images
from rtbench.images.datasets import read_images, read_labelled, require_source
from rtbench.images.image_set import ImageSet, spread_indices
from rtbench.images.labels import Reading
from rtbench.measure.accuracy import Predictions, predict_batch
from rtbench.measure.environment import available_cores
from rtbench.nvidia import find_gpu
from rtbench.options import ArtifactOptions, DataOptions, PrepareOptions
from rtbench.records.model import Calibration, Model, Recipe, RecipeCalibration
from rtbench.runtimes.known import OWN_RUNTIME
from rtbench.terms import Format, Precision

FIDELITY_IMAGES = 384
"""Enough to show that answers differ on less than one in a hundred, where none does."""
OWN_IMAGES = 16
"""Enough where the very same network answers twice, in two processes."""
OWN_CHUNK = 512


def prepare(
    source: str,
    options: PrepareOptions,
    place: Place,
    progress: Progress,
    *,
    formats: Collection[Format],
    data: DataOptions,
    own_rows: Collection[str] | None = None,
    only_own: bool = False,
) -> Prepared:
    """Load a model in a process of its own, export it to `formats`, check each artifact.

    `formats`: those of `export.known`. `own_rows`: the runtimes of which a row answers for the model itself where it is
    of their framework; where none is, and for a file that is an artifact, the model answers the labelled images; None
    where artifacts are made and nothing is measured. `only_own`: these are the only rows. An artifact that cannot be
    made ends in `failures`, one that this machine cannot make in `unavailable`; one that computes something else keeps
    its verdict in `check`. Raises UsageError for bad input, before anything is written.
    """
    recipes = _recipes(options) if "engine" in formats else []
    if place.folder:
        require_ours(place.folder, formats, options, recipes)
    _require_images(options.calibration, data)
    with ExitStack() as alone, Exporting(source, options, data.reference, place, progress) as exporter:
        model, direct = exporter.load()
        image_set = read_images(data.data) if data.data and own_rows is None else _images(data, model)
        model = choose_reading(exporter, model, image_set, options, place, progress)
        cached = cache(image_set, model, place, progress)
        by_others = CHECK_IMAGES if len(image_set.labelled) >= FIDELITY_IMAGES else FIDELITY_IMAGES
        judged = spread_indices(len(cached.readable), OWN_IMAGES if only_own and direct is None else by_others)
        indices = [cached.readable[position] for position in judged]
        outputs = exporter.call("reference", cached.path, indices, model.preprocessing)
        folder = place.folder or artifacts.artifact_folder(place.engines, model)
        by_a_row = own_rows is None or (direct is None and OWN_RUNTIME[model.framework] in own_rows)
        evaluated = not by_a_row or model.precision != "fp32"
        own = _own_answers(exporter, image_set, cached, model) if evaluated else None
        prepared = Prepared(model, folder, image_set, cached, indices, outputs, [], own=own)
        if direct and own_rows is None:
            raise UsageError(f"{source} is an artifact already", "export what it was made of, or compare this file")
        if direct:
            prepared.artifacts.append(direct)
            return prepared
        alone.enter_context(artifacts.writing(folder, lambda: progress(f"wait until {folder} is written", 0, 1)))
        require_ours(folder, formats, options, recipes)
        buildable = _buildable(recipes, prepared)

        def calibrate(recipe: Recipe | None) -> tuple[Calibration, Path]:
            return _calibrate_with(options, recipe, data.data, prepared, place, progress)

        _export(exporter, prepared, formats, options, buildable, calibrate)
        exporter.close()
        prepared.artifacts[:] = [checked(artifact, prepared, place, progress) for artifact in prepared.artifacts]
        for recipe in buildable:
            _build_engines(recipe, options.build_repeats, prepared, place, progress)
        for artifact in prepared.artifacts:
            if place.held:
                hold(artifact, place.held)
    return prepared


def _require_images(calibration: Path | None, data: DataOptions) -> None:
    """UsageError for images that are found wanting, now and not after the export."""
    if calibration:
        read_images(calibration)
    if data.data:
        require_source(data.data)
    elif data.labels or data.class_map:
        raise UsageError("labels are given, but no images", "name these with --data")


def _export(
    exporter: Exporting,
    prepared: Prepared,
    formats: Collection[Format],
    options: ArtifactOptions,
    recipes: Sequence[Recipe],
    calibrate: Callable[[Recipe | None], tuple[Calibration, Path]],
) -> None:
    """Write the model as it is, every ONNX that is wanted, and what other packages' exporters make."""
    prepared.artifacts.append(exporter.call("export_own", prepared.folder))
    for kind, precision in wanted(formats, options.precisions, recipes):
        recipe = next((each for each in recipes if (kind, precision) == SOURCES[each.precision]), None)
        try:
            if kind == "tflite" and prepared.model.framework == "torch":
                fp32 = exporter.call("export_onnx", prepared.folder, "fp32", None, None)
                made = exporter.call_on_onnx(fp32, prepared.model, precision, *calibrate(None))
            elif kind == "tflite":
                made = exporter.call("export_tflite", prepared.folder, precision, *calibrate(None))
            elif kind in OWN:
                calibrating = calibrate(recipe) if precision != "fp32" else (None, None)
                made = exporter.call("export_onnx", prepared.folder, precision, *calibrating, kind)
            else:
                made = exporter.call("export_other", prepared.folder, kind, precision, *calibrate(None))
        except (ExportFailed, WorkerFailed) as error:
            prepared.failures[kind, precision] = f"export: {error}"
        except RuntimeUnavailable as error:
            prepared.unavailable[kind, precision] = str(error)
        else:
            prepared.artifacts.append(made)


def _recipes(options: ArtifactOptions) -> list[Recipe]:
    recipes, level = choose_recipes(options.recipe, options.precisions, find_gpu()), options.builder_optimization_level
    if level is None:
        return recipes
    return [recipe.model_copy(update={"optimization_level": level}) for recipe in recipes]


def _buildable(recipes: Sequence[Recipe], prepared: Prepared) -> list[Recipe]:
    """The recipes that a library on this machine can build; the others end in `unavailable`."""
    buildable = []
    for recipe in recipes:
        try:
            choose_builder(recipe, find_gpu())
        except RuntimeUnavailable as error:
            prepared.unavailable[recipe.label, recipe.precision] = str(error)
        else:
            buildable.append(recipe)
    return buildable


def _build_engines(recipe: Recipe, repeats: int, prepared: Prepared, place: Place, progress: Progress) -> None:
    """Build one recipe's engines, each in a process of its own, from an ONNX that has passed its check."""
    made = {(artifact.format, artifact.precision): artifact for artifact in prepared.artifacts}
    source = made.get(SOURCES[recipe.precision])
    key: tuple[str, Precision] = (recipe.label, recipe.precision)
    if source is None:
        prepared.failures[key] = prepared.failures[SOURCES[recipe.precision]]
        return
    if source.check and source.check.status != "ok":
        prepared.failures[key] = f"{Path(source.path).name}, which it is built from: {source.check.reason}"
        return
    for number in range(1, repeats + 1):
        host, log = "rtbench.export.tensorrt:EngineBuilder", place.logs / f"build-{recipe.name}-{number}.log"
        try:
            with build_worker(host, log, place) as worker:
                engine = worker.call("build", source, recipe, find_gpu(), number, on_progress=progress)
        except RuntimeUnavailable as error:
            prepared.unavailable[key] = str(error)
            return
        except (ExportFailed, WorkerFailed) as error:
            prepared.failures[key] = f"build: {error}"
            return
        prepared.artifacts.append(engine)


def _own_answers(exporter: Exporting, images: ImageSet, cached: CachedImages, model: Model) -> Predictions | None:
    """The model's own predictions for the labelled images, NO_CLASS for those that cannot be read."""
    labelled = images.labelled
    readable = [index for index in labelled if index not in cached.unreadable]
    parts = []
    for start in range(0, len(readable), OWN_CHUNK):
        outputs = exporter.call("reference", cached.path, readable[start : start + OWN_CHUNK], model.preprocessing)
        if outputs is None:
            return None
        parts.append(predict_batch(outputs, images.among))
    if not parts:
        return None
    answers = Predictions.join(parts)
    whole = Predictions.unanswered(len(labelled), answers.classes.shape[1])
    places = np.flatnonzero(np.isin(labelled, readable))
    whole.classes[places], whole.confidences[places] = answers.classes, answers.confidences
    return whole


def _images(data: DataOptions, model: Model) -> ImageSet:
    reading = Reading(
        data.class_order, data.class_offset, data.labels, data.class_map, data.all_classes, tuple(model.class_names)
    )
    images = read_labelled(data.data, model.classes, reading) if data.data else sample.sample_photographs()
    if not data.data and model.arch != sample.ARCH:
        images = images.unlabelled()  # the sample's labels are ImageNet's, this model's may be others
    return images.spread(data.limit) if data.limit else images


def cache(images: ImageSet, model: Model, place: Place, progress: Progress) -> CachedImages:
    """The images decoded as the model takes them."""

    def report(done: int, total: int) -> None:
        progress("decode images", done, total)

    processes = min(place.threads, available_cores())
    return cache_images(images, model.preprocessing, place.cache, processes, report)


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
