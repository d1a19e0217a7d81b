"""ONNX Runtime, with its own default settings, on the provider that was asked for or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import onnxruntime.capi.onnxruntime_pybind11_state as state
from numpy.typing import NDArray

from rtbench.errors import DeviceFailed, InvalidOutput, RuntimeUnavailable
from rtbench.records.model import Artifact, Model
from rtbench.runtimes import Clock, SessionInfo, misplaced
from rtbench.terms import Precision

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "trt": "TensorrtExecutionProvider",
}
_KINDS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OrtSession:
    scripted_clock: Clock | None = None

    def __init__(
        self,
        path: str,
        device: str,
        threads: int,
        *,
        optimise: bool = True,
        without: Sequence[str] = (),
        precision: Precision = "fp32",
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        left_out = {"disabled_optimizers": ";".join(without)} if without and device == "cpu" else {}
        for value in left_out.values():
            options.add_session_config_entry("optimization.disable_specified_optimizers", value)
        self._session = _open(path, device, options, _provider_options(path, device, precision))
        source = self._session.get_inputs()[0]
        self._name = source.name
        if source.type not in _KINDS:
            raise InvalidOutput(f"its input is {source.type}, not a tensor of floats")
        self._kind = _KINDS[source.type]
        placement = _placement(self._session)
        self.info = SessionInfo(
            provider=f"{self._session.get_providers()[0]} (onnxruntime {onnxruntime.__version__})",
            device="cpu" if device == "cpu" else "cuda",
            settings={
                "graph_optimization_level": options.graph_optimization_level.name,
                "execution_mode": options.execution_mode.name,
            }
            | left_out,
            placement=placement,
            warnings=(*_stranded(placement, device), *_without_kernels(device, precision)),
        )
        self._bound = None if device == "cpu" else BoundMemory(self._session, "cuda")

    def bind(self, batch: NDArray[np.float32]) -> None:
        batch = batch.astype(self._kind, copy=False)
        if self._bound:
            with _translated():
                self._bound.bind(batch)
        else:
            self._feeds = {self._name: batch}

    def run(self) -> None:
        if self._bound:
            with _translated():
                self._bound.run()
        else:
            self._output = self._session.run(None, self._feeds)[0]

    def fetch(self) -> NDArray[np.float32]:
        fetched = self._bound.fetch() if self._bound else self._output
        output: NDArray[np.float32] = np.asarray(fetched, dtype=np.float32)
        return output

    def device_ms(self) -> float | None:
        return None

    def close(self) -> None:
        del self._bound, self._session


class BoundMemory:
    """Input and output that stay on the device: one copy in, one copy out, and a wait in `run`."""

    def __init__(self, session: onnxruntime.InferenceSession, memory: str) -> None:
        self._session, self._memory = session, memory
        self._binding = session.io_binding()
        self._source, self._result = session.get_inputs()[0].name, session.get_outputs()[0].name
        self._input: onnxruntime.OrtValue | None = None

    def bind(self, batch: NDArray[Any]) -> None:
        if self._input is None or tuple(self._input.shape()) != batch.shape:
            self._input = onnxruntime.OrtValue.ortvalue_from_numpy(batch, self._memory, 0)
            self._binding.bind_ortvalue_input(self._source, self._input)
            self._binding.bind_output(self._result, self._memory, 0)
        else:
            self._input.update_inplace(batch)

    def run(self) -> None:
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def fetch(self) -> Any:
        return self._binding.copy_outputs_to_cpu()[0]


def open_session(artifact: Artifact, model: Model, device: str, threads: int, trust_pickle: bool) -> OrtSession:  # noqa: ARG001
    return OrtSession(artifact.path, device, threads, without=artifact.without, precision=artifact.precision)


def probe(device: str) -> str:
    import onnx
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", [value], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "probe.onnx")
        onnx.save(model, path)
        session = _open(path, device, onnxruntime.SessionOptions())
        session.run(None, {"x": np.ones(1, dtype=np.float32)})
    return f"onnxruntime {onnxruntime.__version__}, {session.get_providers()[0]}"


def _provider_options(path: str, device: str, precision: Precision) -> dict[str, str]:
    """For TensorRT inside ONNX Runtime: the precisions it may use, and its engines kept beside the artifact."""
    if device != "trt":
        return {}
    cache = str(Path(path).parent / "ort-trt-cache")
    return {
        "trt_fp16_enable": str(precision != "fp32"),
        "trt_int8_enable": str(precision == "int8"),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": cache,
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": cache,
    }


def _without_kernels(device: str, precision: Precision) -> tuple[str, ...]:
    if device == "cuda" and precision == "int8":
        return ("CUDAExecutionProvider has no INT8 kernels: it dequantises and computes in FP32; use ort:trt or trt",)
    return ()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    """What ONNX Runtime says of a GPU that broke off, as ours."""
    try:
        yield
    except (state.Fail, state.RuntimeException, state.EPFail) as error:
        first = str(error).strip().splitlines()[0]
        if "allocate memory" in first or "out of memory" in first:
            raise DeviceFailed(f"the GPU is out of memory ({first})", "end what else uses it") from error
        raise DeviceFailed(f"the GPU broke off: {first}", "see its Xid error in dmesg, and reset it") from error


def _open(
    path: str, device: str, options: onnxruntime.SessionOptions, provider_options: dict[str, str] | None = None
) -> onnxruntime.InferenceSession:
    """A session whose first provider is the one for `device`, checked: ONNX Runtime itself falls back
    to the CPU with no more than a line on stderr."""
    wanted = PROVIDERS[device]
    if wanted not in onnxruntime.get_available_providers():
        raise RuntimeUnavailable(
            f"this onnxruntime has no {wanted}", "pip uninstall onnxruntime, then pip install onnxruntime-gpu"
        )
    beside = [PROVIDERS["cuda"]] if device == "trt" else []  # for what TensorRT does not take
    if device != "cpu":
        onnxruntime.preload_dlls()  # the CUDA libraries that pip installs beside torch, which nothing else finds
    with _stderr_kept() as complaints:
        session = onnxruntime.InferenceSession(path, options, providers=[(wanted, provider_options or {}), *beside])
    actual = session.get_providers()[0]
    if actual != wanted:
        raise RuntimeUnavailable(
            f"ONNX Runtime fell back from {wanted} to {actual}{_reason(complaints)}", _remedy(complaints)
        )
    return session


def _placement(session: onnxruntime.InferenceSession) -> dict[str, dict[str, int]]:
    """How many nodes of which operator each provider was given; empty before ONNX Runtime 1.24."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    placement: dict[str, Counter[str]] = {}
    for subgraph in session.get_provider_graph_assignment_info():
        counts = placement.setdefault(subgraph.ep_name, Counter())
        counts.update(node.op_type for node in subgraph.get_nodes())
    return {provider: dict(counts.most_common()) for provider, counts in placement.items()}


def _stranded(placement: dict[str, dict[str, int]], device: str) -> tuple[str, ...]:
    """Warnings where one provider was asked for and another does the work."""
    warnings = []
    for provider, counts in misplaced(placement, PROVIDERS[device]).items():
        said = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        place = "on the CPU" if provider == PROVIDERS["cpu"] else f"in {provider}"
        warnings.append(f"{said} ran {place}: {PROVIDERS[device]} has no kernels for them")
    return tuple(warnings)


@contextlib.contextmanager
def _stderr_kept() -> Iterator[list[str]]:
    """What native code writes to stderr meanwhile, as lines, also passed on."""
    lines: list[str] = []
    with tempfile.TemporaryFile() as file:
        original = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(original, 2)
            os.close(original)
            file.seek(0)
            text = file.read()
            os.write(2, text)
            lines += text.decode(errors="replace").splitlines()


def _reason(complaints: list[str]) -> str:
    causes = re.findall(r"with error: ([^\x1b\n]+)", "\n".join(complaints))
    return f" ({causes[0].strip()})" if causes else ""


def _remedy(complaints: list[str]) -> str:
    if any("libcuda.so" in line for line in complaints):
        return "install the NVIDIA driver, or use ort:cpu"
    tensorrt = re.search(r"libnvinfer\.so\.(\d+)", "\n".join(complaints))
    if tensorrt:
        return f"pip install 'tensorrt=={tensorrt[1]}.*', or use ort:cuda"
    return "install the CUDA and cuDNN libraries of this onnxruntime-gpu, or use ort:cpu"
