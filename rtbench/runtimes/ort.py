"""ONNX Runtime, with its own default settings, on the provider that was asked for or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from rtbench.errors import InvalidOutput, RuntimeUnavailable
from rtbench.images.graph_input import GraphInput, channels_last
from rtbench.onnx_file import INPUT_TYPES
from rtbench.records.model import Artifact, Model
from rtbench.runtimes import Clock, SessionInfo, misplaced, ort_gpu

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "trt": "TensorrtExecutionProvider",
}


class OrtSession:
    scripted_clock: Clock | None = None

    def __init__(self, artifact: Artifact, device: str, threads: int, *, optimise: bool = True) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        if not optimise:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        left_out = {"disabled_optimizers": ";".join(artifact.without)} if artifact.without and device == "cpu" else {}
        for value in left_out.values():
            options.add_session_config_entry("optimization.disable_specified_optimizers", value)
        on_gpu = {} if device == "cpu" else ort_gpu.provider_options(artifact, device)
        self._session = _open(artifact.path, device, options, on_gpu)
        source = self._session.get_inputs()[0]
        self._name = source.name
        if source.type not in INPUT_TYPES:
            raise InvalidOutput(f"its input is {source.type}, not a tensor of floats")
        kind = np.dtype(INPUT_TYPES[source.type])
        self._taken = GraphInput(kind, channels_last=channels_last(source.shape))
        self._output_name = artifact.output or self._session.get_outputs()[0].name
        placement = _placement(self._session)
        self.info = SessionInfo(
            provider=f"{self._session.get_providers()[0]} (onnxruntime {onnxruntime.__version__})",
            device="cpu" if device == "cpu" else "cuda",
            settings={
                "graph_optimization_level": options.graph_optimization_level.name,
                "execution_mode": options.execution_mode.name,
                "input": str(self._taken),
            }
            | left_out
            | ort_gpu.recorded(self._session.get_provider_options()[PROVIDERS[device]]),
            placement=placement,
            warnings=(*_stranded(placement, device), *ort_gpu.without_kernels(device, artifact.precision)),
        )
        self._bound = None if device == "cpu" else BoundMemory(self._session, "cuda", self._output_name)

    def bind(self, batch: NDArray[np.float32]) -> None:
        batch = self._taken.of(batch)
        if self._bound:
            with ort_gpu.translated():
                self._bound.bind(batch)
        else:
            self._feeds = {self._name: batch}

    def run(self) -> None:
        if self._bound:
            with ort_gpu.translated():
                self._bound.run()
        else:
            self._output = self._session.run([self._output_name], self._feeds)[0]

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

    def __init__(self, session: onnxruntime.InferenceSession, memory: str, output: str) -> None:
        self._session, self._memory = session, memory
        self._binding = session.io_binding()
        self._source, self._result = session.get_inputs()[0].name, output
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


def ready(artifact: Artifact, device: str) -> None:
    if device != "cpu":
        ort_gpu.load_libraries(device)


def open_session(
    artifact: Artifact, model: Model, device: str, threads: int, trust_code: bool, variants: tuple[str, ...] = ()
) -> OrtSession:
    return OrtSession(artifact, device, threads)


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
    beside = [(PROVIDERS["cuda"], ort_gpu.FP32)] if device == "trt" else []  # for what TensorRT does not take
    if device != "cpu":
        ort_gpu.load_libraries(device)
    with _stderr_kept() as complaints:
        session = onnxruntime.InferenceSession(path, options, providers=[(wanted, provider_options or {}), *beside])
    actual = session.get_providers()[0]
    if actual != wanted:
        raise ort_gpu.fell_back(wanted, actual, complaints)
    session.disable_fallback()  # which would run a failed call again on another provider
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
