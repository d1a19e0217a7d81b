"""Padding before max pools: the same outputs as ONNX Runtime gives for the pool's own."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtbench.export.max_pools import pad_before_pooling

SIDES = (9, 12)
BEFORE = {
    "as it is": [],
    "relu": [helper.make_node("Relu", ["x"], ["y"])],
    "relu6": [helper.make_node("Clip", ["x", "zero", "six"], ["y"])],
    "clip below zero": [helper.make_node("Clip", ["x", "six-", "six"], ["y"])],
    "concatenated": [
        helper.make_node("Sigmoid", ["x"], ["s"]),
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Concat", ["s", "r"], ["y"], axis=1),
    ],
}


def pool(before: str = "as it is", **attributes: object) -> onnx.ModelProto:
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in BEFORE[before]]
    nodes.append(helper.make_node("MaxPool", ["y" if nodes else "x"], ["z"], **attributes))
    values = {"zero": 0.0, "six": 6.0, "six-": -6.0}
    graph = helper.make_graph(
        nodes,
        "pool",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, *SIDES])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", "c", "h", "w"])],
        [numpy_helper.from_array(np.array(value, np.float32), name) for name, value in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def outputs(model: onnx.ModelProto) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).normal(-3, 2, (2, 2, *SIDES)).astype(np.float32)
    return session.run(None, {"x": images})[0]


@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize(("kernel", "stride"), list(itertools.product((2, 3, 5), (1, 2, 3))))
def test_outputs_stay_the_same(kernel: int, stride: int, ceil: int) -> None:
    for pads in itertools.product(range(kernel // 2 + 1), repeat=4):
        attributes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads, "ceil_mode": ceil}
        expected, padded = outputs(pool(**attributes)), pool(**attributes)
        pad_before_pooling(padded)
        assert not any(each.name == "pads" and any(each.ints) for each in padded.graph.node[-1].attribute)
        np.testing.assert_array_equal(outputs(padded), expected, err_msg=str(attributes))


@pytest.mark.parametrize("before", BEFORE)
def test_it_is_padded_with_zeros_where_nothing_is_below(before: str) -> None:
    mode = b"edge" if before in ("as it is", "clip below zero") else b"constant"
    attributes = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    expected, padded = outputs(pool(before, **attributes)), pool(before, **attributes)
    pad_before_pooling(padded)
    (pad,) = (node for node in padded.graph.node if node.op_type == "Pad")
    assert helper.get_attribute_value(pad.attribute[0]) == mode
    np.testing.assert_array_equal(outputs(padded), expected)


def test_a_last_window_that_hangs_over_is_left_where_the_size_is_not_known() -> None:
    model = pool(kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2], ceil_mode=1)
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "w"
    before = outputs(model)
    pad_before_pooling(model)
    assert [node.op_type for node in model.graph.node] == ["MaxPool"]
    np.testing.assert_array_equal(outputs(model), before)


@pytest.mark.parametrize(
    "attributes",
    [{}, {"pads": [1, 1, 1, 1], "dilations": [2, 2]}, {"auto_pad": "SAME_UPPER"}],
    ids=["no padding", "with gaps", "automatic"],
)
def test_other_pools_are_left_as_they_are(attributes: dict) -> None:
    model = pool(kernel_shape=[3, 3], **attributes)
    before = model.SerializeToString()
    pad_before_pooling(model)
    assert model.SerializeToString() == before
