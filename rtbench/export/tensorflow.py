"""A TensorFlow network to ONNX, by tf2onnx, and to TFLite, by TensorFlow's own converter."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from rtbench import artifacts
from rtbench.errors import ExportFailed, not_importable
from rtbench.export import onnx as onnx_export
from rtbench.export import opening
from rtbench.export.calibrating import Calibrating
from rtbench.images.graph_input import GraphInput
from rtbench.models.tensorflow.load import LoadedTensorFlow
from rtbench.records.model import Artifact
from rtbench.terms import Precision

OPSET = 18
"""The newest that tf2onnx 1.17 writes."""
PACKAGES = ("tf2onnx", "onnx")
"""Those beside TensorFlow that the graph depends on."""

Images = Iterator[NDArray[np.float32]]


def write_onnx(model: LoadedTensorFlow, shape: tuple[int, int, int], path: Path) -> None:
    """Convert to ONNX in FP32 with a free batch axis, which takes (N, C, H, W) as every other.

    Raises ExportFailed with tf2onnx's reason where it cannot.
    """
    try:
        import tf2onnx
    except ImportError as error:
        raise not_importable("tf2onnx", "tf", error) from error
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    frozen = _frozen(model, shape, batch=None)
    source, result = frozen.inputs[0].name, frozen.outputs[0].name
    last = model.network.channels_last
    try:
        graph, _ = tf2onnx.convert._convert_common(  # from_function() wants the names of a tf.function
            frozen.graph.as_graph_def(),
            opset=OPSET,
            input_names=[source],
            output_names=[result],
            inputs_as_nchw=[source] if last else None,
        )
    except Exception as error:  # tf2onnx raises many kinds
        said = next(filter(None, str(error).splitlines()), type(error).__name__)
        raise ExportFailed(f"tf2onnx cannot convert this model: {said}", "convert it, and give the .onnx") from error
    _rename(graph.graph, source, onnx_export.INPUT)
    _rename(graph.graph, result, onnx_export.OUTPUT)
    onnx_export.save(graph, path)
    onnx_export.check(path)


def make_tflite(
    load: Callable[[], LoadedTensorFlow],
    source: Mapping[str, str],
    folder: Path,
    precision: Precision,
    images: Calibrating,
    report: Callable[[str, int, int], None],
) -> Artifact:
    """One TFLite artifact of the model that `load` gives, kept where it is there and made from the same `source`."""
    whole = precision == "int8"
    tools = artifacts.tool_versions(*opening.PACKAGES["tensorflow"])
    made_from = {**source, **tools, **(images.made_from if whole else {})}
    phase = f"export tflite/{precision}{': calibrate' if whole else ''}"

    def write(path: Path) -> dict[str, Any]:
        write_tflite(load(), precision, path, images.inputs(), lambda done: report(phase, done, images.count))
        return {"dynamic_batch": False}

    path = artifacts.artifact_path(folder, "tflite", precision)
    kept = images.record if whole else None
    current = artifacts.reusable(path, "tflite", precision, made_from)
    return current or artifacts.make(path, "tflite", precision, made_from, tools, write, kept)


def write_tflite(
    model: LoadedTensorFlow, precision: Precision, path: Path, images: Images, progress: Callable[[int], None]
) -> None:
    """Convert to TFLite for single images: FP32; weights in FP16; or INT8 throughout by calibration `images`, whose
    input and output stay float.

    Raises ExportFailed with TensorFlow's reason where it cannot.
    """
    network = model.network
    frozen = _frozen(model, model.record.preprocessing.input_shape, batch=1)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    taken = GraphInput(network.kind, channels_last=network.channels_last)

    def calibrating() -> Iterator[list[NDArray[Any]]]:
        for done, image in enumerate(images):
            yield [taken.of(image)]
            progress(done + 1)

    if precision != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.representative_dataset = calibrating
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        with _quiet():
            made = converter.convert()
    except Exception as error:  # the converter raises many kinds
        said = next(filter(None, str(error).splitlines()), type(error).__name__)
        raise ExportFailed(f"TensorFlow cannot convert this model to TFLite: {said}") from error
    path.write_bytes(made)


def _frozen(model: LoadedTensorFlow, shape: tuple[int, int, int], batch: int | None) -> Any:
    """The network as one graph with its weights as constants and the model's output alone, for inputs of this shape in
    their own layout."""
    network, (channels, height, width) = model.network, shape
    sides = (height, width, channels) if network.channels_last else shape
    spec = tf.TensorSpec((batch, *sides), network.kind)
    function = tf.function(lambda image: network.function(**{network.input: image})[model.output])
    return convert_variables_to_constants_v2(function.get_concrete_function(spec))


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    for value in (*graph.input, *graph.output):
        if value.name == old:
            value.name = new
    for node in graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                if name == old:
                    names[at] = new


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the converter's report on stdout, which is not Python's."""
    with Path(os.devnull).open("wb") as nowhere:
        kept = os.dup(1)
        try:
            os.dup2(nowhere.fileno(), 1)
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)
