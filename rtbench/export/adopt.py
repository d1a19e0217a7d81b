"""A user's own .onnx file, taken as an artifact as it is."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import google.protobuf.message
import numpy as np
import onnx
import onnxruntime

from rtbench import artifacts
from rtbench.errors import UsageError
from rtbench.images.graph_input import CHANNELS, channels_last
from rtbench.images.preprocessing import RESNET, for_channels, overridden, pixels_alone, sized
from rtbench.models import require_classes
from rtbench.onnx_file import INPUT_TYPES, require_external_files
from rtbench.options import ModelOptions
from rtbench.records.model import Artifact, Model, Preprocessing, safe_name
from rtbench.terms import Precision

QUANTISED = re.compile(r"QLinear\w+|Q(?:Gemm|Attention|Ordered)\w*|\w*Quantize\w*|\w+Integer|\w*NBits\w*")
"""Operators that compute in INT8 or less, ONNX's own and ONNX Runtime's."""
LOGITS = "logits"
NOT_SAID = re.compile(
    r"^\[ONNXRuntimeError\] : \d+ : \w+ : (?:Load model from .*?(?= ?failed))?"
    r"| ?(?:failed:)?\S*onnxruntime_src\S* (?:.*?\) )?"
)
"""Of ONNX Runtime's errors: its numbers, and where in its source they come from."""


def adopt_onnx(path: Path, options: ModelOptions, recipe: Preprocessing | None) -> tuple[Model, Artifact]:
    """The record of an ONNX classifier and the file as an artifact, in its own place.

    `recipe` is the reference model's; without one, the input size is read off the graph. Raises UsageError for a file
    that ONNX Runtime does not load, or that is not a classifier of images.
    """
    artifacts.require_file(path)
    require_external_files(path)
    graph, session = _parsed(path), _opened(path)
    source = _image_input(path, session)
    batch, channels, height, width = _input_shape(path, source)
    output, classes, choices = _output(path, session, options.output)
    recipe = for_channels(overridden(recipe or sized(RESNET, height, width), options), channels or 3)
    if source.type == "tensor(uint8)":
        recipe = pixels_alone(path, recipe, options)
        choices = [*choices, "it takes pixels from 0 to 255 and normalises them itself"]
    own = height or recipe.height_width[0], width or recipe.height_width[1]
    if own != recipe.height_width:
        taken = recipe.model_copy(update={"input_size": own}).size_text
        raise UsageError(f"{path} takes {taken} inputs, not {recipe.size_text}", f"give --input-size {taken}")
    sha256 = artifacts.file_sha256(path)
    model = Model(
        name=safe_name(path.stem),
        source=str(path),
        arch=None,
        sha256=sha256,
        parameters=sum(int(np.prod(tensor.dims)) for tensor in graph.graph.initializer),
        classes=classes,
        preprocessing=recipe,
        choices=choices,
    )
    artifact = Artifact(
        path=str(path),
        format="onnx",
        precision=_precision(graph),
        size_bytes=artifacts.size_on_disk(path),
        sha256=sha256,
        made_from={"file": str(path)},
        tools={_text(graph.producer_name) or "unknown": _text(graph.producer_version)},
        dynamic_batch=batch is None,
        batch=batch or 1,
        full_range=has_full_range(path),
        output=output,
    )
    return model, artifact


def has_dynamic_batch(path: Path) -> bool:
    """Of a graph that rtbench wrote, which has one input."""
    graph = onnx.load(path, load_external_data=False).graph
    return not graph.input[0].type.tensor_type.shape.dim[0].HasField("dim_value")


def has_full_range(path: Path) -> bool:
    """Whether INT8 weights of an ONNX file, tensors of two and more axes, have values beyond 7 bits."""
    graph = onnx.load(path).graph
    weights = (each for each in graph.initializer if each.data_type == onnx.TensorProto.INT8 and len(each.dims) > 1)
    return any(int(np.abs(onnx.numpy_helper.to_array(each).astype(np.int16)).max(initial=0)) > 64 for each in weights)


def _parsed(path: Path) -> onnx.ModelProto:
    try:
        graph = onnx.load(path, load_external_data=False)
    except google.protobuf.message.DecodeError:
        raise UsageError(f"{path} is damaged or not an ONNX model: it cannot be parsed", "export it again") from None
    if not graph.graph.node:
        raise UsageError(f"{path} is damaged or not an ONNX model: it has no nodes", "export it again")
    if any(dim < 0 for tensor in graph.graph.initializer for dim in tensor.dims):
        raise UsageError(f"{path} is damaged: a weight has a negative dimension", "export it again")
    return graph


def _text(value: str | bytes) -> str:
    """A string of a graph, which protobuf gives as bytes where it is not UTF-8."""
    return value if isinstance(value, str) else value.decode(errors="replace")


def _opened(path: Path) -> onnxruntime.InferenceSession:
    """As it is written; ONNX Runtime decides what it takes, also where onnx's checker would not."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0
        )  # which would print what went wrong, and try the same again
        _ = [(each.name, each.shape) for each in (*session.get_inputs(), *session.get_outputs())]
        return session
    except UnicodeDecodeError:
        raise UsageError(f"{path} has a name that is not UTF-8", "export it again") from None
    except Exception as error:  # ONNX Runtime raises many kinds
        said = NOT_SAID.sub("", str(error).strip())
        remedy = "export it for that version" if "version" in said or "pset" in said else ""
        raise UsageError(
            f"ONNX Runtime {onnxruntime.__version__} does not load {path}: {said.splitlines()[0]}", remedy
        ) from error


def _image_input(path: Path, session: onnxruntime.InferenceSession) -> Any:
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        raise UsageError(f"{path} does not take one input of four axes", "export an image classifier")
    if inputs[0].type not in INPUT_TYPES:
        known = ", ".join(each.removeprefix("tensor(").rstrip(")") for each in INPUT_TYPES)
        raise UsageError(f"{path} takes an input of {inputs[0].type}", f"export it with one of {known}")
    return inputs[0]


def _input_shape(path: Path, source: Any) -> tuple[int | None, int | None, int | None, int | None]:
    """Batch, channels, height and width of the input, each None where it is free."""
    batch, *rest = (each if isinstance(each, int) else None for each in source.shape)
    channels, height, width = rest if not channels_last(source.shape) else (rest[2], rest[0], rest[1])
    if channels not in (*CHANNELS, None):
        raise UsageError(f"{path} takes inputs of {channels} channels, not of 1 or 3", "export an image classifier")
    return batch, channels, height, width


def _output(path: Path, session: onnxruntime.InferenceSession, wanted: str | None) -> tuple[str, int, list[str]]:
    """The name of the output that is the classifier's, how many classes it has, and what was chosen."""
    outputs = {each.name: each.shape for each in session.get_outputs()}
    shown = ", ".join(f"{name} {shape}" for name, shape in outputs.items())
    if wanted is not None and wanted not in outputs:
        raise UsageError(f"{path} has no output {wanted}", f"--output is one of {', '.join(outputs)}")
    name = wanted or (LOGITS if LOGITS in outputs else next(iter(outputs)))
    if len(outputs) > 1 and wanted is None and name != LOGITS:
        raise UsageError(f"{path} has {len(outputs)} outputs: {shown}", "say with --output which has the classes")
    shape = outputs[name]
    if len(shape) != 2 or not isinstance(shape[1], int):
        raise UsageError(
            f"{path} is not a classifier with a known number of classes: its output is {shown}",
            "its output must be (batch, classes)",
        )
    require_classes(str(path), shape[1])
    others = [each for each in outputs if each != name]
    said = f"its output {name} was taken; --output chooses {' or '.join(others)}"
    return name, shape[1], [said] if others and wanted is None else []


def _precision(graph: onnx.ModelProto) -> Precision:
    if any(QUANTISED.fullmatch(_text(node.op_type)) for node in graph.graph.node):
        return "int8"
    kinds = Counter[int]()
    for tensor in graph.graph.initializer:
        kinds[tensor.data_type] += int(np.prod(tensor.dims))
    half = kinds[onnx.TensorProto.FLOAT16] + kinds[onnx.TensorProto.BFLOAT16]
    return "fp16" if half > kinds[onnx.TensorProto.FLOAT] else "fp32"
