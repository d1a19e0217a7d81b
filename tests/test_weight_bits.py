"""INT8 weights of 7 and 8 bits: which an artifact has, and whom the second are said to be wrong for."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torchvision
from onnx import TensorProto, helper, numpy_helper
from test_cpu import HASWELL, ZEN

import rtbench
from rtbench.compare.run import SATURATES
from rtbench.export.adopt import has_full_range
from rtbench.export.quantize import write_int8
from rtbench.measure import cpu

SIDE = 8


def classifier(path: Path) -> Path:
    """A convolution and a matrix product, from pictures of eight pixels to ten classes."""
    generator = np.random.default_rng(5)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(generator.normal(size=shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["input", "kernel"], ["convolved"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["convolved"], ["rectified"]),
        helper.make_node("Flatten", ["rectified"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [weights("kernel", 4, 3, 3, 3), weights("matrix", 4 * SIDE * SIDE, 10), weights("bias", 10)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def quantised(folder: Path, *, full_range: bool) -> Path:
    path = folder / f"int8-{full_range}.onnx"
    images = (np.random.default_rng(each).normal(size=(1, 3, SIDE, SIDE)).astype(np.float32) for each in range(8))
    fp32 = classifier(folder / "fp32.onnx")
    write_int8(fp32, path, images, 8, "minmax", lambda *_: None, full_range=full_range)
    return path


def largest_weights(path: Path) -> list[int]:
    """Of each INT8 tensor of several axes, the value furthest from zero."""
    tensors = [each for each in onnx.load(path).graph.initializer if each.data_type == TensorProto.INT8]
    arrays = [numpy_helper.to_array(each).astype(int) for each in tensors if len(each.dims) > 1]
    return [int(abs(each).max()) for each in arrays]


@pytest.mark.parametrize(("full_range", "most"), [(False, 64), (True, 127)])
def test_weights_have_seven_bits_but_where_eight_are_asked_for(tmp_path, full_range, most):
    path = quantised(tmp_path, full_range=full_range)
    assert len(largest_weights(path)) == 2
    assert set(largest_weights(path)) == {most}  # symmetric, so that the largest takes the end of the range
    assert has_full_range(path) == full_range


@pytest.mark.parametrize(
    ("values", "kind", "full"),
    [
        ([[64, -64]], np.int8, False),
        ([[65, 0]], np.int8, True),
        ([[0, -128]], np.int8, True),
        ([127, -127], np.int8, False),  # a zero point or a scale for each channel, no weights
        ([[255, 200]], np.uint8, False),
        ([[65.0, 99.0]], np.float32, False),
    ],
)
def test_only_int8_weights_beyond_seven_bits_are_of_full_range(tmp_path, values, kind, full):
    tensor = numpy_helper.from_array(np.array(values, dtype=kind), "weights")
    graph = helper.make_graph([], "none", [], [], [tensor])
    onnx.save(helper.make_model(graph), tmp_path / "one.onnx")
    assert has_full_range(tmp_path / "one.onnx") == full


@pytest.mark.parametrize(("cpuinfo", "told"), [(HASWELL, True), (ZEN, False)], ids=["Haswell", "Zen"])
@pytest.mark.parametrize("full_range", [False, True], ids=["7 bits", "8 bits"])
def test_a_row_says_where_its_weights_saturate(
    tmp_path, ten_classes, image_cache, monkeypatch, cpuinfo, told, full_range
):
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(cpu, "INFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    run = rtbench.compare(
        quantised(tmp_path, full_range=full_range),
        data=ten_classes,
        out=tmp_path / "run",
        cache_dir=image_cache,
        runtimes=["ort"],
        runs=3,
        processes=1,
        patience_s=0,
    )
    (row,) = run.rows
    assert (row.id, row.status) == ("ort/int8", "ok")
    assert row.artifact.full_range == full_range
    assert (SATURATES in row.warnings) == (told and full_range)


@pytest.mark.slow
def test_an_artifact_that_this_very_run_replaces_is_timed_again_all_the_same(
    tmp_path, ten_classes, image_cache, monkeypatch
):
    """INT8 of 7 bits first, then of 8 under the same name: the first is timed in the rounds of the second."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_1(num_classes=10).state_dict(), tmp_path / "small.pt")
    options = {
        "data": ten_classes,
        "calibration": ten_classes,
        "calibration_images": 4,
        "input_size": 64,
        "precisions": ["int8"],
        "runtimes": ["ort"],
        "runs": 20,
        "patience_s": 0,
        "cache_dir": image_cache,
    }
    before = rtbench.compare("small.pt", out="before", **options)
    path = Path(before.rows[0].artifact.path)
    content = path.read_bytes()
    after = rtbench.compare("small.pt", out="after", against="before", full_range=True, **options)
    assert (Path(after.rows[0].artifact.path), path.read_bytes() != content) == (path, True)
    for run, bits, full in ((before, "7", False), (after, "8", True)):
        artifact = run.rows[0].artifact
        assert (artifact.made_from["weight_bits"], artifact.full_range) == (bits, full)
    assert max(largest_weights(path)) == 127
    assert after.against is not None
    (row,) = after.against.rows
    assert row.before_ms is not None
    assert row.after_ms is not None
    assert row.comparison is not None or row.reason == after.rows[0].latency.disturbed
    assert not Path("after", "against").exists()
