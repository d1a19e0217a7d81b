"""OpenVINO on one ONNX graph, in the precision that was asked for: its own default on some CPUs is another one."""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtbench.errors import InvalidOutput, RuntimeUnavailable, not_importable
from rtbench.images.graph_input import GraphInput, channels_last
from rtbench.records.model import Artifact, Model
from rtbench.runtimes import Clock, SessionInfo

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # OpenVINO does without it and sends nothing
try:
    import openvino
except ImportError as error:
    raise not_importable("openvino", "openvino", error) from error

KINDS = {"f32": np.float32, "f16": np.float16, "u8": np.uint8}
PRODUCTS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul", "Gemm", "RNNCell")
"""Layers that multiply matrices, as its plugins name them; these take the time."""
NAMES = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}
WORDS = {"f32": "FP32", "f16": "FP16", "bf16": "BF16", "i8": "INT8", "u8": "INT8", "undefined": "unknown"}
HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}
"""What is computed in where the graph leaves it open; INT8 graphs say so themselves."""


class OpenVinoSession:
    scripted_clock: Clock | None = None

    def __init__(self, artifact: Artifact, device: str, threads: int, variants: tuple[str, ...] = ()) -> None:
        core = openvino.Core()
        target = device.upper()
        require_device(core, target)
        can = core.get_property(target, "OPTIMIZATION_CAPABILITIES")
        precision = "bf16" if "bf16" in variants else artifact.precision
        if precision == "bf16" and "BF16" not in can:
            raise RuntimeUnavailable(f"this {target} computes no BF16", "leave bf16 out")
        hint = HINTS[precision] if precision != "fp16" or "FP16" in can else "f32"
        self._options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": hint,
        }
        if device == "cpu":
            self._options["INFERENCE_NUM_THREADS"] = threads
        self._core, self._target, self._artifact = core, target, artifact
        self._requests: dict[tuple[int, ...], Any] = {}
        self._network = core.read_model(artifact.path)
        source = self._network.inputs[0]
        kind = source.element_type.get_type_name()
        if kind not in KINDS:
            raise InvalidOutput(f"its input is {kind}, not a tensor of floats")
        sides = [None if side.is_dynamic else side.get_length() for side in source.partial_shape]
        self._taken = GraphInput(np.dtype(KINDS[kind]), channels_last=channels_last(sides))
        shape = [side or 1 for side in sides]
        compiled = self._compiled(tuple(shape)).get_compiled_model()
        layers = count_layers(compiled.get_runtime_model())
        self.info = SessionInfo(
            provider=f"openvino {openvino.__version__.partition('-')[0]}",
            device=device,
            settings={key: str(value) for key, value in self._options.items()} | {"input": str(self._taken)},
            layers=layers,
            warnings=tuple(_not_in("int8" if precision == "int8" else NAMES[hint], layers)),
        )

    def _compiled(self, shape: tuple[int, ...]) -> Any:
        """A request of the network made for inputs of this shape, which is faster than one for any."""
        if shape not in self._requests:
            network = self._network.clone()
            network.reshape({network.inputs[0]: list(shape)})
            self._requests[shape] = self._core.compile_model(
                network, self._target, self._options
            ).create_infer_request()
        return self._requests[shape]

    def bind(self, batch: NDArray[np.float32]) -> None:
        taken = self._taken.of(batch)
        self._request = self._compiled(taken.shape)
        self._input = openvino.Tensor(taken, shared_memory=True)
        self._request.set_input_tensor(self._input)

    def run(self) -> None:
        self._request.infer()

    def fetch(self) -> NDArray[np.float32]:
        name = self._artifact.output
        tensor = self._request.get_tensor(name) if name else self._request.get_output_tensor(0)
        return np.array(tensor.data, dtype=np.float32)

    def device_ms(self) -> float | None:
        return None

    def close(self) -> None:
        self._requests.clear()
        del self._request


def ready(artifact: Artifact, device: str) -> None:
    pass


def open_session(
    artifact: Artifact, model: Model, device: str, threads: int, trust_code: bool, variants: tuple[str, ...] = ()
) -> OpenVinoSession:
    return OpenVinoSession(artifact, device, threads, variants)


def probe(device: str) -> str:
    core, target = openvino.Core(), device.upper()
    require_device(core, target)
    return f"openvino {openvino.__version__.partition('-')[0]}, {core.get_property(target, 'FULL_DEVICE_NAME')}"


def require_device(core: Any, target: str) -> None:
    """RuntimeUnavailable where OpenVINO finds no such device."""
    found = core.available_devices
    if target not in {each.partition(".")[0] for each in found}:
        raise RuntimeUnavailable(f"OpenVINO finds no {target}, only {', '.join(found)}", "install its driver")


def count_layers(network: Any) -> dict[str, dict[str, int]]:
    """For each precision, how many convolutions and matrix products and how many other layers of a compiled network run
    in it."""
    counts: dict[str, Counter[str]] = {}
    for layer in network.get_ops():
        said = layer.get_rt_info()
        kind, precision = (said[name].astype(str) if name in said else "" for name in ("layerType", "runtimePrecision"))
        if kind in ("Input", "Output", "Const", "Constant", "Parameter", "Result", ""):
            continue
        group = "products" if kind in PRODUCTS else "others"
        counts.setdefault(WORDS.get(precision, precision), Counter())[group] += 1
    return {name: dict(counted) for name, counted in sorted(counts.items())}


def _not_in(precision: str, layers: dict[str, dict[str, int]]) -> list[str]:
    """What to know where convolutions run in another precision than the row's."""
    elsewhere = {name: kinds["products"] for name, kinds in layers.items() if kinds.get("products")}
    elsewhere.pop(precision.upper(), None)
    return [
        f"{count} convolutions and matrix products ran in {name}, not {precision}" for name, count in elsewhere.items()
    ]
