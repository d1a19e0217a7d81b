"""Networks of the user's own classes, which are built only where that is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rtbench.errors import UsageError
from rtbench.models.load import load_model
from rtbench.options import ModelOptions

SOURCE = """
import pathlib, torch
from parts import WIDTH

pathlib.Path(__file__).with_name("ran").touch()

class Pruned(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(3, WIDTH, 3, stride=4)
        self.head = torch.nn.Linear(WIDTH, 10)

    def forward(self, batch):
        return self.head(torch.relu(self.first(batch)).mean((2, 3)))

def build():
    torch.manual_seed(0)
    return Pruned()

def nothing():
    return 7

def broken():
    raise RuntimeError("no weights here")
"""


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pruned.py").write_text(SOURCE)
    (tmp_path / "parts.py").write_text("WIDTH = 8")
    torch.manual_seed(4)
    state = {
        "first.weight": torch.randn(8, 3, 3, 3), "first.bias": torch.randn(8),
        "head.weight": torch.randn(10, 8), "head.bias": torch.randn(10),
    }  # fmt: skip
    torch.save({"model": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "pruned.pth")
    return tmp_path / "pruned.pth"


def test_code_is_run_only_on_request(weights: Path) -> None:
    with pytest.raises(UsageError, match=r"pruned.py:build is code of your own.*--trust-code"):
        load_model(str(weights), ModelOptions(arch="pruned.py:build"))
    assert not (weights.parent / "ran").exists()


@pytest.mark.parametrize("arch", ["pruned.py:build", "pruned:build"])
def test_a_file_or_a_module_gives_the_network_of_a_state_dict(weights: Path, arch: str) -> None:
    loaded = load_model(str(weights), ModelOptions(arch=arch, trust_code=True))
    assert (loaded.record.classes, loaded.kind) == (10, "state_dict")
    state = {key.removeprefix("module."): value for key, value in torch.load(weights)["model"].items()}
    batch = np.random.default_rng(0).standard_normal((2, 3, 64, 64), dtype=np.float32)
    features = torch.nn.functional.conv2d(torch.from_numpy(batch), state["first.weight"], state["first.bias"], stride=4)
    expected = torch.relu(features).mean((2, 3)) @ state["head.weight"].T + state["head.bias"]
    np.testing.assert_allclose(loaded.logits(batch), expected.numpy(), atol=1e-4)


def test_other_code_for_the_same_weights_is_another_model(weights: Path) -> None:
    options = ModelOptions(arch="pruned.py:build", trust_code=True)
    first = load_model(str(weights), options).record.sha256
    assert load_model(str(weights), options).record.sha256 == first
    path = weights.parent / "pruned.py"
    path.write_text(SOURCE.replace("torch.relu", "torch.tanh"))
    assert load_model(str(weights), options).record.sha256 != first


@pytest.mark.parametrize(
    ("arch", "words"),
    [
        ("absent.py:build", r"absent.py does not exist; name a file and a function in it"),
        ("pruned.py:nothing", r"gives a int, not a torch.nn.Module"),
        ("pruned.py:broken", r"fails in its own code: no weights here"),
        ("pruned.py:absent", r"fails in its own code: module 'pruned' has no attribute 'absent'"),
        ("no_such_package:build", r"fails in its own code: No module named 'no_such_package'"),
    ],
)
def test_code_that_gives_no_network_is_told_in_a_sentence(weights: Path, arch: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load_model(str(weights), ModelOptions(arch=arch, trust_code=True))


def test_weights_that_do_not_fit_are_told(weights: Path) -> None:
    (weights.parent / "parts.py").write_text("WIDTH = 9")
    (weights.parent / "narrow.py").write_text(SOURCE.replace("from parts import WIDTH", "WIDTH = 9"))
    with pytest.raises(
        UsageError, match=r"does not fit .*narrow.py:build: first.weight is \[8, 3, 3, 3\], expected \[9"
    ):
        load_model(str(weights), ModelOptions(arch="narrow.py:build", trust_code=True))


@pytest.mark.slow
def test_it_is_compared_as_any_other(quickly, weights: Path) -> None:
    options = ("--arch", "pruned.py:build", "--trust-code", "--runtimes", "torch,ort", "--precisions", "fp32")
    result = quickly(weights, *options)
    assert [(row["id"], row["status"]) for row in result["rows"]] == [("torch/fp32", "ok"), ("ort/fp32", "ok")]
