"""Packages that add runtimes and exporters: the template, one with a format of its own, and broken ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import write_images

from rtbench.testing import network

TEMPLATE = Path(__file__).resolve().parents[1] / "examples" / "plugin"
SIDE, CLASSES = 32, 7
MINE = {
    "mine.py": """
from rtbench.export.known import Exporter
from rtbench.runtimes.known import Runtime

RUNTIME = Runtime("mine", "mine_session", frozenset({"copy"}), ("fp32", "int8"), ("cpu",))
EXPORTER = Exporter("copy", "mine_export", ".copy", ("fp32", "int8"), "onnx", ("onnx",))
""",
    "mine_export.py": """
import shutil
from rtbench.errors import ExportFailed


def export(source, model, precision, images, path):
    if precision == "int8":
        raise ExportFailed(f"copies are not made in INT8, from {len(list(images))} images")
    shutil.copyfile(source, path)
    return {"dynamic_batch": False}
""",
    "mine_session.py": """
from rtbench.runtimes.ort import OrtSession, probe


def ready(artifact, device):
    pass


def open_session(artifact, model, device, threads, trust_code, variants=()):
    return OrtSession(artifact, "cpu", threads)
""",
}


def install(folder: Path, files: dict[str, str], points: str) -> Path:
    """A package as pip leaves it: its modules, and its entry points beside them."""
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "made-1.0.dist-info").mkdir()
    (folder / "made-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: made\nVersion: 1.0\n")
    (folder / "made-1.0.dist-info" / "entry_points.txt").write_text(points)
    return folder


def run(*arguments: str | Path, path: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(path), "XDG_CACHE_HOME": str(cwd / "cache")}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template, installed by pip."""
    target = tmp_path_factory.mktemp("template") / "site"
    quiet = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "install", *quiet, "--target", target, TEMPLATE]
    subprocess.run(command, check=True)
    return target


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save(network(CLASSES), tmp_path / "m.pt")
    write_images(tmp_path / "images", 6)
    return tmp_path / "m.pt"


def compare(model: Path, path: Path, *options: str) -> tuple[subprocess.CompletedProcess[str], dict]:
    folder = model.parent
    quick = ("--runs", "5", "--processes", "1", "--patience", "0", "--trust-code", "--input-size", str(SIDE))
    images = ("--data", "images", "--calibration", "images", "--out", "run")
    done = run("-m", "rtbench", "compare", model.name, *quick, *images, *options, path=path, cwd=folder)
    assert (folder / "run" / "result.json").exists(), done.stderr
    rows = json.loads((folder / "run" / "result.json").read_text())["rows"]
    return done, {row["id"]: row for row in rows}


def test_the_template_passes_its_own_test(template: Path, tmp_path: Path) -> None:
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", TEMPLATE / "tests", path=template, cwd=tmp_path)
    assert done.returncode == 0, done.stdout


def test_the_template_is_a_runtime_like_any_other(template: Path, model: Path) -> None:
    done, rows = compare(model, template, "--runtimes", "torch,reference", "--precisions", "fp32")
    assert (done.returncode, [*rows]) == (0, ["torch/fp32", "reference/fp32"])
    row = rows["reference/fp32"]
    assert (row["status"], row["fidelity"]["verdict"]) == ("ok", "follows the model")
    assert row["provider"].startswith("onnx ")
    found = run("-m", "rtbench", "doctor", path=template, cwd=model.parent)
    assert "reference" in found.stdout
    assert "fake" not in found.stdout


def test_an_exporter_makes_the_artifacts_of_its_runtime(model: Path, tmp_path: Path) -> None:
    points = "[rtbench.runtimes]\nmine = mine:RUNTIME\n[rtbench.exporters]\ncopy = mine:EXPORTER\n"
    path = install(tmp_path / "site", MINE, points)
    done, rows = compare(model, path, "--runtimes", "torch,mine", "--precisions", "fp32,int8")
    assert done.returncode == 1
    artifact = rows["mine/fp32"]["artifact"]
    assert (artifact["format"], Path(artifact["path"]).suffix, artifact["dynamic_batch"]) == ("copy", ".copy", False)
    assert artifact["check"]["status"] == "ok"
    assert rows["mine/fp32"]["status"] == "ok"
    assert rows["mine/int8"]["status"] == "failed"
    assert rows["mine/int8"]["reason"] == "export: copies are not made in INT8, from 6 images"
    flags = ("--trust-code", "--input-size", str(SIDE), "--calibration", "images", "--out", "out")
    made = run("-m", "rtbench", "export", "m.pt", *flags, "--formats", "copy", path=path, cwd=tmp_path)
    assert "copy/fp32" in made.stdout, made.stderr
    assert (tmp_path / "out" / "copy-fp32.copy").exists()
    wrong = run("-m", "rtbench", "export", "m.pt", *flags, "--formats", "copie", path=path, cwd=tmp_path)
    assert (wrong.returncode, wrong.stderr) == (
        2,
        "rtbench: there is no format 'copie'; there are onnx, trt, tflite, copy\n",
    )


def test_a_broken_package_is_named_and_harms_nothing_else(tmp_path: Path) -> None:
    files = {"mine.py": "RUNTIME = 'text'\n", "worse.py": "raise OSError('no library')\n"}
    points = "[rtbench.runtimes]\nmine = mine:RUNTIME\nworse = worse:RUNTIME\n"
    path = install(tmp_path / "site", files, points)
    (tmp_path / "m.fake").write_text(json.dumps({"latency_ms": [1.0]}))
    write_images(tmp_path / "images", 2)
    known = run("-m", "rtbench", "doctor", path=path, cwd=tmp_path)
    assert known.returncode == 0
    assert "worse:RUNTIME cannot be loaded: OSError: no library" in " ".join(known.stdout.split())
    assert "mine:RUNTIME is not a Runtime of that name" in " ".join(known.stdout.split())
    refused = run("-m", "rtbench", "compare", "m.fake", "--runtimes", "worse", path=path, cwd=tmp_path)
    assert (refused.returncode, refused.stderr) == (
        2,
        "rtbench: the runtime worse is broken: worse:RUNTIME cannot be loaded: OSError: no library; install its package"
        " again\n",
    )
