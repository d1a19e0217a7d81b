"""What is measured is what was hashed, whoever exports or writes meanwhile: real processes, real files."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from conftest import write_images
from PIL import Image

import rtbench as rtbench_api
from rtbench import artifacts
from rtbench.compare import run as comparing
from rtbench.compare.held import as_held, hold, keep
from rtbench.records.model import Artifact
from rtbench.runs.result import read_run
from rtbench.runs.samples import read_samples

SIDE = 16
INPUT = ("--trust-pickle", "--input-size", str(SIDE), "--resize", str(SIDE))
INT8 = ("--precisions", "int8", "--calibration-images", "8")
QUICK = ("--runs", "20", "--processes", "2", "--warmup", "0", "--patience", "0")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """Quick to export, and in INT8 another network for every calibration."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * SIDE * SIDE, 10)
    )
    path = tmp_path_factory.mktemp("model") / "small.pt"
    torch.save(network.eval(), path)
    return path


@pytest.fixture(scope="module")
def bright(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bright")
    write_images(folder, 8, SIDE)
    return folder


@pytest.fixture(scope="module")
def grey(tmp_path_factory) -> Path:
    """Pictures that say next to nothing about the ranges of others."""
    folder = tmp_path_factory.mktemp("grey")
    for index in range(8):
        Image.new("RGB", (SIDE, SIDE), (120 + index, 118, 104)).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def meanwhile(monkeypatch) -> Callable[[Callable[[], None]], None]:
    """Do something once all is prepared and hashed, before any worker has opened it."""

    def arrange(do: Callable[[], None]) -> None:
        read = comparing.read_environment

        def read_later(threads: int) -> object:
            do()
            return read(threads)

        monkeypatch.setattr(comparing, "read_environment", read_later)

    return arrange


@pytest.mark.slow
def test_an_export_into_the_same_folder_changes_nothing_that_is_measured(
    rtbench, tmp_path, model, bright, grey, ten_classes, image_cache, meanwhile, monkeypatch
):
    monkeypatch.chdir(tmp_path)

    def export_again() -> None:
        (folder,) = (tmp_path / "engines").iterdir()
        done = rtbench("export", model, *INPUT, *INT8, "--calibration", grey, "--out", folder)
        assert done.returncode in (0, 1), done.stderr  # 1 where such a calibration is found to be too bad

    meanwhile(export_again)
    run = rtbench_api.compare(
        model,
        out=tmp_path / "run",
        runtimes=("ort",),
        precisions=("int8",),
        data=ten_classes,
        calibration=bright,
        calibration_images=8,
        trust_pickle=True,
        input_size=SIDE,
        resize=SIDE,
        keep_artifacts=True,
        runs=20,
        processes=2,
        warmup=0,
        patience_s=0,
        cache_dir=image_cache,
    )
    (row,) = run.rows
    assert (row.status, row.reason) == ("ok", None)
    assert not artifacts.is_unchanged(tmp_path / row.artifact.path, row.artifact.sha256)
    assert artifacts.load_manifest(tmp_path / row.artifact.path).sha256 != row.artifact.sha256
    assert not (tmp_path / "run" / "against").exists()
    # The answers are those of the file that was kept, and not those of the one that is there now.
    kept = tmp_path / "run" / "artifacts" / row.artifact.sha256[:16] / "onnx-int8.onnx"
    answers = (tmp_path / "run" / "predictions" / "ort-int8.csv").read_text()
    for name, file in (("of-kept", kept), ("of-new", tmp_path / row.artifact.path)):
        done = rtbench("compare", file, *INPUT[1:], *QUICK, "--data", ten_classes, "--out", name)
        assert done.returncode == 0, done.stderr + done.stdout
        own = (tmp_path / name / "predictions" / "ort-int8.csv").read_text()
        assert (own == answers) == (name == "of-kept")


@pytest.mark.slow
def test_two_exports_into_one_folder_take_turns(tmp_path, model, bright, grey, image_cache):
    def export(calibration: Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "rtbench", "-v", "export", str(model), *INPUT, *INT8, "--out", "both"]
        more = ["--calibration", str(calibration), "--cache-dir", str(image_cache)]
        return subprocess.Popen([*command, *more], cwd=tmp_path, stderr=subprocess.PIPE, text=True)

    said = [each.communicate()[1] for each in [export(bright), export(grey)]]
    assert all("Traceback" not in each for each in said)
    for path in (tmp_path / "both").glob("*.onnx"):
        assert artifacts.is_unchanged(path, artifacts.load_manifest(path).sha256)
    assert [path.name for path in (tmp_path / "both").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("change", ["rewritten", "deleted"])
def test_a_file_of_the_users_that_changes_while_it_is_measured_fails_its_row(
    tmp_path, ten_classes, image_cache, meanwhile, change
):
    changing, steady = tmp_path / "changing.fake", tmp_path / "steady.fake"
    for path in (changing, steady):
        path.write_text(json.dumps({"latency_ms": [1.0]}))
    meanwhile(changing.unlink if change == "deleted" else lambda: changing.write_text('{"latency_ms": [9.0]}') and None)
    run = rtbench_api.compare(
        changing, steady, out=tmp_path / "run", data=ten_classes, cache_dir=image_cache, runs=10, patience_s=0
    )
    bad, well = run.rows
    assert bad.status == "failed"
    assert bad.reason == f"{changing} has changed since it was hashed; measure it again"
    assert bad.latency is None
    assert (well.status, well.latency.mean_ms) == ("ok", 1.0)


def an_artifact(path: Path, made_from: dict[str, str]) -> Artifact:
    path.write_bytes(b"content")
    return Artifact(
        path=str(path),
        format="onnx",
        precision="fp32",
        size_bytes=7,
        sha256=artifacts.file_sha256(path),
        made_from=made_from,
        tools={},
    )


def test_what_rtbench_made_is_held_without_a_copy(tmp_path):
    artifact = an_artifact(tmp_path / "onnx-fp32.onnx", {"model": "ab"})
    hold(artifact, tmp_path / "held")
    held = Path(as_held(artifact, tmp_path / "held").path)
    assert held.samefile(artifact.path)
    hold(artifact, tmp_path / "held")  # as when a run is taken up again
    Path(an_artifact(tmp_path / "new", {}).path).replace(artifact.path)
    artifacts.require_unchanged(as_held(artifact, tmp_path / "held"))


def test_what_the_user_made_is_measured_where_it_lies_and_kept_as_a_copy(tmp_path):
    artifact = an_artifact(tmp_path / "mine.onnx", {"file": "mine.onnx"})
    hold(artifact, tmp_path / "held")
    assert as_held(artifact, tmp_path / "held") == artifact
    assert not (tmp_path / "held").exists()
    kept = keep(artifact, Path(artifact.path), tmp_path / "kept")
    assert not kept.samefile(artifact.path)
    assert kept.read_bytes() == b"content"


def test_on_another_file_system_it_is_measured_where_it_lies(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(os, "link", refuse)
    artifact = an_artifact(tmp_path / "onnx-fp32.onnx", {"model": "ab"})
    hold(artifact, tmp_path / "held")
    assert as_held(artifact, tmp_path / "held") == artifact
    assert keep(artifact, Path(artifact.path), tmp_path / "kept").read_bytes() == b"content"


@pytest.mark.slow
def test_an_exporter_that_is_stopped_ends_the_run_after_the_timeout(tmp_path, model, image_cache):
    command = [sys.executable, "-m", "rtbench", "export", str(model), *INPUT, *INT8, "--timeout", "3", "--out", "made"]
    parent = subprocess.Popen(
        [*command, "--cache-dir", str(image_cache)], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    exporter = None
    while exporter is None:
        time.sleep(0.01)
        for child in psutil.Process(parent.pid).children():
            if "rtbench.export.exporter:Exporter" in child.cmdline():
                exporter = child
    exporter.send_signal(signal.SIGSTOP)
    said = parent.communicate(timeout=300)[1]
    assert parent.returncode == 1
    assert "did nothing for 3 s in load and was killed" in said
    assert said.count("\n") == 1
    assert not exporter.is_running()


@pytest.mark.parametrize("mine", ["model.json", "onnx-int8.onnx", "onnx-fp32.json"])
def test_a_file_of_the_users_in_the_way_is_told_before_any_work(rtbench, tmp_path, mine):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / mine).write_text('{"layers": 18}')
    done = rtbench("export", tmp_path / "absent.pt", "--out", "made")  # the model is not even looked for
    assert done.returncode == 2
    assert f"{Path('made') / mine} exists and was not made by this version of rtbench; move it away" in done.stderr
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "made" / mine).read_text() == '{"layers": 18}'
    assert [each.name for each in (tmp_path / "made").iterdir()] == [mine]


@pytest.mark.slow
def test_an_edited_manifest_changes_no_score(rtbench, tmp_path, model, ten_classes):
    def compare(name: str) -> object:
        done = rtbench(
            "compare", model, *INPUT, *INT8, *QUICK, "--runtimes", "ort", "--data", ten_classes, "--out", name
        )
        assert done.returncode == 0, done.stderr + done.stdout
        (row,) = read_run(tmp_path / name).rows
        return row

    before = compare("before")
    manifest = (tmp_path / before.artifact.path).with_suffix(".json")
    true = json.loads(manifest.read_text())
    lies = {"size_bytes": 1000, "dynamic_batch": False, "full_range": True, "calibration": None, "tools": {"x": "1"}}
    manifest.write_text(json.dumps(true | lies))
    after = compare("after")
    assert after.artifact == before.artifact
    assert after.scores.size == before.scores.size
    assert json.loads(manifest.read_text()) == true
    assert read_samples(tmp_path / "after")
