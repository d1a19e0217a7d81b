"""Engines run end to end by real pycuda, over a stand-in for the driver and one for TensorRT's execution."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from standins import STANDIN

from rtbench.records.run import Run
from rtbench.runs.result import read_run
from rtbench.runs.samples import read_blocks

pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
if find_spec("pycuda") is None:
    pytest.skip("pycuda is not built here; tests/build_pycuda.sh builds it", allow_module_level=True)

pytestmark = pytest.mark.slow
DRIVER_CALLS = [
    *("cuInit", "cuDeviceGet", "cuDeviceGetName", "cuDeviceComputeCapability", "cuDevicePrimaryCtxRetain"),
    *("cuCtxPushCurrent", "cuStreamCreate", "cuEventCreate", "cuMemHostAlloc", "cuMemAlloc", "cuMemcpyHtoDAsync"),
    *("cuEventRecord", "cuMemcpyDtoHAsync", "cuStreamSynchronize", "cuEventElapsedTime"),
]
"""What an engine's life calls up to its last figure; those below only give back what is no longer needed."""
RELEASES = [
    *("cuMemFree", "cuMemFreeHost", "cuEventDestroy", "cuStreamDestroy", "cuCtxPopCurrent"),
    "cuDevicePrimaryCtxRelease",
]
ONCE = ["cuMemcpyHtoDAsync", "cuEventRecord", "cuEventRecord", "cuMemcpyDtoHAsync", "cuStreamSynchronize"]
GRAPH_CALLS = [
    *("cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiateWithFlags", "cuGraphLaunch", "cuGraphDestroy"),
]


class Small(torch.nn.Module):
    """Two convolutions, a residual addition and a classifier: quick to export, and its outputs move."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.second = torch.nn.Conv2d(8, 8, 3, padding=1)
        self.last = torch.nn.Linear(8 * 16, 10)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first(batch))
        hidden = torch.relu(hidden + self.second(hidden))
        return self.last(torch.nn.functional.max_pool2d(hidden, 4).flatten(1))


@pytest.fixture(scope="session")
def engines(tmp_path_factory, ten_classes, image_cache) -> Path:
    """The artifact folder of a small network with both engines for a T4, by the command line."""
    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    program = torch.export.export(
        Small().eval(), (torch.zeros(2, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim("batch")},)
    )
    torch.export.save(program, folder / "small.pt2")
    command = ["export", folder / "small.pt2", "--trust-code", "--formats", "onnx,trt", "--out", folder / "engines"]
    options = ["--calibration", ten_classes, "--input-size", "32", "--cache-dir", image_cache]
    done = subprocess.run(
        [sys.executable, "-m", "rtbench", *map(str, [*command, *options])], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "engines"


@pytest.fixture
def compare(driver, ten_classes, image_cache, tmp_path):
    """Run `compare` over the stand-ins; gives the run and the lines that the driver has written."""

    def run(*arguments: str | Path, code: int = 0, **environment: str) -> tuple[Run, list[str]]:
        log, out = tmp_path / "driver.log", tmp_path / "run"
        shutil.rmtree(out, ignore_errors=True)
        log.unlink(missing_ok=True)
        standins = {
            "LD_LIBRARY_PATH": str(driver),
            "PYTHONPATH": os.pathsep.join([str(STANDIN), *sys.path]),
            "CUDA_STANDIN_LOG": str(log),
            "TENSORRT_STANDIN_ENGINES": str(tmp_path.parent),
        }
        command = ["compare", *arguments, "--data", ten_classes, "--out", out, "--cache-dir", image_cache]
        command += ["--patience", "0"]  # rounds are not timed again on a machine that does other things too
        done = subprocess.run(
            [sys.executable, "-m", "rtbench", *map(str, command)],
            cwd=tmp_path,
            env=os.environ | standins | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return read_run(out), log.read_text().split("\n")[:-1] if log.exists() else []

    return run


def complaints(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("VIOLATION", "LEAK"))]


def test_engines_run_beside_the_other_runtimes(compare, engines, tmp_path):
    run, lines = compare(engines, "--runtimes", "torch:cpu,ort:cpu,trt", "--runs", "20")
    rows = {row.id: row for row in run.rows}
    assert [f"{name} {row.status}" for name, row in rows.items()] == [
        f"{name} ok"
        for name in ("torch:cpu/fp32", "ort:cpu/fp32", "ort:cpu/fp16", "ort:cpu/int8", "trt/fp16", "trt/int8")
    ]
    for precision, limit in (("fp16", 0.02), ("int8", 0.4)):
        row = rows[f"trt/{precision}"]
        assert row.fidelity.judged
        assert row.fidelity.relative_error < limit
        assert row.accuracy.images == 45
        assert row.device == "cuda"
        assert "tensorrt_rtx 1" in row.provider
        assert 0 < row.latency.device_mean_ms < row.latency.mean_ms
        assert row.artifact.build.compute_capability == "7.5"
    assert rows["ort:cpu/fp32"].latency.device_mean_ms is None
    assert complaints(lines) == []
    with (tmp_path / "run" / "samples.csv").open(newline="") as file:
        samples = list(csv.DictReader(file))
    counted = np.concatenate([block.device_ms for block in read_blocks(tmp_path / "run")["trt/fp16"]])
    on_device = [float(line["device_ms"]) for line in samples if line["row"] == "trt/fp16"]
    assert set(counted) <= set(on_device)
    assert np.mean(counted) == pytest.approx(rows["trt/fp16"].latency.device_mean_ms, rel=1e-4)
    assert {line["device_ms"] for line in samples if line["row"] == "ort:cpu/fp16"} == {""}


def test_a_run_is_copy_events_around_the_work_copy_back_one_wait(compare, engines):
    run, lines = compare(engines / "trt-fp16.engine", "--runs", "3")
    assert run.rows[0].status == "ok"
    last = max(index for index, line in enumerate(lines) if line == "cuEventElapsedTime")
    assert lines[last - 5 : last] == ONCE
    first = lines.index("cuMemcpyHtoDAsync")
    runs = [line for line in lines[first:last] if line != "cuEventElapsedTime"]
    assert runs == ONCE * (len(runs) // 5)
    after = lines[last + 1 :]
    while after[:5] == ONCE:  # accuracy, of which nothing is timed
        del after[:5]
    assert set(after) - {"cuCtxPushCurrent"} == {"cuStreamSynchronize", *RELEASES, "EXIT"}
    assert {*DRIVER_CALLS, *RELEASES} <= set(lines), "a call that no fault is injected at is not in the lists above"
    assert set(lines) <= {*DRIVER_CALLS, *RELEASES, "EXIT", "cuDeviceGetCount"}  # by who asks for the GPUs


@pytest.mark.parametrize("call", DRIVER_CALLS)
def test_a_driver_call_that_fails_is_that_rows_end(compare, engines, call):
    status, code = ("unavailable", 0) if call == "cuInit" else ("failed", 1)
    run, lines = compare(engines / "trt-fp16.engine", "--runs", "3", code=code, CUDA_STANDIN_FAULT=f"{call}:1:1")
    (row,) = run.rows
    assert row.status == status, row.reason
    assert call in (row.reason or "")
    assert row.scores is None
    assert complaints(lines) == []
    assert lines[-1] == "EXIT"


def test_later_failures_release_as_well(compare, engines):
    for fault in ("cuMemAlloc:2:2", "cuEventCreate:2:1", "cuStreamSynchronize:30:700"):
        run, lines = compare(engines / "trt-fp16.engine", "--runs", "3", code=1, CUDA_STANDIN_FAULT=fault)
        assert run.rows[0].status == "failed", fault
        assert complaints(lines) == [], fault
        assert lines[-1] == "EXIT"


@pytest.fixture(scope="session")
def graph_engine(engines, tmp_path_factory) -> Path:
    """The FP16 engine again, by a recipe that runs it as a CUDA graph."""
    folder = tmp_path_factory.mktemp("graph")
    shutil.copytree(engines, folder / "engines")
    manifest = json.loads((folder / "engines" / "trt-fp16.json").read_text())
    manifest["build"]["recipe"]["cuda_graph"] = True
    (folder / "engines" / "trt-fp16.json").write_text(json.dumps(manifest))
    return folder / "engines" / "trt-fp16.engine"


def test_a_cuda_graph_is_captured_once_and_launched_each_time(compare, graph_engine):
    run, lines = compare(graph_engine, "--runs", "3")
    (row,) = run.rows
    assert (row.status, row.settings["cuda_graph"]) == ("ok", "on")
    assert complaints(lines) == []
    counts = {call: lines.count(call) for call in GRAPH_CALLS}
    launches = counts.pop("cuGraphLaunch")
    assert set(counts.values()) == {1}
    assert launches == lines.count("cuMemcpyDtoHAsync")


@pytest.mark.parametrize("call", GRAPH_CALLS)
def test_a_graph_call_that_fails_is_that_rows_end(compare, graph_engine, call):
    run, lines = compare(graph_engine, "--runs", "3", code=1, CUDA_STANDIN_FAULT=f"{call}:1:1")
    assert run.rows[0].status == "failed"
    assert call in (run.rows[0].reason or "")
    assert lines[-1] == "EXIT"
    if call != "cuGraphDestroy":
        assert complaints(lines) == []


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("cuInit:1:100", "unavailable: the NVIDIA driver offers no GPU"),
        ("cuMemAlloc:1:2", "failed: the GPU is out of memory"),
        ("cuStreamSynchronize:20:719", "failed: the GPU was lost during the run"),
        ("cuStreamSynchronize:20:700", "failed: the GPU was lost during the run"),
        ("cuMemcpyHtoDAsync:3:1", "failed: the CUDA driver refused a call (cuMemcpyHtoDAsync"),
        ("deserialize_cuda_engine", "unavailable: tensorrt_rtx 1.7.1.116 does not load it on stand-in for a Tesla T4"),
        ("create_execution_context", "failed: tensorrt_rtx has no room to run it: Error Code 1: Cuda Runtime (out of"),
        ("execute_async_v3", "failed: tensorrt_rtx could not run the engine: IExecutionContext::enqueueV3: a tensor"),
    ],
)
def test_each_way_to_fail_has_its_own_sentence(compare, engines, fault, words):
    variable = "CUDA_STANDIN_FAULT" if ":" in fault else "TENSORRT_STANDIN_FAULT"
    code = 0 if words.startswith("unavailable") else 1
    run, lines = compare(engines / "trt-fp16.engine", "--runs", "3", code=code, **{variable: fault})
    (row,) = run.rows
    assert f"{row.status}: {row.reason}".startswith(words)
    assert complaints(lines) == []


def test_an_engine_for_another_gpu_or_version_is_unavailable_with_what_differs(compare, engines, tmp_path):
    path = engines / "trt-fp16.engine"
    run, _ = compare(path, "--runs", "3", CUDA_STANDIN_CAPABILITY="8.6")
    assert run.rows[0].status == "unavailable"
    assert "for compute capability 7.5, stand-in for a Tesla T4 has 8.6" in run.rows[0].reason

    folder = tmp_path / "other"
    shutil.copytree(engines, folder)
    manifest = json.loads((folder / "trt-fp16.json").read_text())
    for library, version, words in (
        ("tensorrt_rtx", "1.6.0.1", "built by tensorrt_rtx 1.6.0.1, and 1.7.1.116 is installed"),
        ("tensorrt", "10.13.0", "built by tensorrt 10.13.0, which is not installed; pip install 'tensorrt==10.13.0'"),
    ):
        manifest["build"] |= {"library": library, "library_version": version}
        (folder / "trt-fp16.json").write_text(json.dumps(manifest))
        run, _ = compare(folder / "trt-fp16.engine", "--runs", "3")
        assert run.rows[0].status == "unavailable"
        assert words in run.rows[0].reason


def test_the_device_that_is_asked_for_is_the_one_that_is_used_and_watched(compare, engines):
    run, _ = compare(engines / "trt-fp16.engine", "--runs", "3")
    assert run.environment.gpu.name == "stand-in for a Tesla T4"
    watched = run.rows[0].conditions.gpu
    assert (watched.temperature_c, watched.sm_mhz, watched.lead_mhz) == (41, (1590, 1590), (1590, 1590))
    run, _ = compare(engines / "trt-fp16.engine", "--runs", "3", "--device", "cuda:1")
    assert run.environment.gpu.name == "stand-in for an A10"
    assert run.environment.gpu.uuid == "GPU-11111111-1111-1111-1111-111111111111"
    assert "stand-in for an A10 has 8.6" in run.rows[0].reason
    run, _ = compare(engines / "trt-fp16.engine", "--runs", "3", "--device", "cpu")
    assert run.environment.gpu is None
    assert run.rows[0].status == "unavailable"


def test_a_driver_that_is_too_old_is_said_before_anything_is_called(compare, engines):
    old = {"CUDA_STANDIN_VERSION": "12020", "NVML_STANDIN_DRIVER": "535.104.05"}
    run, lines = compare(engines / "trt-fp16.engine", "--runs", "3", **old)
    assert run.rows[0].status == "unavailable"
    assert (
        "driver 535.104.05 supports CUDA 12.2, and pycuda needs 13; install a driver of the 580" in run.rows[0].reason
    )
    assert "cuDevicePrimaryCtxRetain" not in lines


def test_a_gpu_that_nvml_says_nothing_of_is_measured_all_the_same(compare, engines):
    for refused in ("all", "PowerUsage,Reasons"):
        run, _ = compare(engines / "trt-fp16.engine", "--runs", "3", NVML_STANDIN_REFUSES=refused)
        assert run.rows[0].status == "ok"
    assert run.rows[0].conditions.gpu.power_w is None


def test_what_an_engine_is_made_of_stands_in_its_row_and_beside_it(compare, engines, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(engines, folder)
    run, _ = compare(folder / "trt-int8.engine", "--runs", "3", TENSORRT_STANDIN_ODD="second")
    (row,) = run.rows
    assert row.layers == {"FP32": {"products": 1}, "INT8": {"products": 1, "others": 1}}
    assert "1 convolutions or matrix products do not run in int8: second" in row.warnings
    assert json.loads((folder / "trt-int8.layers.json").read_text())["Layers"][1]["Name"] == "second"
    assert any("TensorRT for RTX has no native INT8 convolutions for 7.5" in warning for warning in row.warnings)


def test_an_engine_without_its_manifest_is_not_run(rtbench, engines, tmp_path):
    shutil.copy(engines / "trt-fp16.engine", tmp_path / "mine.engine")
    done = rtbench("compare", tmp_path / "mine.engine")
    assert done.returncode == 2
    assert "no manifest next to it" in done.stderr


def test_doctor_says_what_is_missing_and_what_is_there(rtbench, driver, monkeypatch):
    def line() -> str:
        done = rtbench("doctor")
        assert done.returncode == 0
        return " ".join(done.stdout.split("\ntrt ")[1].split("\nfake ")[0].split())

    said = line()
    assert "unavailable" in said
    assert "there is no NVIDIA driver (libcuda.so.1: cannot" in said
    monkeypatch.setenv("LD_LIBRARY_PATH", str(driver))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(STANDIN), *sys.path]))
    assert line().startswith("OK tensorrt_rtx 1.7.1.116, stand-in for a Tesla T4")


def test_batches_of_every_size_in_the_profile(driver, engines, tmp_path):
    code = f"""
import numpy as np, json
from pathlib import Path
from rtbench.export.adopt_engine import adopt_engine
from rtbench.runtimes.trt import open_session
import onnxruntime
_, engine = adopt_engine(Path({str(engines / "trt-fp16.engine")!r}))
session = open_session(engine, None, "cuda", 1, False)
options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
direct = onnxruntime.InferenceSession({str(engines / "onnx-fp16.onnx")!r}, options)
for count in (1, 8, 3, 1):
    batch = np.random.default_rng(count).standard_normal((count, 3, 32, 32), dtype=np.float32)
    session.bind(batch); session.run()
    assert np.array_equal(session.fetch(), direct.run(None, {{"input": batch}})[0]), count
try:
    session.bind(np.zeros((9, 3, 32, 32), dtype=np.float32))
except Exception as error:
    print(type(error).__name__, error)
session.close()
"""
    environment = os.environ | {
        "LD_LIBRARY_PATH": str(driver),
        "PYTHONPATH": os.pathsep.join([str(STANDIN), *sys.path]),
        "TENSORRT_STANDIN_ENGINES": str(engines),
        "CUDA_STANDIN_LOG": str(tmp_path / "log"),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "DeviceFailed the engine does not take inputs of shape [9, 3, 32, 32]" in done.stdout
    assert complaints((tmp_path / "log").read_text().splitlines()) == []
