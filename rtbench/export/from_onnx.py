"""What runs in the process that makes TFLite of PyTorch's models: their ONNX becomes a SavedModel, by onnx2tf.

TensorFlow is here, so that PyTorch cannot be.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtbench import artifacts
from rtbench.errors import ExportFailed
from rtbench.export import tensorflow, tools
from rtbench.export.calibrating import Calibrating
from rtbench.models.tensorflow.load import LoadedTensorFlow
from rtbench.models.tensorflow.saved_models import open_saved_model
from rtbench.records.model import Artifact, Calibration, Model
from rtbench.terms import Precision

TOOL = "onnx2tf"
PACKAGES = ("tensorflow-cpu", "tensorflow")


def _noise() -> NDArray[np.float32]:
    """In place of pictures that onnx2tf would download, and compare outputs of layers on."""
    return np.random.default_rng(0).random((20, 128, 128, 3), dtype=np.float32)


class FromOnnx:
    def __init__(self, report: Callable[[str, int, int], None]) -> None:
        self._report = report
        self._scratch = tempfile.TemporaryDirectory(prefix="rtbench-")
        self._loaded: LoadedTensorFlow | None = None

    def export(
        self, fp32: Artifact, model: Model, precision: Precision, calibration: Calibration, calibration_images: Path
    ) -> Artifact:
        """One TFLite artifact next to the ONNX, kept where it is there and current."""
        images = Calibrating(calibration, calibration_images, model.preprocessing)
        whole = precision == "int8"
        made_with = artifacts.tool_versions(*PACKAGES) | {TOOL: tools.folder_of(TOOL).name}
        made_from = {"onnx/fp32": fp32.sha256} | made_with | (images.made_from if whole else {})

        def write(path: Path) -> dict[str, Any]:
            loaded = self._saved_model(fp32, model)
            phase = f"export tflite/{precision}{': calibrate' if whole else ''}"
            counting = lambda done: self._report(phase, done, images.count)  # noqa: E731
            tensorflow.write_tflite(loaded, precision, path, images.inputs(), counting)
            return {"dynamic_batch": False}

        path = artifacts.artifact_path(Path(fp32.path).parent, "tflite", precision)
        kept = calibration if whole else None
        current = artifacts.reusable(path, "tflite", precision, made_from)
        return current or artifacts.make(path, "tflite", precision, made_from, made_with, write, kept)

    def close(self) -> None:
        self._scratch.cleanup()

    def _saved_model(self, fp32: Artifact, model: Model) -> LoadedTensorFlow:
        if self._loaded is None:
            tools.use(TOOL)
            import onnx2tf

            onnx2tf.onnx2tf.download_test_image_data = _noise
            self._report("convert the ONNX to a SavedModel", 0, 1)
            folder = Path(self._scratch.name)
            try:
                onnx2tf.convert(
                    input_onnx_file_path=fp32.path,
                    output_folder_path=str(folder),
                    non_verbose=True,
                    output_signaturedefs=True,
                )
            except (Exception, SystemExit) as error:  # it raises many kinds, and leaves by sys.exit
                said = next(filter(None, str(error).splitlines()), type(error).__name__)
                raise ExportFailed(f"onnx2tf cannot convert this model: {said}") from error
            network = open_saved_model(folder, trust_code=False)
            self._loaded = LoadedTensorFlow(model, network, network.outputs[0], folder)
        return self._loaded
