"""What ONNX Runtime needs on a GPU: libraries that pip installed, provider options, and its complaints explained."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

import onnxruntime
import onnxruntime.capi.onnxruntime_pybind11_state as state
import platformdirs

from rtbench import nvidia
from rtbench.artifacts import tool_versions
from rtbench.errors import DeviceFailed, RtbenchError, RuntimeUnavailable
from rtbench.records.model import Artifact
from rtbench.terms import Precision

RECORDED = {
    "use_tf32",
    "prefer_nhwc",
    "enable_cuda_graph",
    "cudnn_conv_algo_search",
    "trt_fp16_enable",
    "trt_int8_enable",
    "trt_cuda_graph_enable",
    "trt_builder_optimization_level",
    "trt_profile_opt_shapes",
}
"""Options of the providers that a row's settings have, with the values that are in force."""


FP32 = {"use_tf32": "0"}
"""FP32 is FP32, on GPUs too that would round it to TF32."""


@cache
def load_libraries(device: str) -> None:
    """Load what pip installed beside torch and TensorRT, and what no search path of the provider's leads to."""
    onnxruntime.preload_dlls()
    if device == "trt":
        os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # TensorRT's provider has no option for it
        with contextlib.suppress(ImportError):
            import tensorrt_libs  # noqa: F401 - loads the libraries next to it


def provider_options(artifact: Artifact, device: str) -> dict[str, str]:
    """For TensorRT the precisions it may use, batches of one, and where engines are kept: in the user's cache, apart
    for each content of the ONNX, since TensorRT's provider tells graphs apart by their names alone."""
    if device == "cuda":
        return FP32
    cache = str(platformdirs.user_cache_path("rtbench") / "ort-trt-cache" / artifact.sha256[:16])
    return {
        "trt_fp16_enable": str(artifact.precision != "fp32"),
        "trt_int8_enable": str(artifact.precision == "int8"),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": cache,
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": cache,
        **_batches_of_one(artifact.path),
    }


def _batches_of_one(path: str) -> dict[str, str]:
    """An explicit profile for a graph that takes batches: without it the profile follows the largest batch seen, and
    so does what its kernels are tuned for."""
    import onnx

    source = onnx.load(path, load_external_data=False).graph.input[0]
    batch, *rest = source.type.tensor_type.shape.dim
    if batch.HasField("dim_value") or not all(each.HasField("dim_value") for each in rest):
        return {}
    shape = f"{source.name}:" + "x".join(map(str, [1, *(each.dim_value for each in rest)]))
    return {f"trt_profile_{which}_shapes": shape for which in ("min", "opt", "max")}


def recorded(options: dict[str, str]) -> dict[str, str]:
    """Of a provider's options those that decide how fast it is."""
    return {name: value for name, value in options.items() if name in RECORDED}


def without_kernels(device: str, precision: Precision) -> tuple[str, ...]:
    if device == "cuda" and precision == "int8":
        return ("CUDAExecutionProvider has no INT8 kernels: it dequantises and computes in FP32; use ort:trt or trt",)
    return ()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """What ONNX Runtime says of a GPU that broke off, as ours."""
    try:
        yield
    except (state.Fail, state.RuntimeException, state.EPFail) as error:
        raise _device_failed(error) from error


def _device_failed(error: Exception) -> RtbenchError:
    first = str(error).strip().splitlines()[0]
    if "allocate memory" in first or "out of memory" in first:
        return DeviceFailed(f"the GPU is out of memory ({first})", "end what else uses it")
    return DeviceFailed(f"the GPU stopped: {first}", "see its Xid error in dmesg, and reset it")


def fell_back(wanted: str, actual: str, complaints: Sequence[str]) -> RuntimeUnavailable:
    """Why the provider that was asked for did not come, by the driver first and then by what was said."""
    said = "\n".join(complaints)
    try:
        nvidia.require_cuda(onnxruntime.cuda_version, f"onnxruntime {onnxruntime.__version__}")
        remedy = _remedy(re.search(r"(lib\w+)\.so\.(\d+): cannot open", said))
    except RuntimeUnavailable as error:
        said, remedy = f"with error: {error.message}", error.remedy
    causes = re.findall(r"with error: ([^\x1b\n]+)", said)
    reason = f" ({causes[0].strip()})" if causes else ""
    return RuntimeUnavailable(f"ONNX Runtime fell back from {wanted} to {actual}{reason}", remedy)


def _remedy(missing: re.Match[str] | None) -> str:
    """What would bring the library that is missing."""
    if missing is None:
        return "see the row's log, or use ort:cpu"
    name, major = missing.groups()
    if name.startswith(("libnvinfer", "libnvonnxparser")):
        here: dict[str, Any] = tool_versions("tensorrt", *(f"tensorrt-cu{cuda}-libs" for cuda in (12, 13)))
        installed = next(iter(here.values()), None) if find_spec("tensorrt_libs") else None
        instead = f"{installed} is installed, which ONNX Runtime cannot use: " if installed else ""
        return f"{instead}pip install 'tensorrt=={major}.*', or use ort:cuda"
    if sys.version_info < (3, 11):
        return "use Python 3.11 or newer: what ONNX Runtime offers for 3.10 needs CUDA 12, and torch brings CUDA 13"
    return f"install {name}.so.{major}, of the CUDA that this onnxruntime-gpu was built for, or use ort:cpu"
