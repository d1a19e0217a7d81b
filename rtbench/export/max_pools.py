"""Max pools whose padding a converter to INT8 can take.

Max pooling pads with minus infinity. Converters write that as the lowest float, and INT8 takes it for a value: its
range becomes that of all floats, and every other value is lost.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper, numpy_helper

POSITIVE = frozenset({"Abs", "HardSigmoid", "Relu", "Sigmoid", "Softmax"})
"""Operators whose outputs are never below zero."""
KEEP_SIGN = frozenset({"Add", "AveragePool", "Concat", "GlobalAveragePool", "Identity", "MaxPool", "Mul"})
"""Nor are those of these, where their inputs are not."""


def pad_before_pooling(model: onnx.ModelProto) -> None:
    """Put a Pad before every MaxPool that pads, in place of its own padding; the outputs are the same.

    It pads with zeros where nothing is below zero, else with the nearest value: a window that reaches over an edge has
    that value in it already. Pools with gaps (`dilations`), and those that say where their maximum was, are left as
    they are.
    """
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info)
    }
    constants = {each.name: float(numpy_helper.to_array(each)) for each in graph.initializer if not each.dims}
    positive: set[str] = set()
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if _never_negative(node, positive, constants):
            positive.update(node.output)
        sides = _padding(node, shapes)
        if sides:
            name = f"{node.output[0]}/padded"
            model.graph.initializer.append(numpy_helper.from_array(np.array(sides, np.int64), f"{name}/sides"))
            mode = "constant" if node.input[0] in positive else "edge"
            nodes.append(helper.make_node("Pad", [node.input[0], f"{name}/sides"], [name], mode=mode))
            kept = [each for each in node.attribute if each.name not in ("pads", "ceil_mode", "auto_pad")]
            del node.attribute[:]
            node.attribute.extend(kept)
            node.input[0] = name
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _never_negative(node: onnx.NodeProto, positive: set[str], constants: Mapping[str, float]) -> bool:
    if node.op_type == "Clip":
        return len(node.input) > 1 and constants.get(node.input[1], -1.0) >= 0
    return node.op_type in POSITIVE or (node.op_type in KEEP_SIGN and set(node.input) <= positive)


def _padding(node: onnx.NodeProto, shapes: Mapping[str, list[int]]) -> list[int] | None:
    """How a MaxPool pads each axis, at its start and its end, as Pad takes it; None where that is to stay its own."""
    if node.op_type != "MaxPool" or len(node.output) > 1:
        return None
    given = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    kernel = given["kernel_shape"]
    axes = len(kernel)
    strides, pads = given.get("strides", [1] * axes), given.get("pads", [0] * 2 * axes)
    if given.get("auto_pad", b"NOTSET") != b"NOTSET" or any(gap != 1 for gap in given.get("dilations", ())):
        return None
    starts, ends = list(pads[:axes]), list(pads[axes:])
    sides = shapes.get(node.input[0], [])[2:] if given.get("ceil_mode") else []
    if given.get("ceil_mode") and (len(sides) != axes or not all(sides)):
        return None  # how far its last window hangs over is not known
    for axis, side in enumerate(sides):
        over = (side + starts[axis] + ends[axis] - kernel[axis]) % strides[axis]
        begins = side + starts[axis] + ends[axis] - kernel[axis] - over + strides[axis]  # of a window more
        if over and begins < side + starts[axis]:
            ends[axis] += strides[axis] - over
    return [0, 0, *starts, 0, 0, *ends] if any((*starts, *ends)) else None
