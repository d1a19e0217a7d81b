"""What runs in the export process: it alone imports torch and onnx, and holds the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from rtbench import artifacts
from rtbench.errors import ExportFailed, RuntimeUnavailable, UsageError, reading
from rtbench.export.calibrating import Calibrating
from rtbench.export.known import exporters, load_exporter
from rtbench.export.opening import PACKAGES, Logits, open_source
from rtbench.images import preprocessing
from rtbench.options import PrepareOptions, require_path
from rtbench.records.model import Artifact, Calibration, Model, Preprocessing
from rtbench.terms import Format, Precision
from rtbench.worker import seldom

if TYPE_CHECKING:
    from rtbench.models.loaded import LoadedModel
    from rtbench.models.tensorflow.load import LoadedTensorFlow

Report = Callable[[str, int, int], None]

OVERFLOW_IMAGES = 32


class Exporter:
    """Loads one model, writes its artifacts, and gives its own outputs as the reference."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._model: LoadedModel | LoadedTensorFlow | None = None
        self._full_range = False
        self._given: Path | None = None
        self._wide_tensors: dict[tuple[str, str], list[str]] = {}
        self._logits: Logits | None = None
        self._close: Callable[[], None] = lambda: None

    @reading()
    def load(
        self, source: str, options: PrepareOptions, reference: str | None, threads: int
    ) -> tuple[Model, Artifact | None]:
        """The model's record and, where the file is itself an artifact (.onnx, .tflite, .engine), that artifact."""
        for each in (source, options.weights or "", reference or ""):
            require_path(Path(each))
        self._full_range = options.full_range
        self._given = Path(source) if Path(source).is_file() else options.weights
        self._report(f"load {source}", 0, 1)
        try:
            opened = open_source(source, options, reference, threads)
        except RuntimeUnavailable as error:  # what reads it is not installed
            raise UsageError(error.message, error.remedy) from error
        self._close()  # what was loaded before
        self._model, self._logits, self._close = opened.model, opened.logits, opened.close
        return opened.record, opened.artifact

    def close(self) -> None:
        self._close()

    def export_own(self, folder: Path) -> Artifact:
        """The model as its framework saves it, kept where it is there and current, and `model.json` next to it."""
        assert self._model is not None
        artifact = self._own_artifact(folder)
        artifacts.save_model(folder, self._model.record)
        return artifact

    def export_onnx(
        self,
        folder: Path,
        precision: Precision,
        calibration: Calibration | None,
        calibration_images: Path | None,
        kind: Format = "onnx",
    ) -> Artifact:
        """One ONNX artifact, kept where it is there and current; all but FP32 need calibration images."""
        from rtbench.export import onnx as onnx_export

        onnx_export.quiet_loggers()
        fp32 = self._onnx_fp32(folder)
        if precision == "fp32":
            return fp32
        assert calibration is not None and calibration_images is not None
        images = Calibrating(calibration, calibration_images, self._record.preprocessing)
        if precision == "fp16":
            return self._onnx_fp16(folder, fp32, images)
        if kind == "onnx_trt":
            return self._onnx_int8_trt(folder, fp32, images)
        return self._onnx_int8(folder, fp32, images)

    def export_tflite(
        self, folder: Path, precision: Precision, calibration: Calibration, calibration_images: Path
    ) -> Artifact:
        """One TFLite artifact of a model of TensorFlow's, kept where it is there and current."""
        from rtbench.export.tensorflow import make_tflite

        model = cast("LoadedTensorFlow", self._model)
        images = Calibrating(calibration, calibration_images, self._record.preprocessing)
        source = _identity(model) | {"input": str(self._record.preprocessing.input_shape)}
        return make_tflite(lambda: model, source, folder, precision, images, self._report)

    def export_other(
        self, folder: Path, kind: Format, precision: Precision, calibration: Calibration, calibration_images: Path
    ) -> Artifact:
        """An artifact of another package's exporter, kept where it is there and current."""
        exporter, images = exporters()[kind], Calibrating(calibration, calibration_images, self._record.preprocessing)
        fp32 = self._onnx_fp32(folder) if exporter.source == "onnx" else None
        tools = artifacts.tool_versions(*exporter.packages)
        made_from = ({"onnx/fp32": fp32.sha256} if fp32 else _identity(self._model)) | images.made_from | tools
        path = artifacts.artifact_path(folder, kind, precision, suffix=exporter.suffix)

        if fp32 is None and self._record.framework != "torch":
            raise RuntimeUnavailable(f"{kind} is made of PyTorch's models alone")

        def write(target: Path) -> Mapping[str, Any]:
            self._report(f"export {kind}/{precision}", 0, 1)
            source = fp32.path if fp32 else cast("LoadedModel", self._model).module
            return load_exporter(kind).export(source, self._record, precision, images.inputs(), target)

        current = artifacts.reusable(path, kind, precision, made_from)
        kept = calibration if precision == "int8" else None
        return current or artifacts.make(path, kind, precision, made_from, tools, write, kept)

    def reference(self, images: Path, indices: Sequence[int], recipe: Preprocessing) -> NDArray[np.float32] | None:
        """The model's own outputs, (N, classes) float32, one image at a time; None where it has none."""
        if self._logits is None:
            return None
        pixels = np.load(images, mmap_mode="r")
        outputs, report = [], seldom(self._report)
        for done, index in enumerate(indices):
            outputs.append(self._logits(preprocessing.normalise(pixels[index : index + 1], recipe)))
            report("outputs of the model itself", done + 1, len(indices))
        return np.concatenate(outputs)

    @property
    def _record(self) -> Model:
        assert self._model is not None
        return self._model.record

    def _own_artifact(self, folder: Path) -> Artifact:
        model = self._model
        assert model is not None
        path = artifacts.artifact_path(folder, model.kind, model.record.precision)
        tools = artifacts.tool_versions(*PACKAGES[model.record.framework])
        made_from = {**_identity(model), "format": model.kind}

        def write(target: Path) -> dict[str, Any]:
            model.save(target)
            return {}

        artifact = artifacts.reusable(path, model.kind, model.record.precision, made_from)
        artifact = artifact or artifacts.make(path, model.kind, model.record.precision, made_from, tools, write)
        more: dict[str, Any] = {"serialised_bytes": None}
        if model.record.framework == "tensorflow":
            more["output"] = cast("LoadedTensorFlow", model).output
        elif self._given and model.kind == "state_dict":
            more = {"size_bytes": self._given.stat().st_size, "serialised_bytes": path.stat().st_size}
        artifact = artifact.model_copy(update=more)
        artifacts.save_manifest(artifact)
        return artifact

    def _onnx_fp32(self, folder: Path) -> Artifact:
        model = self._model
        assert model is not None
        if model.record.precision != "fp32":
            raise ExportFailed("PyTorch has quantised this model and cannot export it", "export it before quantising")
        shape = model.record.preprocessing.input_shape
        module = import_module(f"rtbench.export.{model.record.framework}")
        tools = artifacts.tool_versions(*PACKAGES[model.record.framework], *module.PACKAGES)
        made_from = _identity(model) | {"input": str(shape), "opset": str(module.OPSET)} | tools

        def write(path: Path) -> list[str]:
            self._report("export onnx/fp32", 0, 1)
            module.write_onnx(model, shape, path)
            return []

        return self._onnx(folder, "onnx", "fp32", made_from, tools, write)

    def _onnx_fp16(self, folder: Path, fp32: Artifact, images: Calibrating) -> Artifact:
        tools = artifacts.tool_versions("onnxruntime-gpu", "onnxruntime", "onnx")
        made_from = {"onnx/fp32": fp32.sha256, "fp16_overflow": images.record.fingerprint} | tools

        def write(path: Path) -> list[str]:
            from rtbench.export import half

            wide = self._wide(fp32, images)
            self._report("export onnx/fp16", 0, 1)
            return half.write_fp16(Path(fp32.path), path, wide)

        return self._onnx(folder, "onnx", "fp16", made_from, tools, write)

    def _onnx_int8(self, folder: Path, fp32: Artifact, images: Calibrating) -> Artifact:
        tools = artifacts.tool_versions("onnxruntime-gpu", "onnxruntime", "onnx")

        def write(path: Path) -> list[str]:
            from rtbench.export.quantize import write_int8

            progress = self._counting("export onnx/int8: calibrate")
            inputs, method = images.inputs(), images.record.method
            write_int8(Path(fp32.path), path, inputs, images.count, method, progress, full_range=self._full_range)
            return []

        bits = {"weight_bits": "8" if self._full_range else "7"}
        made_from = {"onnx/fp32": fp32.sha256} | bits | images.made_from | tools
        return self._onnx(folder, "onnx", "int8", made_from, tools, write, images.record)

    def _onnx_int8_trt(self, folder: Path, fp32: Artifact, images: Calibrating) -> Artifact:
        tools = artifacts.tool_versions("onnxruntime-gpu", "onnxruntime", "onnx")

        def write(path: Path) -> list[str]:
            from rtbench.export.quantize import write_int8_trt

            wide = self._wide(fp32, images)
            progress = self._counting("export onnx_trt/int8: calibrate")
            method = images.record.method
            return write_int8_trt(Path(fp32.path), path, images.inputs(), images.count, method, wide, progress)

        made_from = {"onnx/fp32": fp32.sha256} | images.made_from | tools
        return self._onnx(folder, "onnx_trt", "int8", made_from, tools, write, images.record)

    def _wide(self, fp32: Artifact, images: Calibrating) -> list[str]:
        """The tensors whose values pass the range of FP16 on some of the calibration images."""
        from rtbench.export import half

        key = (fp32.sha256, images.record.fingerprint)
        if key not in self._wide_tensors:
            few = min(images.count, OVERFLOW_IMAGES)
            progress = self._counting("look for FP16 overflow")
            self._wide_tensors[key] = half.find_wide(Path(fp32.path), images.inputs(few), few, progress)
        return self._wide_tensors[key]

    def _counting(self, phase: str) -> Callable[[int, int], None]:
        return lambda done, total: self._report(phase, done, total)

    def _onnx(
        self,
        folder: Path,
        kind: Format,
        precision: Precision,
        made_from: dict[str, str],
        tools: dict[str, str],
        write: Callable[[Path], list[str]],
        calibration: Calibration | None = None,
    ) -> Artifact:
        """`write` gives the nodes that it has kept in FP32."""
        from rtbench.export.adopt import has_dynamic_batch, has_full_range

        def seen(file: Path) -> dict[str, Any]:
            """What of the manifest can be seen in the file."""
            return {"dynamic_batch": has_dynamic_batch(file), "full_range": kind == "onnx" and has_full_range(file)}

        def write_and_look(target: Path) -> dict[str, Any]:
            kept = write(target)
            return seen(target) | {"kept_fp32": kept}

        path = artifacts.artifact_path(folder, kind, precision)
        current = artifacts.reusable(path, kind, precision, made_from)
        if current is None:
            return artifacts.make(path, kind, precision, made_from, tools, write_and_look, calibration)
        current = current.model_copy(update=seen(path) | {"tools": tools, "calibration": calibration})
        artifacts.save_manifest(current)
        return current


def _identity(loaded: LoadedModel | LoadedTensorFlow | None) -> dict[str, str]:
    """The file, and which of its readings."""
    assert loaded is not None
    model = loaded.record
    output = {"output": cast("LoadedTensorFlow", loaded).output} if model.framework == "tensorflow" else {}
    options = str(sorted(model.arch_options.items()))
    return {
        "model": model.sha256,
        "arch": str(model.arch),
        "options": options,
        "key": str(model.checkpoint_key),
    } | output
