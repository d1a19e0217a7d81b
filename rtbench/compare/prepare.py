"""From what the user named to a model, its checked artifacts and its own outputs on real images."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from rtbench import artifacts
from rtbench.errors import ExportFailed, InvalidOutput, RuntimeUnavailable, UsageError, WorkerFailed
from rtbench.export.recipes import choose_recipes
from rtbench.export.tensorrt import SOURCES
from rtbench.export.tensorrt_library import choose_builder
from rtbench.images import sample
from rtbench.images.cache import CachedImages, cache_images
from rtbench.images.datasets import read_images, read_labelled, require_source
from rtbench.images.image_set import ImageSet, spread_indices
from rtbench.measure.environment import find_gpu
from rtbench.measure.fidelity import judge, require_outputs
from rtbench.options import CalibrationOptions, EngineOptions, ModelOptions
from rtbench.records.run import Artifact, Calibration, Check, Model, Recipe, RecipeCalibration
from rtbench.terms import Format, Precision
from rtbench.worker import Worker

Progress = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and how much there is."""

EXPORTED: tuple[Format, ...] = ("onnx", "onnx_trt", "engine")
"""The formats that a model can be exported to."""
FIDELITY_IMAGES = 256
CHECK_IMAGES = 64
"""Enough to tell right from wrong; the accuracy pass says the rest where it has FIDELITY_IMAGES and more."""
EXPORT_TIMEOUT_S = 3600.0
ORT_ON_CPU = ("ort", "cpu")
CRASHING = ["NchwcTransformer"]
"""Optimisers of ONNX Runtime that crash on some graphs: microsoft/onnxruntime issue 28392, seen with the FP16
graphs of vision transformers."""


@dataclass(frozen=True)
class Place:
    """Where preparing puts things, and with how many threads it works."""

    engines: Path
    """Parent of the artifact folders."""
    folder: Path | None
    """The artifact folder itself, where the user named one."""
    cache: Path
    logs: Path
    threads: int
    timeout_s: float


@dataclass(frozen=True)
class Prepared:
    """A model ready to be compared. `reference` has the model's own outputs for `fidelity_indices`."""

    model: Model
    folder: Path
    image_set: ImageSet
    images: CachedImages
    fidelity_indices: list[int]
    reference: NDArray[np.float32] | None
    artifacts: list[Artifact]
    failures: dict[tuple[Format, Precision], str] = field(default_factory=dict)
    unavailable: dict[tuple[Format, Precision], str] = field(default_factory=dict)


def prepare(
    source: str,
    options: ModelOptions,
    precisions: Sequence[Precision],
    calibration: CalibrationOptions,
    place: Place,
    progress: Progress,
    *,
    data: Path | None = None,
    limit: int | None = None,
    reference: str | None = None,
    export_only: bool = False,
    formats: Collection[Format],
    engines: EngineOptions | None = None,
) -> Prepared:
    """Load a model in a process of its own, export it to `formats` in `precisions`, check each artifact.

    `formats` are some of EXPORTED. An artifact that cannot be made ends in `failures`,
    one that this machine cannot make in `unavailable`; one that computes something else keeps its verdict
    in `check`. Raises UsageError for bad input, before anything is written.
    """
    engines = engines or EngineOptions()
    recipes = choose_recipes(engines.recipes, precisions, find_gpu()) if "engine" in formats else []
    if calibration.folder:
        read_images(calibration.folder)  # found wanting now, not after the export
    if data:
        require_source(data)
    exporter = _Exporting(source, options, reference, place, progress)
    with exporter:
        model, direct = exporter.load()
        image_set = read_images(data) if data and export_only else _images(data, limit, model)
        cached = _cache(image_set, model, place, progress)
        readable = cached.readable
        judged = CHECK_IMAGES if len(image_set.labelled) >= FIDELITY_IMAGES else FIDELITY_IMAGES
        indices = [readable[position] for position in spread_indices(len(readable), judged)]
        outputs = exporter.call("reference", cached.path, indices, model.preprocessing)
        folder = place.folder or artifacts.artifact_folder(place.engines, model)
        prepared = Prepared(model, folder, image_set, cached, indices, outputs, [])
        if direct and export_only:
            raise UsageError(f"{source} is an artifact already", "export the PyTorch model, or compare this file")
        if direct:
            prepared.artifacts.append(direct)
            return prepared
        buildable = _buildable(recipes, prepared)
        prepared.artifacts.append(exporter.call("export_torch", folder))
        for kind, precision in _onnx_wanted(formats, precisions, buildable):
            described = None
            images = None
            if precision != "fp32":
                recipe = next((each for each in buildable if (kind, precision) == SOURCES[each.precision]), None)
                how = calibration.completed(recipe.calibration if recipe else None)
                measured_on = replace(image_set, files=tuple(image_set.files[index] for index in readable))
                described, images = _calibrate_with(calibration.folder, how, data, measured_on, model, place, progress)
            try:
                made = exporter.call("export_onnx", folder, precision, described, images, kind)
            except (ExportFailed, WorkerFailed) as error:
                prepared.failures[kind, precision] = f"export: {error}"
                continue
            prepared.artifacts.append(made)
    prepared.artifacts[:] = [_checked(artifact, prepared, place, progress) for artifact in prepared.artifacts]
    for recipe in buildable:
        _build_engines(recipe, engines.repeats, prepared, place, progress)
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
        self, source: str, options: ModelOptions, reference: str | None, place: Place, progress: Progress
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


def _images(data: Path | None, limit: int | None, model: Model) -> ImageSet:
    images = read_labelled(data, model.classes) if data else sample.sample_photographs()
    if not data and model.arch != sample.ARCH:
        images = images.unlabelled()  # the sample's labels are ImageNet's, this model's may be others
    return images.spread(limit) if limit else images


def _cache(images: ImageSet, model: Model, place: Place, progress: Progress) -> CachedImages:
    def report(done: int, total: int) -> None:
        progress("decode images", done, total)

    return cache_images(images, model.preprocessing, place.cache, place.threads, report)


def _calibrate_with(
    folder: Path | None,
    how: RecipeCalibration,
    data: Path | None,
    image_set: ImageSet,
    model: Model,
    place: Place,
    progress: Progress,
) -> tuple[Calibration, Path]:
    """The images to calibrate with: the user's folder, else some of those measured on, else sample crops."""
    if folder:
        chosen = read_images(folder).spread(how.images)
    elif data:
        chosen = image_set.spread(how.images)
    else:
        chosen = sample.calibration_crops(how.images)
    cached = _cache(chosen, model, place, progress)
    if cached.unreadable:
        raise UsageError(next(iter(cached.unreadable.values())), "remove or replace it, calibration needs every image")
    return Calibration(
        source=chosen.source,
        method=how.method,
        images=cached.count,
        fingerprint=cached.fingerprint,
        evaluation_images=folder is None and data is not None,
        files=[file.name for file in chosen.files],
    ), cached.path


def _checked(artifact: Artifact, prepared: Prepared, place: Place, progress: Progress) -> Artifact:
    """The artifact with its check, run now unless it has passed before."""
    if artifact.format not in ("onnx", "onnx_trt") or prepared.reference is None:
        return artifact
    if artifact.check and artifact.check.status == "ok":
        return artifact
    checked = _check(artifact, prepared, place, progress)
    artifacts.save_manifest(checked)
    return checked


def _check(artifact: Artifact, prepared: Prepared, place: Place, progress: Progress) -> Artifact:
    """Compare an ONNX artifact with the model, as ONNX Runtime runs it by default on the CPU. Where that
    crashes, without the optimisers that are known to; where it is wrong or crashes still, with all of them off,
    to tell a wrong graph from a wrong runtime. What only TensorRT will run is looked at as it is written: ONNX
    Runtime optimises such graphs wrongly."""

    def checked(check: Check, note: str | None = None) -> Artifact:
        return artifact.model_copy(update={"check": check.model_copy(update={"note": note})})

    if artifact.format == "onnx_trt":
        return checked(_try(artifact, prepared, place, progress, optimised=False))
    as_run = _try(artifact, prepared, place, progress, optimised=True)
    if as_run.status == "ok":
        return checked(as_run)
    if as_run.status == "failed":
        spared = artifact.model_copy(update={"without": CRASHING})
        again = _try(spared, prepared, place, progress, optimised=True)
        if again.status == "ok":
            crash = (as_run.reason or "").partition(";")[0]
            said = checked(again, f"is run without ONNX Runtime's {', '.join(CRASHING)}, with which it {crash}")
            return said.model_copy(update={"without": CRASHING})
    as_written = _try(artifact, prepared, place, progress, optimised=False)
    if as_written.status != "ok":
        return checked(as_run)
    return checked(
        as_written,
        f"right only with ONNX Runtime's graph optimisations off; by default on this CPU it {as_run.reason}",
    )


def _try(artifact: Artifact, prepared: Prepared, place: Place, progress: Progress, *, optimised: bool) -> Check:
    assert prepared.reference is not None
    chosen = spread_indices(len(prepared.fidelity_indices), CHECK_IMAGES)
    indices = [prepared.fidelity_indices[position] for position in chosen]
    reference = prepared.reference[chosen]

    def report(done: int, total: int) -> None:
        progress(f"check {artifact.format}/{artifact.precision}", done, total)

    log = place.logs / f"check-{artifact.format}-{artifact.precision}.log"
    with Worker(
        "rtbench.measure.sessions:SessionHost", log=log, timeout_s=place.timeout_s, threads=place.threads
    ) as worker:
        try:
            if optimised:
                worker.call("open", *ORT_ON_CPU, artifact, prepared.model, prepared.images.path, place.threads, False)
            else:
                worker.call("open_unoptimised", artifact, prepared.model, prepared.images.path, place.threads)
            outputs = worker.call("logits", indices, on_progress=report)
            require_outputs(outputs, len(indices), prepared.model.classes)
        except WorkerFailed as error:
            return Check(status="failed", reason=str(error), fidelity=None)
        except InvalidOutput as error:
            return Check(status="invalid", reason=str(error), fidelity=None)
    status, fidelity = judge(reference, outputs, artifact.precision)
    return Check(status=status, reason=None if status == "ok" else fidelity.verdict, fidelity=fidelity)
