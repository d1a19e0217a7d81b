"""INT8 ONNX by static quantisation, in the two forms that its readers want.

ONNX Runtime is fastest on x86 with asymmetric uint8 activations everywhere. TensorRT takes symmetric int8
alone, no quantised biases, and fuses best where only the inputs of what it runs in INT8 are quantised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from rtbench.export import half
from rtbench.export import onnx as onnx_export
from rtbench.export.calibrate import METHODS, Batches
from rtbench.onnx_file import external_files
from rtbench.terms import CalibrationMethod as Method

Images = Iterator[NDArray[np.float32]]
Report = Callable[[int, int], None]

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
POOLING = ("MaxPool", "AveragePool")


def write_int8(
    fp32: Path, path: Path, images: Images, total: int, method: Method, progress: Report, *, full_range: bool = False
) -> None:
    """Quantise to QDQ: asymmetric uint8 activations, symmetric int8 weights per output channel.

    Weights have 7 bits, since x86 CPUs without VNNI add two products in 16 bits, which saturate with 8
    (`full_range`). `images` are single inputs, float32 (1, C, H, W), already normalised.
    """
    prepared = _prepare(fp32, path.parent)
    batches = Batches(images, total, progress)
    _quantise(prepared, path, batches, method, activation_type=QuantType.QUInt8, reduce_range=not full_range)
    onnx_export.check(path)


def write_int8_trt(
    fp32: Path, path: Path, images: Images, total: int, method: Method, wide: Iterable[str], progress: Report
) -> list[str]:
    """Quantise to QDQ for TensorRT: symmetric int8, weights per output channel, the remainder FP16.

    Quantised are the inputs of every layer with constant weights, of pooling, and the one operand of a
    residual addition that is not made by the convolution it fuses with. Gives the nodes that are kept in
    FP32 for the sake of `wide` tensors.
    """
    prepared = _prepare(fp32, path.parent)
    graph = onnx.load(prepared, load_external_data=False).graph
    whole = path.with_name("whole.onnx")
    _quantise(
        prepared,
        whole,
        Batches(images, total, progress),
        method,
        activation_type=QuantType.QInt8,
        op_types_to_quantize=[*WEIGHTED, *POOLING, "Add"],
        nodes_to_quantize=[node.name for node in graph.node if _runs_in_int8(node, graph)],
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "ForceQuantizeNoInputCheck": True,
            "OpTypesToExcludeOutputQuantization": [*WEIGHTED, "AveragePool", "Add"],
        },
    )
    quantised = onnx.load(whole)
    _free_fused_operands(quantised.graph)
    mixed, kept = half.cast(quantised, wide)
    onnx_export.save(mixed, path)
    onnx_export.check(path)
    return kept


def _prepare(fp32: Path, folder: Path) -> Path:
    logging.getLogger().setLevel(logging.ERROR)  # the quantiser warns through the root logger
    large = bool(external_files(fp32))
    prepared = folder / "prepared.onnx"
    quant_pre_process(
        str(fp32),
        str(prepared),
        skip_symbolic_shape=True,
        save_as_external_data=large,
        all_tensors_to_one_file=large,
        external_data_location="prepared.onnx.data" if large else None,
    )
    return prepared


def _quantise(prepared: Path, path: Path, batches: Batches, method: Method, **options: Any) -> None:
    quantize_static(
        str(prepared),
        str(path),
        batches,
        quant_format=QuantFormat.QDQ,
        weight_type=QuantType.QInt8,
        per_channel=True,
        calibrate_method=METHODS[method],
        use_external_data_format=bool(external_files(prepared)),
        **options,
    )


def _runs_in_int8(node: onnx.NodeProto, graph: onnx.GraphProto) -> bool:
    constant = {tensor.name for tensor in graph.initializer}
    if node.op_type in WEIGHTED:
        return node.input[1] in constant
    if node.op_type == "Add":
        convolved = {output for other in graph.node if other.op_type == "Conv" for output in other.output}
        return not constant.intersection(node.input) and bool(convolved.intersection(node.input))
    return node.op_type in POOLING


def _free_fused_operands(graph: onnx.GraphProto) -> None:
    """Of the two quantised operands of a residual addition, give back the one computed last as it was:
    TensorRT runs the addition inside the convolution that makes it. What that leaves unread goes."""
    maker = {output: position for position, node in enumerate(graph.node) for output in node.output}
    node_of = {output: node for node in graph.node for output in node.output}

    def before_quantising(name: str) -> str:
        dequantise = node_of[name]
        return str(node_of[dequantise.input[0]].input[0])

    for node in graph.node:
        quantised = [
            index
            for index, name in enumerate(node.input)
            if node.op_type == "Add" and name in node_of and node_of[name].op_type == "DequantizeLinear"
        ]
        if len(quantised) == 2:
            sources = {index: before_quantising(node.input[index]) for index in quantised}
            last = max(quantised, key=lambda index: maker.get(sources[index], -1))
            node.input[last] = sources[last]
    _remove_unread(graph)


def _remove_unread(graph: onnx.GraphProto) -> None:
    read = {value.name for value in graph.output} | {name for node in graph.node for name in node.input}
    nodes = [node for node in graph.node if not read.intersection(node.output)]
    for node in nodes:
        graph.node.remove(node)
    if nodes:
        _remove_unread(graph)
    else:
        weights = [tensor for tensor in graph.initializer if tensor.name in read]
        del graph.initializer[:]
        graph.initializer.extend(weights)
