"""INT8 ONNX by static quantisation, in the form that ONNX Runtime runs fastest on x86."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from rtbench.artifacts import external_data
from rtbench.export import onnx as onnx_export
from rtbench.terms import CalibrationMethod as Method

METHODS: dict[Method, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, batches: Iterator[NDArray[np.float32]], total: int, progress: Callable[[int, int], None]):
        self._batches, self._total, self._progress = batches, total, progress
        self._done = 0

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        if batch is None:
            return None
        self._done += 1
        self._progress(self._done, self._total)
        return {onnx_export.INPUT: batch}


def write_int8(
    fp32: Path,
    path: Path,
    images: Iterator[NDArray[np.float32]],
    total: int,
    method: Method,
    progress: Callable[[int, int], None],
) -> None:
    """Quantise to QDQ: asymmetric uint8 activations, symmetric int8 weights per output channel.

    `images` are single inputs, float32 (1, 3, H, W), already normalised.
    """
    logging.getLogger().setLevel(logging.ERROR)  # the quantiser warns through the root logger
    large = bool(external_data(fp32))
    prepared = path.with_name("prepared.onnx")
    quant_pre_process(
        str(fp32),
        str(prepared),
        skip_symbolic_shape=True,
        save_as_external_data=large,
        all_tensors_to_one_file=large,
        external_data_location="prepared.onnx.data" if large else None,
    )
    quantize_static(
        str(prepared),
        str(path),
        _Batches(images, total, progress),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        calibrate_method=METHODS[method],
        use_external_data_format=large,
    )
    onnx_export.check(path)
