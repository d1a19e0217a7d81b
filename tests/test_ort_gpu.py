"""ONNX Runtime on a GPU, as far as it goes without one: its real provider over stub libraries, options, remedies."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import platformdirs
import pytest
import torch
from standins import COMPILE, in_place

from rtbench import nvidia
from rtbench.errors import RuntimeUnavailable
from rtbench.export.torch import write_fp32
from rtbench.records.model import Artifact
from rtbench.runtimes import ort_gpu

CAPI = Path(onnxruntime.__file__).parent / "capi"
PROVIDER = CAPI / "libonnxruntime_providers_tensorrt.so"
STUBS = {
    "libnvinfer.so.10": [
        "createInferBuilder",
        "createInferRefitter",
        "createInferRuntime",
        "getPluginRegistry",
        "getInferLibVersion",
    ],
    "libnvonnxparser.so.10": ["createNvOnnxParser", "createNvOnnxParserRefitter"],
}
pytestmark = pytest.mark.skipif(not PROVIDER.exists(), reason="this onnxruntime is not built for GPUs")


@pytest.fixture(scope="module")
def tensorrt_libs(tmp_path_factory) -> Path:
    """A package that loads the libraries beside it, as NVIDIA's does; nothing in them answers."""
    folder = tmp_path_factory.mktemp("pip")
    package = folder / "tensorrt_libs"
    package.mkdir()
    loads = (
        "import ctypes, pathlib\nfor each in pathlib.Path(__file__).parent.glob('*.so*'):\n    ctypes.CDLL(str(each))\n"
    )
    (package / "__init__.py").write_text(loads)
    for name, functions in STUBS.items():
        names = [each if each.startswith("get") else f"{each}_INTERNAL" for each in functions]
        source = folder / f"{name}.c"
        source.write_text("".join(f"void *{each}(void) {{ return 0; }}\n" for each in names))
        subprocess.run([*COMPILE, f"-Wl,-soname,{name}", "-o", package / name, source], check=True)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Artifact:
    """An FP32 ONNX with a free batch."""
    path = tmp_path_factory.mktemp("ort") / "small.onnx"
    layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 7)]
    write_fp32(torch.nn.Sequential(*layers).eval(), None, (3, 8, 8), path)
    return artifact(path)


def artifact(path: Path, **fields: object) -> Artifact:
    known = {"format": "onnx", "precision": "fp32", "size_bytes": 1, "sha256": "ab" * 32, "made_from": {}, "tools": {}}
    return Artifact(path=str(path), **known | fields)


LOAD = f"""
import ctypes
from rtbench.runtimes import ort_gpu
ort_gpu.load_libraries("trt")
ctypes.CDLL({str(CAPI / "libonnxruntime_providers_shared.so")!r}, ctypes.RTLD_GLOBAL)
ctypes.CDLL({str(PROVIDER)!r})
"""


def run(code: str, driver: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    environment = in_place(driver)
    environment["PYTHONPATH"] = os.pathsep.join([*map(str, paths), environment["PYTHONPATH"]])
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_the_provider_finds_what_pip_installed_for_tensorrt(driver, tensorrt_libs):
    alone = run(LOAD, driver)
    assert "libnvinfer.so.10: cannot open" in alone.stderr
    done = run(LOAD, driver, tensorrt_libs)
    assert done.returncode == 0, done.stderr


def test_what_the_provider_lacks_is_told_with_what_brings_it(driver):
    done = run("from rtbench.runtimes import ort; ort.probe('trt')", driver)
    assert "RtbenchError" not in done.stderr.splitlines()[-1]
    last = done.stderr.strip().splitlines()[-1]
    assert "fell back from TensorrtExecutionProvider" in last
    assert "libnvinfer.so.10" in last
    assert "pip install 'tensorrt==10.*', or use ort:cuda" in last


@pytest.fixture
def a_driver(driver, monkeypatch):
    """One that fits, so that only libraries can be missing."""
    for name, value in in_place(driver).items():
        monkeypatch.setenv(name, value)
    nvidia._asked.cache_clear()
    yield
    nvidia._asked.cache_clear()


def fall_back(library: str) -> str:
    said = (
        f"[E:onnxruntime] Failed to load provider with error: {library}: cannot open shared object file: No such file"
    )
    return str(ort_gpu.fell_back("CUDAExecutionProvider", "CPUExecutionProvider", [said]))


@pytest.mark.usefixtures("a_driver")
def test_each_missing_library_has_its_own_remedy(monkeypatch):
    assert "pip install 'tensorrt==10.*'" in fall_back("libnvinfer.so.10")
    monkeypatch.setattr(ort_gpu, "find_spec", lambda name: name)
    monkeypatch.setattr(ort_gpu, "tool_versions", lambda *_: {"tensorrt": "11.4.0.106"})
    assert "11.4.0.106 is installed, which ONNX Runtime cannot use: pip install" in fall_back("libnvinfer.so.10")
    assert "install libcublasLt.so.13, of the CUDA that" in fall_back("libcublasLt.so.13")
    monkeypatch.setattr(ort_gpu.sys, "version_info", (3, 10, 12))
    assert "use Python 3.11 or newer" in fall_back("libcublasLt.so.12")


@pytest.mark.usefixtures("a_driver")
def test_a_driver_that_is_too_old_comes_before_any_library(monkeypatch):
    monkeypatch.setenv("CUDA_STANDIN_VERSION", "12020")
    nvidia._asked.cache_clear()
    assert f"supports CUDA 12.2, and onnxruntime {onnxruntime.__version__} needs 13" in fall_back("libnvinfer.so.10")


def test_engines_are_kept_apart_by_what_is_in_the_graph(small):
    first = ort_gpu.provider_options(small, "trt")
    other = ort_gpu.provider_options(small.model_copy(update={"sha256": "cd" * 32}), "trt")
    paths = [Path(each["trt_engine_cache_path"]) for each in (first, other)]
    assert paths[0] != paths[1]
    assert paths[0].parent == paths[1].parent == platformdirs.user_cache_path("rtbench") / "ort-trt-cache"
    assert first["trt_timing_cache_path"] == str(paths[0])


def test_a_graph_that_takes_batches_is_built_for_one_image(small, tmp_path):
    options = ort_gpu.provider_options(small, "trt")
    assert {options[f"trt_profile_{which}_shapes"] for which in ("min", "opt", "max")} == {"input:1x3x8x8"}
    fixed = tmp_path / "fixed.onnx"
    model = onnx.load(small.path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, fixed)
    assert not [name for name in ort_gpu.provider_options(artifact(fixed), "trt") if "profile" in name]


@pytest.mark.parametrize(("device", "library"), [("trt", "tensorrt"), ("cuda", "cuda")])
def test_the_provider_knows_every_option(small, device, library):
    known = (CAPI / f"libonnxruntime_providers_{library}.so").read_bytes()
    for name in {
        *ort_gpu.provider_options(small, device),
        *(each for each in ort_gpu.RECORDED if ("trt_" in each) == (device == "trt")),
    }:
        assert name.encode() in known, name


def test_fp32_is_not_rounded_to_tf32(small):
    assert ort_gpu.provider_options(small, "cuda") == {"use_tf32": "0"}
    code = "import os\nfrom rtbench.runtimes import ort_gpu\nort_gpu.load_libraries('trt')\n"
    code += "print(os.environ['NVIDIA_TF32_OVERRIDE'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0"


@pytest.mark.usefixtures("a_driver")
def test_the_libraries_own_words_stay_when_nothing_is_known():
    said = ort_gpu.fell_back("CUDAExecutionProvider", "CPUExecutionProvider", ["something else"])
    assert isinstance(said, RuntimeUnavailable)
    assert said.remedy == "see the row's log, or use ort:cpu"
