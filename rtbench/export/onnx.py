"""How ONNX files are written, saved and checked."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import onnx

INPUT, OUTPUT = "input", "logits"
ONE_FILE_LIMIT = 2_000_000_000
"""Bytes of weights above which they go into a file next to the graph: protobuf ends at 2 GiB."""


def save(graph: onnx.ModelProto, path: Path) -> None:
    if weights_size(graph) > ONE_FILE_LIMIT:
        onnx.save(graph, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024)
    else:
        onnx.save(graph, path)


def check(path: Path) -> None:
    """ONNX's own checker with shape inference; a graph we made that fails it is a bug."""
    onnx.checker.check_model(str(path), full_check=True)


def weights_size(graph: onnx.ModelProto) -> int:
    """Bytes of the initializers, wherever they are stored."""
    return sum(
        math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for tensor in graph.graph.initializer
    )


def quiet_loggers() -> None:
    """Export libraries log routine notices as warnings; the worker's log keeps errors only."""
    for name in ("torch.onnx", "onnxscript", "onnx_ir", "onnxruntime"):
        logging.getLogger(name).setLevel(logging.ERROR)
