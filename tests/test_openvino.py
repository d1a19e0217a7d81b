"""OpenVINO computes what a row says: which precisions ran, which devices there are, and nothing is sent."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_runs import made_row, made_run
from onnx import TensorProto, helper
from rich.console import Console

from rtbench.errors import InvalidOutput, RuntimeUnavailable
from rtbench.records.model import Artifact
from rtbench.report.table import render_table

pytest.importorskip("openvino")
from test_given_onnx import BATCH, SIDE, WEIGHTS, graph

from rtbench.runtimes import openvino as runtime


def artifact(path: Path, **fields: object) -> Artifact:
    given = {
        "format": "onnx",
        "precision": "fp32",
        "size_bytes": 1,
        "sha256": "",
        "made_from": {},
        "tools": {},
    } | fields
    return Artifact(path=str(path), **given)


def outputs(made: Artifact, batch: np.ndarray) -> np.ndarray:
    session = runtime.OpenVinoSession(made, "cpu", 1)
    session.bind(batch)
    session.run()
    return session.fetch()


def test_channels_last_and_pixels_are_given_as_the_graph_takes_them(tmp_path: Path) -> None:
    transpose = [helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2])]
    path = graph(tmp_path / "nhwc.onnx", shape=("n", SIDE, SIDE, 3), before=transpose)
    np.testing.assert_allclose(outputs(artifact(path), BATCH), BATCH.mean((2, 3)) @ WEIGHTS, rtol=1e-3)
    cast = [helper.make_node("Cast", ["image"], ["nchw"], to=TensorProto.FLOAT)]
    path = graph(tmp_path / "pixels.onnx", kind=TensorProto.UINT8, before=cast)
    pixels = np.abs(BATCH * 50) + 0.3
    np.testing.assert_allclose(outputs(artifact(path), pixels), np.rint(pixels).mean((2, 3)) @ WEIGHTS, rtol=1e-3)


def test_the_output_that_was_chosen_is_fetched(tmp_path: Path) -> None:
    path = graph(tmp_path / "two.onnx", outputs=(("means", ("n", 3)), ("logits", ("n", 5))))
    assert outputs(artifact(path, output="logits"), BATCH).shape == (1, 5)
    assert outputs(artifact(path, output="means"), BATCH).shape == (1, 3)


def test_an_input_of_another_kind_is_invalid(tmp_path: Path) -> None:
    cast = [helper.make_node("Cast", ["image"], ["nchw"], to=TensorProto.FLOAT)]
    path = graph(tmp_path / "whole.onnx", kind=TensorProto.INT64, before=cast)
    with pytest.raises(InvalidOutput, match="its input is i64, not a tensor of floats"):
        runtime.OpenVinoSession(artifact(path), "cpu", 1)


def test_fp32_is_computed_in_fp32_and_the_settings_say_so(tmp_path: Path) -> None:
    session = runtime.OpenVinoSession(artifact(graph(tmp_path / "m.onnx")), "cpu", 1)
    assert session.info.settings["INFERENCE_PRECISION_HINT"] == "f32"
    assert session.info.settings["INFERENCE_NUM_THREADS"] == "1"
    assert session.info.layers["FP32"]["products"] == 1
    assert session.info.warnings == ()


def test_int8_that_runs_in_fp32_is_warned_of_and_red(tmp_path: Path) -> None:
    made = artifact(graph(tmp_path / "m.onnx"), precision="int8")  # whatever its manifest says, nothing is quantised
    session = runtime.OpenVinoSession(made, "cpu", 1)
    assert session.info.warnings == ("1 convolutions and matrix products ran in FP32, not int8",)
    row = made_row("openvino/int8", 1.0, []).model_copy(update={"layers": session.info.layers})
    right = made_row("ort/int8", 1.0, []).model_copy(
        update={"layers": {"INT8": {"products": 1}, "FP32": {"others": 2}}}
    )
    console = Console(width=120, force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(render_table(made_run([row, right])))
    shown = {line.split("m", 1)[-1].split("\x1b")[0].strip(): line for line in capture.get().splitlines()}
    red = [line for line in capture.get().splitlines() if "\x1b[31m" in line]
    assert len(red) == 1
    assert "openvino/int8" in red[0], shown


def test_bf16_is_unavailable_where_the_cpu_has_none(tmp_path: Path) -> None:
    can = runtime.openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    made = artifact(graph(tmp_path / "m.onnx"))
    if "BF16" in can:
        session = runtime.OpenVinoSession(made, "cpu", 1, ("bf16",))
        assert session.info.settings["INFERENCE_PRECISION_HINT"] == "bf16"
    else:
        with pytest.raises(RuntimeUnavailable, match="this CPU computes no BF16"):
            runtime.OpenVinoSession(made, "cpu", 1, ("bf16",))


def test_a_device_that_is_not_there_is_unavailable() -> None:
    found = runtime.openvino.Core().available_devices
    for device in {"gpu", "npu"} - {each.partition(".")[0].lower() for each in found}:
        with pytest.raises(RuntimeUnavailable, match=f"OpenVINO finds no {device.upper()}, only CPU"):
            runtime.probe(device)
    assert runtime.probe("cpu").startswith("openvino 20")


def test_nothing_is_sent() -> None:
    code = "import sys, rtbench.runtimes.openvino; print(sys.modules['openvino_telemetry'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
