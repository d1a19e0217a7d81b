"""What runs in the export process: it alone imports torch and onnx, and holds the model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rtbench import artifacts, fake_model, preprocessing
from rtbench.options import ModelOptions
from rtbench.records import Artifact, Calibration, Model, Preprocessing
from rtbench.terms import Precision

if TYPE_CHECKING:
    from rtbench.models import LoadedModel

Report = Callable[[str, int, int], None]


class Exporter:
    """Loads one model, writes its artifacts, and gives its own outputs as the reference."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._model: LoadedModel | None = None
        self._logits: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None

    def load(
        self, source: str, options: ModelOptions, reference: str | None, threads: int
    ) -> tuple[Model, Artifact | None]:
        """The model's record and, where the file is itself an artifact (.onnx), that artifact."""
        suffix = Path(source).suffix
        if suffix == ".fake":
            script = fake_model.read_script(Path(source))
            self._logits = script.logits
            return fake_model.adopt(Path(source), script, options)
        import torch

        torch.set_num_threads(threads)
        if suffix == ".onnx":
            return self._load_onnx(Path(source), options, reference)
        self._model = self._load_torch(source, options)
        return self._model.record, None

    def _load_torch(self, source: str, options: ModelOptions) -> LoadedModel:
        from rtbench.models import load_model

        self._report(f"load {source}", 0, 1)
        model = load_model(source, options)
        self._logits = model.logits
        return model

    def _load_onnx(self, path: Path, options: ModelOptions, reference: str | None) -> tuple[Model, Artifact]:
        from rtbench.export.adopt import adopt_onnx

        recipe = self._load_torch(reference, options).record.preprocessing if reference else None
        return adopt_onnx(path, options, recipe)

    def export_torch(self, folder: Path) -> Artifact:
        """The model as PyTorch saves it, kept where it is there and current, and `model.json` beside it."""
        assert self._model is not None
        artifact = self._torch_artifact(folder)
        artifacts.save_model(folder, self._model.record)
        return artifact

    def export_onnx(
        self,
        folder: Path,
        precision: Precision,
        calibration: Calibration | None,
        calibration_images: Path | None,
    ) -> Artifact:
        """One ONNX artifact, kept where it is there and current; INT8 needs the last two."""
        from rtbench.export import onnx as onnx_export

        onnx_export.quiet_loggers()
        fp32 = self._onnx_fp32(folder)
        if precision == "fp32":
            return fp32
        if precision == "fp16":
            return self._onnx_fp16(folder, Path(fp32.path), fp32.sha256)
        assert calibration is not None and calibration_images is not None
        return self._onnx_int8(folder, Path(fp32.path), fp32.sha256, calibration, calibration_images)

    def reference(self, images: Path, indices: Sequence[int], recipe: Preprocessing) -> NDArray[np.float32] | None:
        """The model's own outputs, (N, classes) float32, one image at a time; None where it has none."""
        if self._logits is None:
            return None
        pixels = np.load(images, mmap_mode="r")
        outputs = []
        for done, index in enumerate(indices):
            outputs.append(self._logits(preprocessing.normalise(pixels[index : index + 1], recipe)))
            self._report("outputs of the model itself", done + 1, len(indices))
        return np.concatenate(outputs)

    def _torch_artifact(self, folder: Path) -> Artifact:
        import torch

        model = self._model
        assert model is not None
        path = artifacts.artifact_path(folder, model.kind, "fp32")
        tools = artifacts.tool_versions("torch")
        made_from = {"model": model.record.sha256, "format": model.kind}

        def write(target: Path) -> None:
            if model.kind == "state_dict":
                assert isinstance(model.module, torch.nn.Module)
                torch.save(model.module.state_dict(), target)
            else:
                shutil.copyfile(self._own_file(folder), target)

        return artifacts.reusable(path, made_from) or artifacts.make(path, model.kind, "fp32", made_from, tools, write)

    def _own_file(self, folder: Path) -> Path:
        assert self._model is not None
        source = Path(self._model.record.source)
        return artifacts.artifact_path(folder, self._model.kind, "fp32") if source.is_dir() else source

    def _onnx_fp32(self, folder: Path) -> Artifact:
        from rtbench.export import onnx as onnx_export

        model = self._model
        assert model is not None
        side = model.record.preprocessing.input_size
        tools = artifacts.tool_versions("torch", "onnxscript", "onnx")
        made_from = {"model": model.record.sha256, "input_size": str(side), "opset": str(onnx_export.OPSET)} | tools

        def write(path: Path) -> None:
            self._report("export onnx/fp32", 0, 1)
            onnx_export.write_fp32(model.module, model.program, side, path)

        return self._onnx(folder, "fp32", made_from, tools, write)

    def _onnx_fp16(self, folder: Path, fp32: Path, fp32_sha256: str) -> Artifact:
        from rtbench.export import onnx as onnx_export

        tools = artifacts.tool_versions("onnxruntime-gpu", "onnxruntime", "onnx")

        def write(path: Path) -> None:
            self._report("export onnx/fp16", 0, 1)
            onnx_export.write_fp16(fp32, path)

        return self._onnx(folder, "fp16", {"onnx/fp32": fp32_sha256} | tools, tools, write)

    def _onnx_int8(
        self, folder: Path, fp32: Path, fp32_sha256: str, calibration: Calibration, images: Path
    ) -> Artifact:
        assert self._model is not None
        recipe = self._model.record.preprocessing
        method = calibration.method
        tools = artifacts.tool_versions("onnxruntime-gpu", "onnxruntime", "onnx")
        made_from = {
            "onnx/fp32": fp32_sha256,
            "calibration": calibration.fingerprint,
            "calibration_method": method,
            "preprocessing": recipe.model_dump_json(exclude={"source"}),
        }

        def inputs() -> Iterator[NDArray[np.float32]]:
            pixels = np.load(images, mmap_mode="r")
            for index in range(len(pixels)):
                yield preprocessing.normalise(pixels[index : index + 1], recipe)

        def write(path: Path) -> None:
            from rtbench.export.quantize import write_int8

            write_int8(
                fp32,
                path,
                inputs(),
                calibration.images,
                method,
                lambda done, total: self._report("export onnx/int8: calibrate", done, total),
            )

        return self._onnx(folder, "int8", made_from | tools, tools, write, calibration)

    def _onnx(
        self,
        folder: Path,
        precision: Precision,
        made_from: dict[str, str],
        tools: dict[str, str],
        write: Callable[[Path], None],
        calibration: Calibration | None = None,
    ) -> Artifact:
        from rtbench.export.adopt import has_dynamic_batch

        path = artifacts.artifact_path(folder, "onnx", precision)
        kept = artifacts.reusable(path, made_from)
        if kept:
            return kept
        made = artifacts.make(path, "onnx", precision, made_from, tools, write, calibration)
        made = made.model_copy(update={"dynamic_batch": has_dynamic_batch(path)})
        artifacts.save_manifest(made)
        return made
