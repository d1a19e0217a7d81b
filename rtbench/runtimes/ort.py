"""ONNX Runtime, with its own default settings, on the provider that was asked for or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rtbench.errors import InvalidOutput, RuntimeUnavailable
from rtbench.records import Artifact, Model
from rtbench.runtimes import Clock, SessionInfo

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "trt": "TensorrtExecutionProvider",
}
HEAVY = ("Conv", "ConvInteger", "QLinearConv", "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul")
_KINDS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OrtSession:
    scripted_clock: Clock | None = None

    def __init__(self, path: str, device: str, threads: int, *, optimise: bool = True) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        self._session = _open(path, device, options)
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
            },
            placement=placement,
            warnings=_stranded(placement, device),
        )

    def bind(self, batch: NDArray[np.float32]) -> None:
        self._feeds = {self._name: batch.astype(self._kind, copy=False)}

    def run(self) -> None:
        self._output = self._session.run(None, self._feeds)[0]

    def fetch(self) -> NDArray[np.float32]:
        output: NDArray[np.float32] = np.asarray(self._output, dtype=np.float32)
        return output

    def device_ms(self) -> float | None:
        return None

    def close(self) -> None:
        del self._session


def open_session(artifact: Artifact, model: Model, device: str, threads: int, trust_pickle: bool) -> OrtSession:  # noqa: ARG001
    return OrtSession(artifact.path, device, threads)


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


def _open(path: str, device: str, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A session whose first provider is the one for `device`, checked: ONNX Runtime itself falls back
    to the CPU with no more than a line on stderr."""
    wanted = PROVIDERS[device]
    if wanted not in onnxruntime.get_available_providers():
        raise RuntimeUnavailable(
            f"this onnxruntime has no {wanted}", "pip uninstall onnxruntime, then pip install onnxruntime-gpu"
        )
    if device != "cpu":
        onnxruntime.preload_dlls()  # the CUDA libraries that pip installs beside torch, which nothing else finds
    with _stderr_kept() as complaints:
        session = onnxruntime.InferenceSession(path, options, providers=[wanted])
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
    """A warning where a GPU was asked for and the work stayed on the CPU."""
    on_cpu = placement.get(PROVIDERS["cpu"], {})
    left = {kind: on_cpu[kind] for kind in HEAVY if kind in on_cpu}
    if device == "cpu" or not left:
        return ()
    said = ", ".join(f"{count} {kind}" for kind, count in left.items())
    return (f"{said} ran on the CPU: {PROVIDERS[device]} has no kernels for them",)


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
