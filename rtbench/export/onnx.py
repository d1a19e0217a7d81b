"""A network as ONNX, FP32, from PyTorch; how ONNX files are saved and checked."""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch

from rtbench.errors import ExportFailed

OPSET = 20
INPUT, OUTPUT = "input", "logits"
ONE_FILE_LIMIT = 2_000_000_000
"""Bytes of weights above which they go into a file next to the graph: protobuf ends at 2 GiB."""


def write_fp32(
    module: Any, program: torch.export.ExportedProgram | None, shape: tuple[int, int, int], path: Path
) -> None:
    """Export with a free batch axis (a `.pt2` program keeps the batch axis that it was exported with).

    Raises ExportFailed with PyTorch's reason where it cannot.
    """
    example = torch.zeros(2, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own notices to its developers
        try:
            if isinstance(module, torch.jit.ScriptModule):
                _write_script(module, example, path)
            else:
                _write_traced(program or module, None if program else example, path)
        except torch.onnx.OnnxExporterError as error:
            cause = error.__cause__ or error
            first = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
            raise ExportFailed(
                f"PyTorch cannot export this model to ONNX: {first}",
                "make its forward traceable by torch.export, or give the .onnx file itself",
            ) from error
    check(path)


def _write_traced(module: Any, example: torch.Tensor | None, path: Path) -> None:
    exported = torch.onnx.export(
        module,
        () if example is None else (example,),
        dynamo=True,
        dynamic_shapes=None if example is None else ({0: torch.export.Dim("batch")},),
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=OPSET,
        verbose=False,
    )
    assert exported is not None
    weights = sum(value.const_value.nbytes for value in exported.model.graph.initializers.values() if value.const_value)
    exported.save(str(path), external_data=weights > ONE_FILE_LIMIT)


def _write_script(module: torch.jit.ScriptModule, example: torch.Tensor, path: Path) -> None:
    """TorchScript goes through PyTorch's older exporter; the one for torch.export does not take it."""
    torch.onnx.export(
        module,
        (example,),
        str(path),
        dynamo=False,
        dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
        input_names=[INPUT],
        output_names=[OUTPUT],
        opset_version=OPSET,
    )


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
