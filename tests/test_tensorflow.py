"""TensorFlow's models from the command line: to ONNX and TFLite, on every runtime that takes them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import write_images

from rtbench.errors import RuntimeUnavailable, UsageError
from rtbench.export import tools
from rtbench.models.tensorflow import HUB
from rtbench.testing import network

pytest.importorskip("ai_edge_litert")

CLASSES = 7
QUICK = ("--runs", "5", "--processes", "1", "--patience", "0", "--threads", "1")


@pytest.mark.slow
def test_tensorflow_by_itself() -> None:
    """In a process that does not load PyTorch's compiler: the two bring LLVM twice, and crash."""
    tests = Path(__file__).with_name("tensorflow_alone.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", tests]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]


def rows_of(run: dict) -> dict[str, dict]:
    return {row["id"]: row for row in run["rows"]}


@pytest.mark.slow
def test_a_saved_model_on_every_runtime(rtbench, networks: Path, tmp_path: Path) -> None:
    done = rtbench("compare", networks / "small", "--runtimes", "tf,litert,ort", *QUICK, "--out", "run")
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "run/result.json").read_text())
    rows = rows_of(run)
    precisions = ("fp32", "fp16", "int8")
    assert list(rows) == ["tf/fp32", *(f"{name}/{each}" for name in ("litert", "ort") for each in precisions)]
    for name, row in rows.items():
        assert row["status"] == "ok", (name, row["reason"])
        assert row["fidelity"]["judged"], name
        assert row["fidelity"]["relative_error"] < {"fp32": 1e-4, "fp16": 0.01, "int8": 0.3}[row["precision"]], name
    assert rows["tf/fp32"]["scores"]["speedup_vs_torch"] == 1.0
    assert rows["litert/fp16"]["warnings"][0].endswith("ran in FP32, not fp16")
    assert rows["litert/int8"]["artifact"]["calibration"]["images"] == 256
    assert "vs tf" in done.stdout
    assert "vs torch" not in (tmp_path / "run/report.md").read_text()
    # the folder that it was exported to is the same model
    folder = next((tmp_path / "engines").iterdir())
    done = rtbench("compare", folder, "--runtimes", "tf", *QUICK, "--out", "again")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "again/result.json").read_text())["models"][0]["sha256"] == run["models"][0]["sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["small.keras", "small.h5", "small.tflite", "uint8.tflite"])
def test_files_are_compared_by_default_on_what_runs_them(rtbench, networks: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(networks / name, tmp_path / name)
    done = rtbench("compare", name, *QUICK, "--precisions", "fp32", "--out", "run")
    assert done.returncode == 0, done.stderr
    rows = rows_of(json.loads((tmp_path / "run/result.json").read_text()))
    kept = {"uint8.tflite": ["litert/int8"], "small.tflite": ["litert/fp32"]}
    assert list(rows) == kept.get(name, ["tf/fp32", "litert/fp32", "ort/fp32"])
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert (tmp_path / name).read_bytes() == (networks / name).read_bytes()


@pytest.mark.slow
def test_probabilities_are_compared_as_such(rtbench, networks: Path, tmp_path: Path) -> None:
    done = rtbench("compare", networks / "softmax", "--precisions", "fp32,fp16", *QUICK, "--out", "run")
    assert done.returncode == 0, done.stderr
    rows = rows_of(json.loads((tmp_path / "run/result.json").read_text()))
    assert {row["status"] for row in rows.values()} == {"ok"}


@pytest.mark.slow
def test_the_first_of_1001_classes_is_the_background(rtbench, networks: Path, tmp_path: Path) -> None:
    """A network that answers "goldfish", on two goldfish and three tenches."""
    for wnid, count in (("n01443537", 2), ("n01440764", 3)):
        write_images(tmp_path / "val" / wnid, count)
    done = rtbench("compare", networks / "background", "--data", "val", "--precisions", "fp32", *QUICK, "--out", "run")
    assert done.returncode == 0, done.stderr
    rows = rows_of(json.loads((tmp_path / "run/result.json").read_text()))
    assert {row["accuracy"]["top1"] for row in rows.values()} == {2 / 5}
    assert "the first of 1001 outputs is the background" in " ".join((tmp_path / "run/report.md").read_text().split())


@pytest.mark.slow
def test_a_pytorch_model_becomes_tflite_with_a_tool(rtbench, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(network(CLASSES), tmp_path / "m.pt")
    model = ("m.pt", "--trust-code", "--input-size", "32", "--runtimes", "torch,litert", "--precisions", "fp32,int8")
    done = rtbench("compare", *model, *QUICK, "--out", "without")
    rows = rows_of(json.loads((tmp_path / "without/result.json").read_text()))
    assert rows["torch/fp32"]["status"] == "ok", done.stderr
    assert rows["litert/int8"]["status"] == "unavailable"
    assert rows["litert/int8"]["reason"] == "onnx2tf is not installed; rtbench tools install onnx2tf"

    done = rtbench("tools", "install", "onnx2tf")
    assert done.returncode == 0, done.stderr
    assert "not installed" not in rtbench("tools", "list").stdout
    done = rtbench("compare", *model, *QUICK, "--out", "with")
    assert done.returncode == 0, done.stderr
    rows = rows_of(json.loads((tmp_path / "with/result.json").read_text()))
    errors = {name: row["fidelity"]["relative_error"] for name, row in rows.items()}
    assert errors["litert/fp32"] < 1e-4
    assert errors["litert/int8"] < 0.3


def test_a_tool_that_pip_cannot_install_is_one_sentence(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "pins.txt").write_text("rtbench-there-is-no-such-package==1\n")
    monkeypatch.setattr(tools, "_pins", lambda _: tmp_path / "pins.txt")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UsageError, match="onnx2tf cannot be installed: Could not find a version"):
        tools.install("onnx2tf")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    with pytest.raises(RuntimeUnavailable, match="onnx2tf is not installed; rtbench tools install onnx2tf"):
        tools.use("onnx2tf")


def test_there_is_no_other_tool(rtbench) -> None:
    done = rtbench("tools", "install", "pip")
    assert (done.returncode, done.stderr) == (2, "rtbench: there is no tool 'pip'; there are onnx2tf\n")


def test_without_tensorflow_it_is_one_sentence(rtbench, networks: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "site" / "tensorflow").mkdir(parents=True)
    (tmp_path / "site" / "tensorflow" / "__init__.py").write_text("raise ModuleNotFoundError('none')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    done = rtbench("compare", networks / "small", *QUICK)
    assert done.returncode == 2
    assert done.stderr.strip() == "rtbench: tensorflow is not installed; pip install 'rtbench[tf]'"


def test_offline_the_hub_is_one_sentence(rtbench, monkeypatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    done = rtbench("compare", f"{HUB}google/imagenet/resnet_v1_50/classification/5", "--preprocess", "tf", *QUICK)
    assert done.returncode == 2
    assert "cannot be downloaded (" in done.stderr
    assert done.stderr.strip().endswith("; download it elsewhere, unpack it, and name its folder")
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_trained_network_loses_nothing_on_the_way(rtbench, imagenet_sample: Path, tmp_path: Path) -> None:
    """EfficientNet-Lite0's own weights: PyTorch has 442 of these 500 right, and 437 are asked of INT8."""
    pytest.importorskip("openvino")
    assert rtbench("tools", "install", "onnx2tf").returncode == 0
    names = ("--runtimes", "torch,ort,openvino,litert", "--precisions", "fp32,int8")
    quick = ("--runs", "5", "--processes", "1", "--patience", "0")
    done = rtbench("compare", "efficientnet_lite0", *names, "--data", imagenet_sample, *quick, "--out", "run")
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "run/result.json").read_text())
    right = {row["id"]: round(row["accuracy"]["top1"] * 500) for row in run["rows"]}
    assert {right[f"{name}/fp32"] for name in ("torch", "ort", "openvino", "litert")} == {442}
    assert min(right[f"{name}/int8"] for name in ("ort", "openvino", "litert")) >= 437
