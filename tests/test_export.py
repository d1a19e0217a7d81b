"""Real exports of a trained network, checked by running them again in other ways."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torchvision
from conftest import write_images
from onnx import TensorProto, numpy_helper

from rtbench import artifacts
from rtbench.compare.checks import CRASHING
from rtbench.export import half
from rtbench.export import onnx as onnx_export
from rtbench.export.quantize import write_int8
from rtbench.export.torch import write_fp32
from rtbench.images import sample
from rtbench.models.architectures import build
from rtbench.records.model import Artifact
from rtbench.runs.result import read_run

pytestmark = pytest.mark.slow
CALIBRATION_IMAGES = 24
ONCE = ("--patience", "0")
"""Rounds are not timed again on a machine that does other things too."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory, image_cache) -> Path:
    """The sample's network, exported once by the command line."""
    folder = tmp_path_factory.mktemp("exported")
    export(folder, image_cache)
    return folder


def export(folder: Path, cache: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        [
            *[sys.executable, "-m", "rtbench", "export", "efficientnet_lite0", "--out", str(folder)],
            *["--calibration-images", str(CALIBRATION_IMAGES), "--cache-dir", str(cache), *arguments],
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr + done.stdout
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """The same network by the shortest way there is, without rtbench's loader."""
    module = sample.build_network(1000)
    module.load_state_dict(torch.load(sample.weights_file(), weights_only=True))
    return module.eval()


@pytest.fixture(scope="module")
def batch() -> np.ndarray:
    """Four sample crops through torchvision's transforms, not rtbench's."""
    from PIL import Image
    from torchvision import transforms

    recipe = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([127 / 255] * 3, [128 / 255] * 3),
        ]
    )
    images = [Image.open(file.path).convert("RGB") for file in sample.sample_photographs().files[1:5]]
    return torch.stack([recipe(image) for image in images]).numpy()


def run_onnx(path: Path, batch: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: batch})[0]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("fp16", 0.02), ("int8", 0.4)])
def test_an_artifact_computes_what_the_network_does(exported, network, batch, precision, tolerance):
    with torch.inference_mode():
        expected = network(torch.from_numpy(batch)).numpy()
    path = exported / f"onnx-{precision}.onnx"
    together = run_onnx(path, batch)
    error = np.sqrt(np.mean((together - expected) ** 2)) / expected.std()
    assert error < tolerance
    one_by_one = np.concatenate([run_onnx(path, batch[index : index + 1]) for index in range(len(batch))])
    np.testing.assert_allclose(together, one_by_one, atol=1e-3)


def test_the_int8_graph_is_what_onnx_runtime_wants_on_x86(exported):
    graph = onnx.load(exported / "onnx-int8.onnx").graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    activations, channels = set(), 0
    for node in graph.node:
        if node.op_type == "QuantizeLinear":
            activations.add(weights[node.input[2]].data_type)
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            zero_points = numpy_helper.to_array(weights[node.input[2]])
            assert (zero_points == 0).all()
            if weights[node.input[0]].data_type == TensorProto.INT8:
                channels += zero_points.size > 1
    assert activations == {TensorProto.UINT8}
    assert channels >= 49  # a scale for each output channel in every convolution of EfficientNet-Lite0


def test_sizes_and_hashes_are_those_of_the_files(exported):
    sizes = {}
    for name in ("torch-fp32.pt", "onnx-fp32.onnx", "onnx-fp16.onnx", "onnx-int8.onnx"):
        path = exported / name
        manifest = Artifact.model_validate_json(path.with_suffix(".json").read_text())
        sizes[name] = manifest.size_bytes
        assert manifest.size_bytes == path.stat().st_size
        assert manifest.sha256 == artifacts.file_sha256(path)
        if manifest.format == "onnx":
            assert manifest.check is not None
            assert manifest.check.status == "ok"
            assert manifest.dynamic_batch
    assert sizes["onnx-int8.onnx"] < 5.2 * 2**20
    assert sizes["onnx-fp16.onnx"] < 0.51 * sizes["onnx-fp32.onnx"]


def test_an_artifact_is_made_again_exactly_when_what_it_was_made_from_changes(exported, image_cache, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    names = ["torch-fp32.pt", "onnx-fp32.onnx", "onnx-fp16.onnx", "onnx-int8.onnx"]

    def stamps() -> dict[str, int]:
        return {name: (folder / name).stat().st_ino for name in names}

    before = stamps()
    for name in names:
        os.utime(folder / name)  # the time alone means nothing
    export(folder, image_cache)
    assert stamps() == before

    export(folder, image_cache, "--calibration-images", "12")
    after = stamps()
    assert [name for name in names if after[name] != before[name]] == ["onnx-fp16.onnx", "onnx-int8.onnx"]

    (folder / "onnx-fp16.onnx").write_bytes(b"damaged")
    export(folder, image_cache, "--calibration-images", "12")
    assert (folder / "onnx-fp16.onnx").stat().st_size == (exported / "onnx-fp16.onnx").stat().st_size


def test_a_file_that_is_not_ours_is_never_overwritten(image_cache, tmp_path):
    (tmp_path / "onnx-fp32.onnx").write_text("mine")
    said = export(tmp_path, image_cache, "--precisions", "fp32", code=2)
    assert "was not made by this version of rtbench" in said
    assert (tmp_path / "onnx-fp32.onnx").read_text() == "mine"


def test_an_exported_folder_is_a_model(exported, rtbench, tmp_path):
    write_images(tmp_path / "photos", 24)
    options = ("--runs", "10", "--precisions", "fp32", "--data", tmp_path / "photos", "--out", tmp_path / "run")
    done = rtbench("compare", exported, *options, *ONCE)
    assert done.returncode == 0, done.stderr
    run = read_run(tmp_path / "run")
    assert [row.id for row in run.rows] == ["torch/fp32", "ort/fp32"]
    assert run.model == artifacts.load_model_record(exported)
    ort = run.rows[1]
    nodes = Counter(node.op_type for node in onnx.load(exported / "onnx-fp32.onnx").graph.node)
    if ort.placement:  # ONNX Runtime 1.24 and newer say it
        assert list(ort.placement) == ["CPUExecutionProvider"]
        assert ort.placement["CPUExecutionProvider"]["Conv"] == nodes["Conv"] == 49
    assert ort.settings["graph_optimization_level"] == "ORT_ENABLE_ALL"


@pytest.fixture(scope="module")
def garbage(exported, tmp_path_factory) -> dict[str, Path]:
    """Graphs that load and run and compute something else."""
    folder = tmp_path_factory.mktemp("garbage")
    swapped = onnx.load(exported / "onnx-fp32.onnx")
    largest = max(swapped.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    values = numpy_helper.to_array(largest)
    largest.CopyFrom(numpy_helper.from_array(values[..., ::-1].copy(), largest.name))
    onnx.save(swapped, folder / "swapped.onnx")

    constant = onnx.load(exported / "onnx-fp32.onnx")
    largest = max(constant.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    largest.CopyFrom(numpy_helper.from_array(np.zeros_like(values), largest.name))
    onnx.save(constant, folder / "constant.onnx")

    poisoned = onnx.load(exported / "onnx-fp32.onnx")
    largest = max(poisoned.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    largest.CopyFrom(numpy_helper.from_array(np.full_like(values, np.nan), largest.name))
    onnx.save(poisoned, folder / "nan.onnx")
    return {path.stem: path for path in folder.glob("*.onnx")}


@pytest.mark.parametrize(
    ("kind", "words"),
    [("swapped", "do not match the model's"), ("constant", "do not match the model's"), ("nan", "NaN or infinity")],
)
def test_a_graph_that_computes_garbage_is_invalid_and_never_scored(garbage, rtbench, tmp_path, kind, words):
    done = rtbench(
        "compare", garbage[kind], "--reference", "efficientnet_lite0", "--runs", "10", "--out", tmp_path / "run", *ONCE
    )
    assert done.returncode == 1, done.stderr
    (row,) = read_run(tmp_path / "run").rows
    assert (row.id, row.status) == ("ort/fp32", "invalid")
    assert words in (row.reason or "")
    assert row.scores is None
    assert row.latency is None
    assert "invalid" in done.stdout


def test_a_graph_of_ones_own_follows_its_reference(exported, rtbench, tmp_path):
    mine = tmp_path / "mine.onnx"
    shutil.copy(exported / "onnx-int8.onnx", mine)
    done = rtbench(
        "compare", mine, "--reference", "efficientnet_lite0", "--runs", "10", "--out", tmp_path / "run", *ONCE
    )
    assert done.returncode == 0, done.stderr
    run = read_run(tmp_path / "run")
    (row,) = run.rows
    assert (row.id, row.precision) == ("ort/int8", "int8")
    assert row.fidelity is not None
    assert row.fidelity.judged
    assert run.model.preprocessing == sample.PREPROCESSING


def test_bad_onnx_files_are_told_in_a_sentence(exported, rtbench, tmp_path):
    whole = (exported / "onnx-fp32.onnx").read_bytes()
    (tmp_path / "short.onnx").write_bytes(whole[: len(whole) // 3])
    (tmp_path / "empty.onnx").write_bytes(b"")
    for name, words in (("short.onnx", "damaged or not an ONNX model"), ("empty.onnx", "is empty")):
        done = rtbench("compare", name)
        assert done.returncode == 2
        assert words in done.stderr
        assert done.stderr.count("\n") == 1
    done = rtbench("compare", exported / "onnx-fp32.onnx", "--input-size", "192")
    assert done.returncode == 2
    assert "--input-size 224" in done.stderr


def test_weights_past_the_limit_of_one_file_lie_beside_it(monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_export, "ONE_FILE_LIMIT", 1_000_000)
    torch.manual_seed(0)
    module = build("squeezenet1_1", {"num_classes": 1000})
    batch = np.random.default_rng(0).standard_normal((1, 3, 224, 224), dtype=np.float32)
    fp32, fp16, int8 = (tmp_path / f"{name}.onnx" for name in ("fp32", "fp16", "int8"))
    write_fp32(module, None, (3, 224, 224), fp32)
    half.write_fp16(fp32, fp16)
    write_int8(fp32, int8, iter([batch] * 4), 4, "minmax", lambda *_: None)
    with torch.inference_mode():
        expected = module(torch.from_numpy(batch)).numpy()
    for path, tolerance in ((fp32, 1e-4), (fp16, 0.02), (int8, 0.5)):
        beside = tmp_path / f"{path.name}.data"
        assert path.stat().st_size < 1_000_000 <= beside.stat().st_size
        assert artifacts.size_on_disk(path) == path.stat().st_size + beside.stat().st_size
        error = np.abs(run_onnx(path, batch) - expected).max() / expected.std()
        assert error < tolerance, path


def test_a_damaged_result_of_quantisation_is_reported_by_export(exported, image_cache, tmp_path):
    """A manifest that says `ok` is not believed of a file that has since become another."""
    folder = tmp_path / "copy"
    shutil.copytree(exported, folder)
    manifest = json.loads((folder / "onnx-fp16.json").read_text())
    shutil.copy(folder / "onnx-fp32.onnx", folder / "onnx-fp16.onnx")
    export(folder, image_cache)
    again = json.loads((folder / "onnx-fp16.json").read_text())
    assert again["sha256"] == manifest["sha256"] == artifacts.file_sha256(folder / "onnx-fp16.onnx")


@pytest.mark.parametrize("name", ["resnet18"])
def test_resnet18_has_the_sizes_of_its_baseline(rtbench, tmp_path, name):
    torch.manual_seed(1)
    torch.save(torchvision.models.get_model(name).state_dict(), tmp_path / "model.pt")
    write_images(tmp_path / "photos", 24)
    options = ("--runs", "20", "--calibration-images", "16", "--data", "photos", "--out", "run")
    done = rtbench("compare", "model.pt", *options, *ONCE)
    assert done.returncode == 0, done.stderr + done.stdout
    run = read_run(tmp_path / "run")
    assert run.model.arch == name
    size = {row.id: row.artifact.size_bytes / 2**20 for row in run.rows if row.artifact}
    assert 44.6 <= size["torch/fp32"] <= 44.7
    assert [round(size[f"ort/{precision}"], 1) for precision in ("fp32", "fp16", "int8")] == [44.6, 22.4, 11.3]
    scores = {row.id: row.scores for row in run.rows}
    for row_id, expected in (("torch/fp32", 1.0), ("ort/fp32", 1.0), ("ort/fp16", 2.0), ("ort/int8", 3.97)):
        assert scores[row_id].size == pytest.approx(expected, abs=0.02)
    for row in run.rows:
        assert row.latency is not None
        assert row.scores.latency == pytest.approx(23.5 / row.latency.mean_ms)
        assert row.scores.accuracy is None
        assert not row.scores.on_baseline_hardware


def test_an_optimiser_of_onnx_runtime_that_crashes_is_left_out_and_named(rtbench, tmp_path):
    """Vision transformers in FP16: microsoft/onnxruntime issue 28392."""
    torch.manual_seed(0)
    network = torchvision.models.VisionTransformer(16, 8, 1, 1, 8, 16, num_classes=10).eval()
    torch.nn.init.normal_(network.heads.head.weight)  # torchvision leaves it zero
    torch.save(network, tmp_path / "vit.pt")
    done = rtbench(
        *("compare", "vit.pt", "--trust-code", "--input-size", "16", "--runtimes", "ort", "--precisions", "fp16"),
        *("--runs", "10", "--out", "run", *ONCE),
    )
    assert done.returncode == 0, done.stderr + done.stdout
    (row,) = read_run(tmp_path / "run").rows
    code = f"import onnxruntime; onnxruntime.InferenceSession({str(tmp_path / row.artifact.path)!r})"
    crashes = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode < 0
    assert row.artifact.without == (CRASHING if crashes else [])
    assert row.settings.get("disabled_optimizers") == ("NchwcTransformer" if crashes else None)
    assert ("NchwcTransformer" in done.stdout) == crashes
