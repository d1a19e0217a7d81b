"""A PyTorch network to ONNX, FP32."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from rtbench.errors import ExportFailed
from rtbench.export import onnx as onnx_export
from rtbench.models.loaded import LoadedModel

OPSET = 20
PACKAGES = ("onnxscript", "onnx")
"""Those beside torch that the graph depends on."""


def write_onnx(model: LoadedModel, shape: tuple[int, int, int], path: Path) -> None:
    write_fp32(model.module, model.program, shape, path)


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
    onnx_export.check(path)


def _write_traced(module: Any, example: torch.Tensor | None, path: Path) -> None:
    exported = torch.onnx.export(
        module,
        () if example is None else (example,),
        dynamo=True,
        dynamic_shapes=None if example is None else ({0: torch.export.Dim("batch")},),
        input_names=[onnx_export.INPUT],
        output_names=[onnx_export.OUTPUT],
        opset_version=OPSET,
        verbose=False,
    )
    assert exported is not None
    weights = sum(value.const_value.nbytes for value in exported.model.graph.initializers.values() if value.const_value)
    exported.save(str(path), external_data=weights > onnx_export.ONE_FILE_LIMIT)


def _write_script(module: torch.jit.ScriptModule, example: torch.Tensor, path: Path) -> None:
    """TorchScript goes through PyTorch's older exporter; the one for torch.export does not take it."""
    torch.onnx.export(
        module,
        (example,),
        str(path),
        dynamo=False,
        dynamic_axes={onnx_export.INPUT: {0: "batch"}, onnx_export.OUTPUT: {0: "batch"}},
        input_names=[onnx_export.INPUT],
        output_names=[onnx_export.OUTPUT],
        opset_version=OPSET,
    )
