"""ExecuTorch's Python runtime on one program."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import torch
from executorch.extension.pybindings import portable_lib
from executorch.runtime import Runtime
from numpy.typing import NDArray

from rtbench.records.model import Artifact, Model
from rtbench.runtimes import SessionInfo


class ExecuTorchSession:
    scripted_clock = None

    def __init__(self, artifact: Artifact, threads: int) -> None:
        portable_lib._unsafe_reset_threadpool(threads)  # the only way that its Python has
        self._program = Runtime.get().load_program(artifact.path)
        self._method = self._program.load_method("forward")
        used = portable_lib._threadpool_get_thread_count()
        self.info = SessionInfo(
            provider=f"executorch {version('executorch')}",
            device="cpu",
            settings={"backend": "XNNPACK", "threads": str(used)},
        )

    def bind(self, batch: NDArray[np.float32]) -> None:
        self._input = torch.from_numpy(batch)

    def run(self) -> None:
        self._output = self._method.execute([self._input])[0]

    def fetch(self) -> NDArray[np.float32]:
        return self._output.numpy().astype(np.float32, copy=True)

    def device_ms(self) -> float | None:
        return None

    def close(self) -> None:
        del self._method, self._program


def ready(artifact: Artifact, device: str) -> None:
    """Everything is imported with this module."""


def open_session(
    artifact: Artifact, model: Model, device: str, threads: int, trust_code: bool, variants: tuple[str, ...] = ()
) -> ExecuTorchSession:
    return ExecuTorchSession(artifact, threads)


def probe(device: str) -> str:
    return f"executorch {version('executorch')}, {', '.join(Runtime.get().backend_registry.registered_backend_names)}"
