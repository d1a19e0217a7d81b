"""Engines for a T4, built from real exports on a machine without a GPU."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from rtbench import artifacts
from rtbench.errors import ExportFailed, RuntimeUnavailable, UsageError
from rtbench.export import half, tensorrt_library
from rtbench.export.quantize import write_int8_trt
from rtbench.export.recipes import choose_recipes, load_recipe
from rtbench.export.tensorrt import EngineBuilder
from rtbench.export.torch import write_fp32
from rtbench.images import sample
from rtbench.images.cache import cache_images
from rtbench.images.datasets import read_labelled
from rtbench.images.preprocessing import normalise
from rtbench.models.architectures import build
from rtbench.records.model import Artifact, Recipe
from rtbench.records.run import Gpu

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
pytestmark = pytest.mark.slow
T4 = Gpu(name="Tesla T4", compute_capability="7.5", driver="550.54", memory_mib=15360)
A10 = Gpu(name="NVIDIA A10", compute_capability="8.6", driver="550.54", memory_mib=23028)
QUANTISED = {"Conv", "Gemm"}


def quiet(*_: object) -> None:
    pass


def source(path: Path, precision: str) -> Artifact:
    kind = "onnx_trt" if precision == "int8" else "onnx"
    size, digest = artifacts.size_on_disk(path), artifacts.file_sha256(path)
    return Artifact(
        path=str(path), format=kind, precision=precision, size_bytes=size, sha256=digest, made_from={}, tools={}
    )


def engine(path: Path, precision: str, recipe: Recipe | None = None, gpu: Gpu | None = None) -> Artifact:
    return EngineBuilder(quiet).build(source(path, precision), recipe or load_recipe(f"t4-{precision}"), gpu, 1)


def export(network: torch.nn.Module, folder: Path, images: np.ndarray) -> None:
    fp32 = folder / "fp32.onnx"
    write_fp32(network.eval(), None, images.shape[1:], fp32)
    half.write_fp16(fp32, folder / "onnx-fp16.onnx")
    singles = (images[index : index + 1] for index in range(len(images)))
    write_int8_trt(fp32, folder / "onnx-int8-trt.onnx", singles, len(images), "minmax", (), quiet)


@pytest.fixture(scope="module")
def lite0(tmp_path_factory, image_cache) -> Path:
    """The sample's trained network, calibrated with crops of the built-in photographs."""
    folder = tmp_path_factory.mktemp("lite0")
    network = sample.build_network(1000)
    network.load_state_dict(torch.load(sample.weights_file(), weights_only=True))
    cached = cache_images(sample.calibration_crops(128), sample.PREPROCESSING, image_cache, 2, quiet)
    export(network, folder, normalise(np.load(cached.path), sample.PREPROCESSING))
    return folder


@pytest.fixture(scope="module")
def resnet18(tmp_path_factory) -> Path:
    return untrained("resnet18", tmp_path_factory.mktemp("resnet18"))


def untrained(arch: str, folder: Path) -> Path:
    torch.manual_seed(0)
    images = np.random.default_rng(0).standard_normal((4, 3, 224, 224), dtype=np.float32)
    export(build(arch, {"num_classes": 1000}), folder, images)
    return folder


def makers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    return {output: node for node in graph.node for output in node.output}


def require_quantised(path: Path) -> onnx.GraphProto:
    """Every Conv and Gemm reads int8, symmetric, weights with a scale for each channel; no bias is quantised."""
    graph = onnx.load(path).graph
    weights, made_by = {tensor.name: tensor for tensor in graph.initializer}, makers(graph)
    assert any(node.op_type in QUANTISED for node in graph.node)
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            assert weights[node.input[2]].data_type == TensorProto.INT8
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert (numpy_helper.to_array(weights[node.input[2]]) == 0).all()
            assert weights[node.input[1]].data_type == TensorProto.FLOAT16
        if node.op_type in QUANTISED:
            activation, weight = (made_by[name] for name in node.input[:2])
            assert {activation.op_type, weight.op_type} == {"DequantizeLinear"}, node.name
            scales = numpy_helper.to_array(weights[weight.input[1]])
            assert scales.size == weights[weight.input[0]].dims[0]
            assert len(node.input) == 2 or node.input[2] in weights
    return graph


def test_resnet18_fits_the_sizes_that_were_promised(resnet18):
    for precision, megabytes, seconds in (("fp16", 24.5, 30), ("int8", 17.0, 30)):
        made = engine(resnet18 / f"onnx-{precision}{'-trt' if precision == 'int8' else ''}.onnx", precision)
        assert 0.5 * megabytes * 1e6 < made.size_bytes <= megabytes * 1e6
        assert made.build is not None
        assert made.build.seconds < seconds
        assert (made.build.library, made.build.compute_capability) == ("tensorrt_rtx", "7.5")
        assert Path(made.path).with_suffix(".log").stat().st_size > 1000
    require_quantised(resnet18 / "onnx-int8-trt.onnx")


@pytest.mark.parametrize("arch", ["resnet50", "mobilenet_v2"])
def test_other_networks_build_too(arch, tmp_path):
    untrained(arch, tmp_path)
    require_quantised(tmp_path / "onnx-int8-trt.onnx")
    for name, precision in (("onnx-fp16", "fp16"), ("onnx-int8-trt", "int8")):
        assert engine(tmp_path / f"{name}.onnx", precision).size_bytes > 1e6


def test_the_samples_network_builds(lite0):
    require_quantised(lite0 / "onnx-int8-trt.onnx")
    for name, precision in (("onnx-fp16", "fp16"), ("onnx-int8-trt", "int8")):
        assert engine(lite0 / f"{name}.onnx", precision).size_bytes > 1e6


def test_residual_additions_and_pooling_are_quantised_where_they_fuse(resnet18):
    graph = onnx.load(resnet18 / "onnx-int8-trt.onnx").graph
    made_by = makers(graph)
    additions = [node for node in graph.node if node.op_type == "Add"]
    assert len(additions) == 8
    for node in additions:
        kinds = [made_by[name].op_type for name in node.input]
        assert sorted(kinds) == ["Conv", "DequantizeLinear"]
    (pool,) = [node for node in graph.node if node.op_type == "MaxPool"]
    assert made_by[pool.input[0]].op_type == "DequantizeLinear"


@pytest.mark.parametrize(("name", "least"), [("onnx-fp16", 440), ("onnx-int8-trt", 437)])
def test_graphs_for_engines_keep_the_accuracy(lite0, imagenet_sample, image_cache, name, least):
    images = read_labelled(imagenet_sample, 1000)
    cached = cache_images(images, sample.PREPROCESSING, image_cache, 2, quiet)
    pixels = np.load(cached.path, mmap_mode="r")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(lite0 / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
    right = 0
    for start in range(0, 500, 25):
        batch = normalise(pixels[start : start + 25], sample.PREPROCESSING)
        best = session.run(None, {"input": batch})[0].argmax(axis=1)
        right += sum(int(one == file.label) for one, file in zip(best, images.files[start : start + 25], strict=True))
    assert right >= least


def test_an_engine_is_built_again_exactly_when_something_changes(resnet18, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(resnet18, folder)
    path = folder / "onnx-fp16.onnx"
    first = engine(path, "fp16")
    inode = Path(first.path).stat().st_ino
    again = engine(path, "fp16")
    assert again == first
    assert Path(again.path).stat().st_ino == inode

    recipe = load_recipe("t4-fp16")
    changes = [
        {"recipe": recipe.model_copy(update={"workspace_mib": 512})},
        {"recipe": recipe.model_copy(update={"compute_capability": "8.6"})},
        {"gpu": T4.model_copy(update={"driver": "570.1"})},
        {"gpu": T4},
    ]
    for change in changes:
        changed = engine(path, "fp16", **change)
        assert Path(changed.path).stat().st_ino != inode, change
        inode = Path(changed.path).stat().st_ino
    Path(changed.path).write_bytes(b"damaged")
    assert engine(path, "fp16", gpu=T4).sha256 == artifacts.file_sha256(Path(first.path))
    manifest = json.loads((folder / "trt-fp16.json").read_text())["build"]
    assert (manifest["gpu"], manifest["driver"], manifest["source"]) == ("Tesla T4", "550.54", "onnx-fp16.onnx")
    assert manifest["source_sha256"] == artifacts.file_sha256(path)


def test_what_the_parser_does_not_take_is_told_by_node(tmp_path):
    value = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 8, 8])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3, 8, 8])
    node = helper.make_node("Det", ["input"], ["logits"], name="the_odd_one")
    graph = helper.make_graph([node], "odd", [value], [result])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "onnx-fp16.onnx")
    with pytest.raises(ExportFailed, match=r"does not take onnx-fp16.onnx: node the_odd_one \(Det\): "):
        engine(tmp_path / "onnx-fp16.onnx", "fp16")
    assert not (tmp_path / "trt-fp16.engine").exists()


def test_an_fp32_graph_is_refused_with_the_librarys_reason(resnet18, tmp_path):
    shutil.copy(resnet18 / "fp32.onnx", tmp_path / "onnx-fp16.onnx")
    with pytest.raises(ExportFailed, match=r"cannot build it for 7\.5: .*FP32"):
        engine(tmp_path / "onnx-fp16.onnx", "fp16")


def test_layers_that_overflow_half_precision_stay_in_fp32(tmp_path):
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3), torch.nn.Flatten(), torch.nn.Linear(128, 4)
    ).eval()
    with torch.no_grad():
        network[0].weight *= 3e6
        network[2].weight /= 3e6
    images = np.random.default_rng(0).standard_normal((6, 3, 8, 8), dtype=np.float32)
    fp32, fp16 = tmp_path / "fp32.onnx", tmp_path / "fp16.onnx"
    write_fp32(network, None, (3, 8, 8), fp32)
    singles = (images[index : index + 1] for index in range(len(images)))
    wide = half.find_wide(fp32, singles, len(images), quiet)
    expected = network(torch.from_numpy(images)).detach().numpy()

    def error(path: Path) -> float:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return float(np.abs(session.run(None, {"input": images})[0] - expected).max() / expected.std())

    kept = half.write_fp16(fp32, fp16, wide)
    operators = {node.name: node.op_type for node in onnx.load(fp16).graph.node}
    assert {operators[name] for name in kept} == {"Conv", "Relu"}
    assert error(fp16) < 0.02
    half.write_fp16(fp32, fp16)
    assert not error(fp16) < 0.5  # and without them it is garbage, or NaN


def test_each_library_builds_where_it_can(monkeypatch):
    recipe = load_recipe("t4-fp16")
    both, one, other = {"tensorrt": "10.13", "tensorrt_rtx": "1.7"}, {"tensorrt": "10.13"}, {"tensorrt_rtx": "1.7"}
    for here, gpu, expected in (
        (both, T4, "tensorrt"),
        (both, A10, "tensorrt_rtx"),
        (both, None, "tensorrt_rtx"),
        (one, T4, "tensorrt"),
        (other, T4, "tensorrt_rtx"),
    ):
        monkeypatch.setattr(tensorrt_library, "installed", lambda here=here: here)
        assert tensorrt_library.choose_builder(recipe, gpu) == expected
    for here, gpu, words in (
        (one, A10, "only on the GPU that will run the engine.*7.5, this machine has NVIDIA A10 of 8.6"),
        (one, None, "this machine has no GPU"),
        ({}, T4, "TensorRT is not installed"),
    ):
        monkeypatch.setattr(tensorrt_library, "installed", lambda here=here: here)
        with pytest.raises(RuntimeUnavailable, match=words):
            tensorrt_library.choose_builder(recipe, gpu)
    monkeypatch.setattr(tensorrt_library, "installed", lambda: one)
    with pytest.raises(RuntimeUnavailable, match="tensorrt_rtx is not installed"):
        tensorrt_library.choose_builder(recipe.model_copy(update={"library": "tensorrt_rtx"}), T4)


def test_recipes_are_for_the_gpu_that_is_there_unless_named():
    def targets(names, gpu):
        return [(recipe.name, recipe.compute_capability) for recipe in choose_recipes(names, ["fp16", "int8"], gpu)]

    assert targets([], None) == [("t4-fp16", "7.5"), ("t4-int8", "7.5")] == targets([], T4)
    assert targets([], A10) == [("sm86-fp16", "8.6"), ("sm86-int8", "8.6")]
    assert targets(["t4-fp16"], A10) == [("t4-fp16", "7.5")]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('precision = "fp32"\ncompute_capability = "7.5"', "precision: .*'fp16' or 'int8'"),
        ('precision = "fp16"\ncompute_capability = 7.5', "compute_capability"),
        ('precision = "fp16"\ncompute_capability = "7.5"\nbatch = { min = 2 }', "min <= opt <= max"),
        ('precision = "fp16"\ncompute_capability = "7.5"\nworkspace = 3', "workspace: Extra inputs"),
        ("precision = ", "not valid TOML"),
    ],
)
def test_a_wrong_recipe_is_told_by_its_field(tmp_path, text, words):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(UsageError, match=words):
        load_recipe(str(tmp_path / "mine.toml"))


def test_recipes_beside_the_engines_are_those_of_the_package():
    root = Path(__file__).resolve().parents[1]
    for name in ("t4-fp16.toml", "t4-int8.toml"):
        assert (root / "engines" / name).read_text() == (root / "rtbench" / "data" / "recipes" / name).read_text()
    with pytest.raises(UsageError, match="use t4-fp16, t4-fp16-graph"):
        load_recipe("t4")
