"""Calibration images as ONNX Runtime's quantisation tools read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod

from rtbench.export.onnx import INPUT
from rtbench.terms import CalibrationMethod as Method

METHODS: dict[Method, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


class Batches(CalibrationDataReader):  # type: ignore[misc]
    """Single inputs, float32 (1, C, H, W), with progress as they are taken."""

    def __init__(self, batches: Iterator[NDArray[np.float32]], total: int, progress: Callable[[int, int], None]):
        self._batches, self._total, self._progress = batches, total, progress
        self._done = 0

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        if batch is None:
            return None
        self._done += 1
        self._progress(self._done, self._total)
        return {INPUT: batch}
