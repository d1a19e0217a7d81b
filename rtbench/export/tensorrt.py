"""What runs in the process that builds an engine: TensorRT alone, without torch."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rtbench import artifacts
from rtbench.export import tensorrt_library
from rtbench.records.model import Artifact, EngineBuild, Recipe
from rtbench.records.run import Gpu
from rtbench.terms import Format, Library, Precision

SOURCES: dict[Precision, tuple[Format, Precision]] = {"fp16": ("onnx", "fp16"), "int8": ("onnx_trt", "int8")}
"""Format and precision of the ONNX that an engine of each precision is built from."""


class EngineBuilder:
    def __init__(self, report: Callable[[str, int, int], None]) -> None:
        self._report = report

    def build(self, source: Artifact, recipe: Recipe, gpu: Gpu | None, number: int) -> Artifact:
        """The engine of a checked ONNX artifact, next to it, kept where it is there and current.

        Raises RuntimeUnavailable where no library here can build it, ExportFailed where one cannot.
        """
        library = tensorrt_library.choose_builder(recipe, gpu)
        version = tensorrt_library.use(library).__version__
        folder = Path(source.path).parent
        path = artifacts.artifact_path(folder, "engine", recipe.precision, number, recipe.variant)
        made_from = _made_from(source, recipe, library, version, gpu) | ({"build": str(number)} if number > 1 else {})
        kept = artifacts.reusable(path, "engine", recipe.precision, made_from)
        if kept and kept.build and kept.build.recipe == recipe:
            return kept
        timings = None
        if library == "tensorrt" and number == 1:  # a second build that reads the timings of the first is the first
            timings = folder / f"timings-{version}-{recipe.compute_capability}.cache"

        def write(target: Path) -> dict[str, Any]:
            started = time.monotonic()
            self._write(target, path.with_suffix(".log"), Path(source.path), recipe, timings)
            build = EngineBuild(
                library=library,
                library_version=version,
                compute_capability=recipe.compute_capability,
                gpu=gpu.name if gpu else None,
                driver=gpu.driver if gpu else None,
                recipe=recipe,
                number=number,
                source=Path(source.path).name,
                source_sha256=source.sha256,
                seconds=round(time.monotonic() - started, 3),
                timing_cache=timings is not None,
            )
            return {"build": build, "kept_fp32": source.kept_fp32}

        return artifacts.make(
            path, "engine", recipe.precision, made_from, {library: version}, write, source.calibration
        )

    def _write(self, target: Path, log_path: Path, source: Path, recipe: Recipe, timings: Path | None) -> None:
        from rtbench.export.build import Log, build_plan

        def report(phase: str, done: int, total: int) -> None:
            self._report(f"build {recipe.label}/{recipe.precision}: {phase.lower()}", done, total)

        with log_path.open("w", encoding="utf-8") as file:
            target.write_bytes(build_plan(source, recipe, timings, Log(file), report))


def _made_from(source: Artifact, recipe: Recipe, library: Library, version: str, gpu: Gpu | None) -> dict[str, str]:
    return {
        f"{source.format}/{source.precision}": source.sha256,
        "calibration": source.calibration.fingerprint if source.calibration else "none",
        "recipe": recipe.model_dump_json(),
        "library": f"{library} {version}",
        "gpu": gpu.name if gpu else "none",
        "driver": gpu.driver if gpu else "none",
    }
