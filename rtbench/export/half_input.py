"""An ONNX graph that is given FP16: TensorRT takes an input's type from the graph alone."""

from __future__ import annotations

from pathlib import Path

import onnx

from rtbench.errors import ExportFailed


def half_input(source: Path) -> bytes:
    """The graph, which casts its input to FP16 first, without that cast; ExportFailed where it does not."""
    model = onnx.load(source)
    graph, given = model.graph, model.graph.input[0]
    readers = [node for node in graph.node if given.name in node.input]
    if not readers or not all(_casts_to_half(node) for node in readers):
        raise ExportFailed(f"{source.name} does not begin in FP16", 'leave input = "fp16" out of the recipe')
    cast = {node.output[0] for node in readers}
    for node in readers:
        graph.node.remove(node)
    for node in graph.node:
        node.input[:] = [given.name if name in cast else name for name in node.input]
    given.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return bytes(model.SerializeToString())


def _casts_to_half(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and node.attribute[0].i == onnx.TensorProto.FLOAT16
