"""ONNX's reference implementation as a runtime."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from rtbench.records.model import Artifact, Model
from rtbench.runtimes import SessionInfo


class ReferenceSession:
    scripted_clock = None

    def __init__(self, artifact: Artifact) -> None:
        self._evaluator = ReferenceEvaluator(artifact.path)
        self._input = self._evaluator.input_names[0]
        self.info = SessionInfo(provider=f"onnx {onnx.__version__}", device="cpu", settings={"threads": "NumPy's"})

    def bind(self, batch: NDArray[np.float32]) -> None:
        self._batch = batch

    def run(self) -> None:
        self._output = self._evaluator.run(None, {self._input: self._batch})[0]

    def fetch(self) -> NDArray[np.float32]:
        return np.array(self._output, dtype=np.float32)

    def device_ms(self) -> float | None:
        return None

    def close(self) -> None:
        del self._evaluator


def ready(artifact: Artifact, device: str) -> None:
    """Everything is imported with this module."""


def open_session(
    artifact: Artifact, model: Model, device: str, threads: int, trust_code: bool, variants: tuple[str, ...] = ()
) -> ReferenceSession:
    return ReferenceSession(artifact)


def probe(device: str) -> str:
    return f"onnx {onnx.__version__}"
