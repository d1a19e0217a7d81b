"""Half precision: which values pass its range on real images, and the cast of a graph around them."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, create_calibrator
from onnxruntime.transformers.float16 import convert_float_to_float16

from rtbench.export import onnx as onnx_export
from rtbench.export.calibrate import Batches
from rtbench.onnx_file import external_files

LARGEST = 65504 / 2
"""Largest magnitude that is left to FP16: half of what it can hold, since other images reach further."""


def find_wide(
    fp32: Path, images: Iterator[NDArray[np.float32]], total: int, progress: Callable[[int, int], None]
) -> list[str]:
    """Names of the tensors of an FP32 graph, weights included, that pass LARGEST on these inputs.

    `images` are single inputs, float32 (1, C, H, W), already normalised.
    """
    graph = onnx.load(fp32).graph
    wide = {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT and _largest(onnx.numpy_helper.to_array(tensor)) > LARGEST
    }
    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            fp32,
            None,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=CalibrationMethod.MinMax,
            use_external_data_format=bool(external_files(fp32)),
        )
        calibrator.collect_data(Batches(images, total, progress))
        for name, found in calibrator.compute_data().items():
            if max(_largest(bound) for bound in found.range_value) > LARGEST:
                wide.add(name)
    return sorted(wide)


def cast(graph: onnx.ModelProto, wide: Iterable[str]) -> tuple[onnx.ModelProto, list[str]]:
    """The graph in half precision, input and output still float32, and the nodes kept in FP32.

    Kept are those that read or write a `wide` tensor, with the DequantizeLinear nodes that feed them.
    """
    kept = _nodes_around(graph.graph, set(wide))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a line for every weight that half precision rounds to zero
        half = convert_float_to_float16(
            graph,
            keep_io_types=True,
            disable_shape_infer=onnx_export.weights_size(graph) > onnx_export.ONE_FILE_LIMIT,
            node_block_list=kept,
        )
    del half.graph.value_info[:]  # it calls everything FP16, kept nodes' outputs too
    _cut_round_trips(half.graph)
    ordered = onnx_ir.from_proto(half)
    ordered.graph.sort()  # the converter appends its input cast at the end
    return onnx_ir.to_proto(ordered), kept


def write_fp16(fp32: Path, path: Path, wide: Iterable[str] = ()) -> list[str]:
    """Weights and arithmetic in half precision but around `wide` tensors; gives the nodes kept in FP32."""
    half, kept = cast(onnx.load(fp32), wide)
    onnx_export.save(half, path)
    onnx_export.check(path)
    return kept


def _cut_round_trips(graph: onnx.GraphProto) -> None:
    """Between two nodes in FP32 the converter casts to FP16 and back, which is where values would overflow."""
    casts = {node.output[0]: node for node in graph.node if node.op_type == "Cast"}

    def target(cast: onnx.NodeProto) -> int:
        return int(cast.attribute[0].i)

    straight = {
        name: casts[cast.input[0]].input[0]
        for name, cast in casts.items()
        if target(cast) == onnx.TensorProto.FLOAT
        and cast.input[0] in casts
        and target(casts[cast.input[0]]) == onnx.TensorProto.FLOAT16
    }
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = straight.get(name, name)


def _largest(values: Any) -> float:
    return float(np.abs(values).max(initial=0))


def _nodes_around(graph: onnx.GraphProto, wide: set[str]) -> list[str]:
    around = [node for node in graph.node if wide.intersection([*node.input, *node.output])]
    read = {name for node in around for name in node.input}
    feeding = [node for node in graph.node if node.op_type == "DequantizeLinear" and read.intersection(node.output)]
    return list(dict.fromkeys(node.name for node in [*around, *feeding]))
