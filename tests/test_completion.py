"""What bash completes, as it asks for it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("compare --runtimes t", {"torch", "torch:cpu", "torch:cuda", "torch+compile", "trt"}),
        ("compare --runtimes torch,o", {"torch,ort", "torch,ort:cuda", "torch,openvino"}),
        ("compare --precisions fp32,b", {"fp32,bf16"}),
        ("export --formats o", {"onnx"}),
        ("compare --arch resnet1", {"resnet18", "resnet101", "resnet152"}),
    ],
)
def test_names_are_completed(words: str, expected: set[str]) -> None:
    asked = {"_RTBENCH_COMPLETE": "complete_bash", "COMP_WORDS": f"rtbench {words}", "COMP_CWORD": "3"}
    code = "import sys; sys.argv = ['rtbench']; from rtbench.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    found = {line.split("\t")[0] for line in done.stdout.splitlines()}
    assert expected <= found, done.stderr
    assert not any("fake" in each for each in found)
