"""A runtime whose package is missing, of a wrong version, or kills or stops its process ends its own row alone.

TensorFlow reads the model too, so that its row is only tried with faults of the row's own process.
"""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

pytest.importorskip("openvino")
pytest.importorskip("ai_edge_litert")
from test_given_onnx import SIDE, graph

QUICK = ("--runs", "5", "--processes", "1", "--patience", "0", "--threads", "1", "--format", "csv", "--out", "run")
FAULTS = {
    "missing": "raise ModuleNotFoundError('none')",
    "of a wrong version": "raise ImportError('libc.so.6: version too old')",
    "killed": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "hung": "import time; time.sleep(600)",
}
ENDS = {
    "missing": ("unavailable", "not installed; pip install"),
    "of a wrong version": ("unavailable", "cannot be imported: libc.so.6: version too old; pip install"),
    "killed": ("failed", "SIGKILL"),
    "hung": ("failed", "no answer"),
}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch):
    def make(package: str, fault: str) -> None:
        folder = tmp_path / "site" / package
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(FAULTS[fault])
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))

    return make


def rows_of(text: str) -> dict[str, dict[str, str]]:
    return {line["row"]: line for line in csv.DictReader(text.splitlines())}


@pytest.mark.parametrize("fault", FAULTS)
def test_openvino(rtbench, broken, tmp_path: Path, fault: str) -> None:
    graph(tmp_path / "m.onnx")
    broken("openvino", fault)
    more = ("--timeout", "20") if fault == "hung" else ()
    done = rtbench("compare", "m.onnx", "--runtimes", "ort,openvino", "--input-size", str(SIDE), *QUICK, *more)
    rows = rows_of(done.stdout)
    assert rows["ort/fp32"]["status"] == "ok", done.stderr
    status, said = ENDS[fault]
    assert rows["openvino/fp32"]["status"] == status
    assert said in rows["openvino/fp32"]["reason"]


def compared(rtbench, networks: Path, tmp_path: Path, fault: str) -> dict[str, dict[str, str]]:
    """A SavedModel on both runtimes of TensorFlow's, one of which is broken."""
    shutil.copytree(networks / "small", tmp_path / "m")
    more = ("--timeout", "60") if fault == "hung" else ()
    done = rtbench("compare", "m", "--runtimes", "tf,litert", "--precisions", "fp32", *QUICK, *more)
    assert done.returncode in (0, 1), done.stderr
    return rows_of(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_litert(rtbench, broken, networks: Path, tmp_path: Path, fault: str) -> None:
    broken("ai_edge_litert", fault)
    rows = compared(rtbench, networks, tmp_path, fault)
    assert rows["tf/fp32"]["status"] == "ok"
    status, said = ENDS[fault]
    assert rows["litert/fp32"]["status"] == status
    assert said in rows["litert/fp32"]["reason"]


ONLY_IN_THE_ROW = """
import sys
class Fault:
    def find_spec(self, name, path=None, target=None):
        if name == "rtbench.runtimes.tf":
            {fault}
sys.meta_path.insert(0, Fault())
"""


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["killed", "hung"])
def test_tf(rtbench, networks: Path, tmp_path: Path, monkeypatch, fault: str) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(ONLY_IN_THE_ROW.format(fault=FAULTS[fault]))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    rows = compared(rtbench, networks, tmp_path, fault)
    assert rows["litert/fp32"]["status"] == "ok"
    status, said = ENDS[fault]
    assert rows["tf/fp32"]["status"] == status
    assert said in rows["tf/fp32"]["reason"]
