"""Every runtime keeps the contract of a session, and `rtbench.testing` notices one that does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import write_images

import rtbench
from rtbench.compare.prepared import Prepared
from rtbench.errors import RuntimeUnavailable
from rtbench.records.model import Artifact
from rtbench.runtimes import SessionInfo
from rtbench.runtimes.known import choose, load_runtime
from rtbench.testing import check_runtime, network

SIDE, CLASSES = 32, 7


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("contract")
    torch.manual_seed(0)
    torch.save(network(CLASSES), folder / "m.pt")
    write_images(folder / "images", 8)
    return rtbench.export(
        folder / "m.pt", out=folder / "out", trust_code=True, input_size=SIDE, calibration=folder / "images"
    )


def artifact_of(prepared: Prepared, kind: str, precision: str) -> Artifact:
    return next(each for each in prepared.artifacts if (each.format, each.precision) == (kind, precision))


@pytest.mark.parametrize(
    ("written", "precision"),
    [
        ("torch", "fp32"),
        ("torch+channels_last", "fp32"),
        ("torch+compile", "fp32"),
        *((runtime, precision) for runtime in ("ort", "openvino") for precision in ("fp32", "fp16", "int8")),
    ],
)
def test_every_runtime_keeps_the_contract(prepared: Prepared, written: str, precision: str) -> None:
    if written == "openvino":
        pytest.importorskip("openvino")
    choice = choose(written, gpu=False)
    kind = "pickle" if choice.runtime.name == "torch" else "onnx"
    check_runtime(
        load_runtime(choice.runtime.name),
        artifact_of(prepared, kind, precision),
        prepared.model,
        variants=choice.words(precision),
    )


class Sum:
    """A network of its own: the sums of the channels, times a row of weights, and what is wrong with it by `fault`."""

    scripted_clock = None

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self.info = SessionInfo(provider="" if fault == "provider" else "sums", device="cpu", settings={})
        self._kept = np.zeros((1, CLASSES), dtype=np.float32)
        self._open = os.open(os.devnull, os.O_RDONLY) if fault == "leak" else None

    def bind(self, batch: np.ndarray) -> None:
        if self._fault == "input":
            batch *= 2
        self._batch = batch[:1] if self._fault == "batch" else batch

    def run(self) -> None:
        sums = self._batch.sum((1, 2, 3))
        if self._fault == "NaN":
            sums = np.nan_to_num(sums)
        made = (sums[:, None] * np.arange(1, CLASSES + 1)).astype(np.float32)
        if self._fault == "same":
            made[:] = 1
        if self._fault == "owned" and len(made) == 1:
            self._kept[:] = made
            made = self._kept
        self._output = made

    def fetch(self) -> np.ndarray:
        match self._fault:
            case "dtype":
                return self._output.astype(np.float64)
            case "shape":
                return self._output[:, :-1]
        return self._output

    def close(self) -> None:
        pass


def sums(fault: str = "") -> SimpleNamespace:
    opened = []

    def open_session(artifact: Artifact, *_: object) -> Sum:
        if fault != "damaged" and "damaged" in artifact.path:
            raise RuntimeUnavailable("no driver") if fault == "unavailable" else ValueError("damaged")
        opened.append(Sum(fault))
        return opened[-1]

    return SimpleNamespace(
        probe=lambda device: "" if fault == "probe" else device, ready=lambda *_: None, open_session=open_session
    )


def test_a_runtime_that_keeps_the_contract_passes(prepared: Prepared) -> None:
    check_runtime(sums(), artifact_of(prepared, "onnx", "fp32"), prepared.model)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("probe", "says nothing of what would run"),
        ("provider", "does not say what executes"),
        ("input", "the input was changed"),
        ("dtype", "is float64, not float32"),
        ("shape", r"has shape \(1, 6\), expected \(1, 7\)"),
        ("owned", "an output changed with the next run"),
        ("same", "two images gave the very same output"),
        ("batch", "a batch of 2 gave 1 outputs"),
        ("NaN", "NaN in the input is not in the output"),
        ("leak", "left 20 files open"),
        ("damaged", "a damaged artifact was opened"),
        ("unavailable", "a damaged artifact is called unavailable"),
    ],
)
def test_what_breaks_the_contract_is_named(prepared: Prepared, fault: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_runtime(sums(fault), artifact_of(prepared, "onnx", "fp32"), prepared.model)


def test_every_artifact_is_left_as_it_was(prepared: Prepared) -> None:
    assert not list(Path(prepared.artifacts[0].path).parent.glob("damaged-*"))


@pytest.mark.parametrize(("arch", "imported"), [("resnet18", True), ("efficientnet_lite0", False)])
def test_packages_are_imported_before_loading_is_timed(arch: str, imported: bool) -> None:
    """Torchvision alone takes two seconds, which the built-in sample's network does without."""
    code = f"""
import sys
from types import SimpleNamespace
from rtbench.measure.sessions import SessionHost
SessionHost(print).ready("torch", "cpu", SimpleNamespace(format="state_dict"), SimpleNamespace(arch={arch!r}))
print("torchvision" in sys.modules)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == f"{imported}\n"
