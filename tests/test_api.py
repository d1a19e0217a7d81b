"""`import rtbench`: its functions, and the records that they return."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import torch
import torchvision
from conftest import write_images

import rtbench
from rtbench.errors import UsageError
from rtbench.records.run import Run

PROGRESS: list[tuple[str, int, int]] = []


@pytest.fixture(scope="module")
def kept(tmp_path_factory, ten_classes) -> tuple[Run, Path]:
    """A comparison of one file twice, and its run directory."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "one.fake").write_text(json.dumps({"latency_ms": [1.5, 2.5]}))
    run = rtbench.compare(
        folder / "one.fake",
        folder / "one.fake",
        data=ten_classes,
        runs=40,
        out=folder / "run",
        cache_dir=folder / "cache",
        progress=lambda *what: PROGRESS.append(what),
    )
    return run, folder / "run"


def test_compare_returns_what_it_keeps(kept):
    run, folder = kept
    assert isinstance(run, Run)
    assert rtbench.load_run(folder) == run
    files = {path.name for path in folder.iterdir()}
    assert files >= {"result.json", "samples.csv", "results.csv", "report.md", "report.html"}
    assert run.rows[0].latency.mean_ms == pytest.approx(2.0)
    assert any(phase == "latency" and (done, total) == (80, 80) for phase, done, total in PROGRESS)


def test_to_pandas_has_a_row_a_row(kept):
    run, _ = kept
    table = run.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert list(table["id"]) == ["one/fake/fp32", "one-2/fake/fp32"]
    assert list(table["latency.mean_ms"]) == [row.latency.mean_ms for row in run.rows]
    assert table["artifact.sha256"][0] == run.rows[0].artifact.sha256


def test_to_pandas_without_pandas_says_so(kept, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pip install pandas"):
        kept[0].to_pandas()


def test_bad_input_raises_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"absent\.pt does not exist"):
        rtbench.compare("absent.pt")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="is not a run directory"):
        rtbench.load_run(tmp_path)


@pytest.mark.parametrize(
    "first", ["import rtbench.compare.run, rtbench.export.onnx", "from rtbench.compare.run import compare", ""]
)
def test_the_functions_are_there_whatever_was_imported_before(first):
    code = f"{first}\nimport rtbench\nprint(rtbench.compare.__module__, rtbench.export.__module__, rtbench.load_run)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("rtbench.api rtbench.api <function load_run")


def test_importing_the_package_imports_nothing_else():
    code = "import sys; import rtbench; print(len([name for name in sys.modules if name.startswith('rtbench')]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_names_are_listed_and_unknown_ones_refused():
    assert {"compare", "export", "load_run"} <= set(dir(rtbench))
    with pytest.raises(AttributeError, match="has no attribute 'benchmark'"):
        _ = rtbench.benchmark


def test_export_returns_the_artifacts_that_it_wrote(tmp_path, monkeypatch):
    """The state dict alone: what else it makes is the same that `rtbench export` does."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_1(num_classes=10).state_dict(), tmp_path / "small.pt")
    made = rtbench.export(tmp_path / "small.pt", precisions=[], out=tmp_path / "artifacts")
    (artifact,) = made.artifacts
    assert (artifact.format, artifact.precision) == ("state_dict", "fp32")
    assert (tmp_path / "artifacts" / "torch-fp32.pt").stat().st_size == artifact.serialised_bytes
    assert (tmp_path / "small.pt").stat().st_size == artifact.size_bytes
    assert made.model.arch == "squeezenet1_1"
    assert made.failures == {}


def test_diff_and_history_are_those_of_the_command_line(kept):
    run, folder = kept
    changes = rtbench.diff(folder, folder)
    assert [row.id for row in changes.rows] == [row.id for row in run.rows]
    assert {row.latency.change for row in changes.rows if row.latency} == {0.0}
    found = rtbench.history(folder.parent)
    assert [(point.run, point.row) for point in found.points] == [("run", row.id) for row in run.rows]
    with pytest.raises(UsageError, match="is not a folder"):
        rtbench.history(folder / "missing")


def test_the_page_about_the_api_runs_as_it_stands(tmp_path):
    """Its first block, in a folder with the model and the photographs that it names."""
    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_1(num_classes=3).state_dict(), tmp_path / "model.pt")
    write_images(tmp_path / "photos", 6)
    page = (Path(__file__).resolve().parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
    code = (
        page.split("```python\n")[1].split("```")[0].replace("runs=200", 'runs=20, arch="squeezenet1_1", patience_s=0')
    )
    code = code.replace('export("model.pt"', 'export("model.pt", arch="squeezenet1_1"')
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch/fp32" in done.stdout
    assert "onnx-int8.onnx" in done.stdout
