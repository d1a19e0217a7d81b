"""PyTorch on a GPU in FP16, channels last, with the convolutions that cuDNN finds fastest by trying them."""

from __future__ import annotations

import torch
from numpy import float32
from numpy.typing import NDArray

from rtbench.records.model import Artifact, Model
from rtbench.runtimes.torch import TorchSession, probe, ready

__all__ = ["open_session", "probe", "ready"]


class HalfSession(TorchSession):
    memory_format = torch.channels_last
    benchmark = True

    def placed(self, module: torch.nn.Module) -> torch.nn.Module:
        return super().placed(module).half().to(memory_format=self.memory_format)

    def bind(self, batch: NDArray[float32]) -> None:
        super().bind(batch)
        self._input = self._input.to(torch.float16, memory_format=self.memory_format)


def open_session(artifact: Artifact, model: Model, device: str, threads: int, trust_code: bool) -> TorchSession:
    probe(device)
    return HalfSession(artifact, model, device, threads, trust_code)
