"""When processes begin, and that none is left."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import psutil
import pytest
import torch

import rtbench
from rtbench import worker
from rtbench.errors import UsageError
from rtbench.export.opening import framework_of

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.trace:FutureWarning")


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = torch.nn.Conv2d(3, 10, 7, stride=7)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.features(images).mean((2, 3))


@pytest.fixture
def scripted(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "small.pt"
    torch.jit.trace(Network().eval(), torch.zeros(1, 3, 224, 224)).save(path)
    return path


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens to processes, in its order: their starts, by the name of their log, and their calls."""
    events: list[str] = []
    start, begin = worker.Worker.__init__, worker.Worker.begin

    def note_start(self, host, *, log, **options):
        self.name = log.stem
        events.append(f"start {self.name}")
        start(self, host, log=log, **options)

    def note_call(self, method, *arguments, **options):
        events.append(f"{self.name} {method}")
        begin(self, method, *arguments, **options)

    monkeypatch.setattr(worker.Worker, "__init__", note_start)
    monkeypatch.setattr(worker.Worker, "begin", note_call)
    return events


def compare(model: Path, data: Path, folder: Path, **options: object) -> rtbench.Run:
    settings = {"data": data, "runs": 50, "processes": 2, "warmup": 0, "patience_s": 0, "cache_dir": folder / "cache"}
    return rtbench.compare(model, out=folder / "run", **settings, **options)


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def test_the_models_own_process_imports_while_the_model_is_loaded(scripted, ten_classes, tmp_path, started):
    before = children()
    run = compare(scripted, ten_classes, tmp_path, runtimes=("torch", "ort"), precisions=("fp32",), trust_code=True)
    assert [row.status for row in run.rows] == ["ok", "ok"]
    assert started.index("torch-fp32 import_early") < started.index("export load")
    assert started.index("export load") < started.index("torch-fp32 ready") < started.index("torch-fp32 open")
    # One process of this row for each of the two that it is timed in: the early one is the first.
    assert started.count("start torch-fp32") == started.count("start ort-fp32") == 2
    assert children() == before


def test_an_early_process_that_dies_is_started_anew(scripted, ten_classes, tmp_path, started, monkeypatch):
    early, begin = [], worker.Worker.begin

    def kill_early(self, method, *arguments):
        begin(self, method, *arguments)
        if method == "import_early":
            early.append(self)
        if (self.name, method) == ("export", "load"):
            os.kill(early[0].pid, signal.SIGKILL)

    monkeypatch.setattr(worker.Worker, "begin", kill_early)
    run = compare(scripted, ten_classes, tmp_path, runtimes=("torch",), precisions=("fp32",), trust_code=True)
    assert [(row.status, row.latency.runs) for row in run.rows] == [("ok", 50)]
    assert started.count("start torch-fp32") == 3


def test_an_early_process_that_cannot_be_started_ends_nothing(scripted, ten_classes, tmp_path, monkeypatch):
    start = worker.subprocess.Popen

    def none_before_the_export(command, **options):
        if "rtbench.worker" in command and not (tmp_path / "run" / "logs" / "export.log").exists():
            raise OSError(errno.EMFILE, "Too many open files")
        return start(command, **options)

    monkeypatch.setattr(worker.subprocess, "Popen", none_before_the_export)
    run = compare(scripted, ten_classes, tmp_path, runtimes=("torch",), precisions=("fp32",), trust_code=True)
    assert [row.status for row in run.rows] == ["ok"]


def test_a_package_that_the_model_does_not_need_may_be_broken(scripted, ten_classes, tmp_path, monkeypatch):
    (tmp_path / "site" / "torchvision").mkdir(parents=True)
    (tmp_path / "site" / "torchvision" / "__init__.py").write_text("raise RuntimeError('built for another torch')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    run = compare(scripted, ten_classes, tmp_path, runtimes=("torch",), precisions=("fp32",), trust_code=True)
    assert [row.status for row in run.rows] == ["ok"]


def test_a_model_that_is_refused_leaves_no_process(ten_classes, tmp_path, started):
    before = children()
    (tmp_path / "broken.pt").write_bytes(b"this is not a model")
    with pytest.raises(UsageError):
        compare(tmp_path / "broken.pt", ten_classes, tmp_path)
    assert "start torch-fp32" in started
    assert children() == before
    assert not (tmp_path / "run").exists()


def test_no_framework_is_imported_for_a_file_that_is_an_artifact(tmp_path, ten_classes, started):
    (tmp_path / "one.fake").write_text("{}")
    run = compare(tmp_path / "one.fake", ten_classes, tmp_path)
    assert [row.status for row in run.rows] == ["ok"]
    assert not [event for event in started if "import_early" in event]


@pytest.mark.parametrize(
    ("source", "framework"),
    [
        ("resnet18", "torch"),
        ("model.pt", "torch"),
        ("model.keras", "tensorflow"),
        ("https://tfhub.dev/some/model", "tensorflow"),
        ("model.onnx", None),
        ("model.tflite", None),
        ("model.plan", None),
    ],
)
def test_which_framework_loads_a_model_is_known_before(source, framework):
    assert framework_of(source) == framework
