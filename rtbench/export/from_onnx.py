"""What runs in the process that makes TFLite of PyTorch's models: their ONNX becomes a SavedModel, by onnx2tf.

TensorFlow is here, so that PyTorch cannot be.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from rtbench.errors import ExportFailed
from rtbench.export import onnx as onnx_export
from rtbench.export import tools
from rtbench.export.calibrating import Calibrating
from rtbench.export.max_pools import pad_before_pooling
from rtbench.export.tensorflow import make_tflite
from rtbench.models.tensorflow.load import LoadedTensorFlow
from rtbench.models.tensorflow.saved_models import open_saved_model
from rtbench.records.model import Artifact, Calibration, Model
from rtbench.terms import Precision

TOOL = "onnx2tf"


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
        source = {"onnx/fp32": fp32.sha256, TOOL: tools.folder_of(TOOL).name}
        folder = Path(fp32.path).parent
        return make_tflite(lambda: self._saved_model(fp32, model), source, folder, precision, images, self._report)

    def close(self) -> None:
        self._scratch.cleanup()

    def _saved_model(self, fp32: Artifact, model: Model) -> LoadedTensorFlow:
        if self._loaded is None:
            tools.use(TOOL)
            import onnx2tf

            onnx2tf.onnx2tf.download_test_image_data = _noise
            self._report("convert the ONNX to a SavedModel", 0, 1)
            folder = Path(self._scratch.name)
            graph = onnx.load(fp32.path)
            pad_before_pooling(graph)
            onnx_export.save(graph, folder / "padded.onnx")
            try:
                onnx2tf.convert(
                    input_onnx_file_path=str(folder / "padded.onnx"),
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
