"""PyTorch itself, eager, in inference mode."""

from __future__ import annotations

import torch
from numpy import float32
from numpy.typing import NDArray

from rtbench.errors import DeviceFailed, RuntimeUnavailable
from rtbench.models.load import as_logits, open_torch_artifact
from rtbench.records.model import Artifact, Model
from rtbench.runtimes import Clock, SessionInfo


class TorchSession:
    scripted_clock: Clock | None = None

    def __init__(self, artifact: Artifact, model: Model, device: str, threads: int, trust_pickle: bool) -> None:
        torch.set_num_threads(threads)
        self._device = torch.device(device)
        self._module = open_torch_artifact(artifact, model, trust_pickle).module
        if isinstance(self._module, torch.nn.Module):
            self._module = self._module.to(self._device)
        self.info = SessionInfo(
            provider=f"torch {torch.__version__}",
            device=device,
            settings={"mode": "eager, inference_mode", "memory_format": "contiguous"},
        )

        if device == "cuda":
            self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

    def bind(self, batch: NDArray[float32]) -> None:
        self._input = torch.from_numpy(batch).to(self._device)

    def run(self) -> None:
        if self._device.type == "cpu":
            self._compute()
            return
        try:
            self._begin.record()
            self._compute()
            self._end.record()
            torch.cuda.synchronize(self._device)
        except torch.OutOfMemoryError as error:
            raise DeviceFailed("the GPU is out of memory", "end what else uses it") from error
        except torch.AcceleratorError as error:
            first = str(error).splitlines()[0]
            raise DeviceFailed(f"the GPU broke off: {first}", "see its Xid error in dmesg, and reset it") from error

    def _compute(self) -> None:
        with torch.inference_mode():
            self._output = self._module(self._input)

    def fetch(self) -> NDArray[float32]:
        return as_logits(self._output)

    def device_ms(self) -> float | None:
        return None if self._device.type == "cpu" else self._begin.elapsed_time(self._end)

    def close(self) -> None:
        del self._module


def open_session(artifact: Artifact, model: Model, device: str, threads: int, trust_pickle: bool) -> TorchSession:
    probe(device)
    return TorchSession(artifact, model, device, threads, trust_pickle)


def probe(device: str) -> str:
    if device == "cpu":
        return f"torch {torch.__version__}"
    if torch.version.cuda is None:
        raise RuntimeUnavailable("this torch is built without CUDA", "pip install torch from its CUDA index")
    if not torch.cuda.is_available():
        raise RuntimeUnavailable("torch finds no CUDA device", "install the NVIDIA driver, or use torch:cpu")
    return f"torch {torch.__version__}, CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}"
