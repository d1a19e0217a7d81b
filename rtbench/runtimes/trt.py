"""TensorRT: accepted by name; this version of rtbench builds and runs no engines yet."""

from __future__ import annotations

from typing import NoReturn

from rtbench.errors import RuntimeUnavailable
from rtbench.records import Artifact, Model

REASON = "this version of rtbench cannot build or run TensorRT engines yet"
REMEDY = "measure onnx artifacts with ort:trt on a machine with TensorRT meanwhile"


def open_session(artifact: Artifact, model: Model, device: str, threads: int, trust_pickle: bool) -> NoReturn:  # noqa: ARG001
    raise RuntimeUnavailable(REASON, REMEDY)


def probe(device: str) -> NoReturn:  # noqa: ARG001
    raise RuntimeUnavailable(REASON, REMEDY)
