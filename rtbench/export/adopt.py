"""A user's own .onnx file, taken as an artifact as it is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import google.protobuf.message
import numpy as np
import onnx

from rtbench import artifacts
from rtbench.errors import UsageError
from rtbench.images.preprocessing import RESNET, overridden
from rtbench.options import ModelOptions
from rtbench.records.model import Artifact, Model, Preprocessing
from rtbench.terms import Precision

QUANTISED = frozenset({"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger"})


def adopt_onnx(path: Path, options: ModelOptions, recipe: Preprocessing | None) -> tuple[Model, Artifact]:
    """The record of an ONNX classifier and the file as an artifact, where it lies.

    `recipe` is the reference model's; without one, the input size is read off the graph. Raises
    UsageError for a file that is no whole ONNX graph from (batch, 3, H, W) floats to (batch, classes).
    """
    artifacts.require_file(path)
    graph = _read(path)
    side = _input_size(path, graph)
    recipe = overridden(recipe or _recipe_for(side), options)
    if side and side != recipe.input_size:
        raise UsageError(f"{path} takes {side}x{side} inputs, not {recipe.input_size}", f"give --input-size {side}")
    sha256 = artifacts.file_sha256(path)
    model = Model(
        name=path.stem,
        source=str(path),
        arch=None,
        sha256=sha256,
        parameters=sum(int(np.prod(tensor.dims)) for tensor in graph.graph.initializer),
        classes=_count_classes(path, graph),
        preprocessing=recipe,
    )
    artifact = Artifact(
        path=str(path),
        format="onnx",
        precision=_precision(graph),
        size_bytes=artifacts.size_on_disk(path),
        sha256=sha256,
        made_from={"file": str(path)},
        tools={graph.producer_name or "unknown": graph.producer_version},
        dynamic_batch=has_dynamic_batch(path),
        full_range=has_full_range(path),
    )
    return model, artifact


def has_dynamic_batch(path: Path) -> bool:
    graph = onnx.load(path, load_external_data=False).graph
    return not graph.input[0].type.tensor_type.shape.dim[0].HasField("dim_value")


def has_full_range(path: Path) -> bool:
    """Whether INT8 weights of an ONNX file, tensors of two and more axes, have values beyond 7 bits."""
    graph = onnx.load(path).graph
    weights = (each for each in graph.initializer if each.data_type == onnx.TensorProto.INT8 and len(each.dims) > 1)
    return any(int(np.abs(onnx.numpy_helper.to_array(each).astype(np.int16)).max(initial=0)) > 64 for each in weights)


def _read(path: Path) -> onnx.ModelProto:
    try:
        onnx.checker.check_model(str(path), full_check=True)
        return onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False))
    except (
        google.protobuf.message.DecodeError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        FileNotFoundError,
        ValueError,
    ) as error:
        first = (str(error).strip().splitlines() or ["it cannot be parsed"])[0]
        raise UsageError(f"{path} is damaged or no ONNX model: {first}", "export it again") from error


def _input_size(path: Path, graph: onnx.ModelProto) -> int | None:
    """The fixed side of the input, None where it is free."""
    weights = {tensor.name for tensor in graph.graph.initializer}
    inputs = [value for value in graph.graph.input if value.name not in weights]
    dims = inputs[0].type.tensor_type.shape.dim if inputs else []
    if len(inputs) != 1 or len(dims) != 4:
        raise UsageError(f"{path} does not take one (batch, 3, height, width) input", "export an image classifier")
    batch, channels, height, width = (dim.dim_value if dim.HasField("dim_value") else None for dim in dims)
    if channels not in (3, None) or height != width:
        raise UsageError(
            f"{path} takes inputs of shape {[batch, channels, height, width]}, not (batch, 3, side, side)",
            "export it with channels first and a square input",
        )
    if batch not in (1, None):
        raise UsageError(f"{path} is fixed to batches of {batch}", "export it with a free batch axis or batch 1")
    return height


def _recipe_for(side: int | None) -> Preprocessing:
    if side in (None, RESNET.input_size):
        return RESNET
    resize = round(side * RESNET.resize / RESNET.input_size)
    return RESNET.model_copy(update={"input_size": side, "resize": resize})


def _count_classes(path: Path, graph: onnx.ModelProto) -> int:
    dims = graph.graph.output[0].type.tensor_type.shape.dim
    if len(dims) != 2 or not dims[1].HasField("dim_value"):
        raise UsageError(
            f"{path} is no classifier with a known number of classes", "its output must be (batch, classes)"
        )
    return int(dims[1].dim_value)


def _precision(graph: onnx.ModelProto) -> Precision:
    if any(node.op_type in QUANTISED for node in graph.graph.node):
        return "int8"
    kinds = Counter[int]()
    for tensor in graph.graph.initializer:
        kinds[tensor.data_type] += int(np.prod(tensor.dims))
    half = kinds[onnx.TensorProto.FLOAT16]
    return "fp16" if half > kinds[onnx.TensorProto.FLOAT] else "fp32"
