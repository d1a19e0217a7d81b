from pathlib import Path

import numpy as np
import rtbench_reference.session as session
import torch
from PIL import Image

import rtbench
from rtbench.testing import check_runtime, network


def test_the_runtime_keeps_the_contract(tmp_path: Path) -> None:
    torch.save(network(classes=7), tmp_path / "network.pt")
    (tmp_path / "images").mkdir()
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index}.png")
    made = rtbench.export(
        tmp_path / "network.pt",
        out=tmp_path / "artifacts",
        trust_code=True,
        input_size=32,
        precisions=("fp32",),
        calibration=tmp_path / "images",
    )
    onnx = next(each for each in made.artifacts if each.format == "onnx")
    check_runtime(session, onnx, made.model)
