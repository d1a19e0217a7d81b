"""PyTorch on a GPU with the convolutions that cuDNN finds fastest for the input, by trying them."""

from __future__ import annotations

from rtbench.records.model import Artifact, Model
from rtbench.runtimes.torch import TorchSession, probe, ready

__all__ = ["open_session", "probe", "ready"]


class BenchmarkSession(TorchSession):
    benchmark = True


def open_session(artifact: Artifact, model: Model, device: str, threads: int, trust_code: bool) -> TorchSession:
    probe(device)
    return BenchmarkSession(artifact, model, device, threads, trust_code)
