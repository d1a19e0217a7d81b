"""LiteRT, which was TensorFlow Lite, on one TFLite file: its own kernels for the CPU, XNNPACK where it takes them."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rtbench.errors import InvalidOutput, not_importable
from rtbench.images.graph_input import GraphInput, channels_last
from rtbench.records.model import Artifact, Model
from rtbench.runtimes import Clock, SessionInfo

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError as error:
    raise not_importable("ai-edge-litert", "litert", error) from error

PRODUCTS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL", "TRANSPOSE_CONV")
DELEGATE = "DELEGATE"


class LiteRtSession:
    scripted_clock: Clock | None = None

    def __init__(self, artifact: Artifact, threads: int) -> None:
        self._interpreter = Interpreter(artifact.path, num_threads=threads)
        self._interpreter.allocate_tensors()
        self._source = self._interpreter.get_input_details()[0]
        outputs = self._interpreter.get_output_details()
        self._output = next((each for each in outputs if each["name"] == artifact.output), outputs[0])
        self._taken = GraphInput(
            np.dtype(self._source["dtype"]),
            channels_last=channels_last(self._source["shape"].tolist()),
            quantised=_quantised(self._source),
        )
        operators = self._interpreter._get_ops_details()
        layers = count_layers([each for each in operators if each["op_name"] != DELEGATE])
        delegated = any(each["op_name"] == DELEGATE for each in operators)
        self.info = SessionInfo(
            provider=f"litert {version('ai-edge-litert')}{', XNNPACK' if delegated else ''}",
            device="cpu",
            settings={"num_threads": str(threads), "input": str(self._taken), "output": _kind(self._output)},
            placement=placed(operators, [each["index"] for each in outputs]),
            layers=layers,
            warnings=tuple(_not_in(artifact.precision, layers)),
        )

    def bind(self, batch: NDArray[np.float32]) -> None:
        taken = self._taken.of(batch)
        if taken.shape != tuple(self._source["shape"]):
            raise InvalidOutput(f"it takes inputs of {self._source['shape'].tolist()}, not {list(taken.shape)}")
        self._interpreter.set_tensor(self._source["index"], taken)

    def run(self) -> None:
        self._interpreter.invoke()

    def fetch(self) -> NDArray[np.float32]:
        output = self._interpreter.get_tensor(self._output["index"]).astype(np.float32)
        quantised = _quantised(self._output)
        scale, zero = quantised or (1.0, 0)
        array: NDArray[np.float32] = (output - np.float32(zero)) * np.float32(scale)
        return array

    def device_ms(self) -> float | None:
        return None

    def close(self) -> None:
        del self._interpreter


def _quantised(tensor: dict[str, Any]) -> tuple[float, int] | None:
    scale, zero = tensor["quantization"]
    return (float(scale), int(zero)) if scale else None


def _kind(tensor: dict[str, Any]) -> str:
    return str(np.dtype(tensor["dtype"]))


def count_layers(operators: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """For each precision, how many convolutions and matrix products and how many other operators compute in it: in INT8
    where what comes in is of whole numbers, else in FP32."""
    counts: dict[str, Counter[str]] = {}
    for operator in operators:
        whole = np.dtype(operator["operand_types"][0]).kind in "iu" if operator["operand_types"] else False
        group = "products" if operator["op_name"] in PRODUCTS else "others"
        if operator["op_name"] not in ("DEQUANTIZE", "QUANTIZE"):
            counts.setdefault("INT8" if whole else "FP32", Counter())[group] += 1
    return {name: dict(counted) for name, counted in sorted(counts.items())}


def placed(operators: list[dict[str, Any]], outputs: list[int]) -> dict[str, dict[str, int]]:
    """How many operators XNNPACK computes, and which are left to LiteRT's own kernels: those met on the way back from
    the outputs outside of what XNNPACK took over."""
    maker = {int(made): each for each in operators for made in each["outputs"]}  # a delegate comes last
    own: Counter[str] = Counter()
    seen: set[int] = set()
    waiting = [int(each) for each in outputs]
    while waiting:
        operator = maker.get(waiting.pop())
        if operator is None or operator["index"] in seen:
            continue
        seen.add(operator["index"])
        if operator["op_name"] != DELEGATE:
            own[operator["op_name"]] += 1
        waiting += [int(each) for each in operator["inputs"] if each >= 0]
    every = Counter(each["op_name"] for each in operators if each["op_name"] != DELEGATE)
    taken = every - own if any(each["op_name"] == DELEGATE for each in operators) else Counter()
    return {name: dict(counted) for name, counted in (("XNNPACK", taken), ("LiteRT", own)) if counted}


def _not_in(precision: str, layers: dict[str, dict[str, int]]) -> list[str]:
    """What to know where convolutions run in another precision than the row's."""
    count = layers.get("FP32", {}).get("products", 0)
    said = f"{count} convolutions and matrix products ran in FP32, not {precision}"
    return [said] if precision != "fp32" and count else []


def ready(artifact: Artifact, device: str) -> None:
    pass


def open_session(
    artifact: Artifact, model: Model, device: str, threads: int, trust_code: bool, variants: tuple[str, ...] = ()
) -> LiteRtSession:
    return LiteRtSession(artifact, threads)


def probe(device: str) -> str:
    return f"litert {version('ai-edge-litert')}"
