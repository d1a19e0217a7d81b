"""PyTorch itself, eager, in inference mode."""

from __future__ import annotations

import torch
from numpy import float32
from numpy.typing import NDArray

from rtbench import nvidia
from rtbench.errors import DeviceFailed, RuntimeUnavailable
from rtbench.models.load import open_torch_artifact
from rtbench.models.loaded import as_logits
from rtbench.records.model import Artifact, Model
from rtbench.runtimes import Clock, SessionInfo

MEMORY_FORMATS = {torch.contiguous_format: "contiguous", torch.channels_last: "channels last"}


class TorchSession:
    """A variant of this runtime is a class of its own."""

    scripted_clock: Clock | None = None
    memory_format = torch.contiguous_format
    benchmark = False
    """Whether cuDNN tries several kernels for a convolution, and takes the fastest."""

    def __init__(self, artifact: Artifact, model: Model, device: str, threads: int, trust_code: bool) -> None:
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # FP32 is FP32
        torch.backends.cudnn.benchmark = self.benchmark
        self._device = torch.device(device)
        self._module = open_torch_artifact(artifact, model, trust_code).module
        if isinstance(self._module, torch.nn.Module):
            self._module = self.placed(self._module)
        self.info = SessionInfo(
            provider=f"torch {torch.__version__}",
            device=device,
            settings={"mode": "eager, inference_mode", "memory_format": MEMORY_FORMATS[self.memory_format]}
            | ({"allow_tf32": "False", "cudnn.benchmark": str(self.benchmark)} if device == "cuda" else {}),
        )

        if device == "cuda":
            self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

    def placed(self, module: torch.nn.Module) -> torch.nn.Module:
        return module.to(self._device)

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
            raise DeviceFailed(f"the GPU stopped: {first}", "see its Xid error in dmesg, and reset it") from error

    def _compute(self) -> None:
        with torch.inference_mode():
            self._output = self._module(self._input)

    def fetch(self) -> NDArray[float32]:
        return as_logits(self._output)

    def device_ms(self) -> float | None:
        return None if self._device.type == "cpu" else self._begin.elapsed_time(self._end)

    def close(self) -> None:
        del self._module


def ready(artifact: Artifact, device: str) -> None:
    pass


def open_session(artifact: Artifact, model: Model, device: str, threads: int, trust_code: bool) -> TorchSession:
    probe(device)
    return TorchSession(artifact, model, device, threads, trust_code)


def probe(device: str) -> str:
    if device == "cpu":
        return f"torch {torch.__version__}"
    if torch.version.cuda is None:
        raise RuntimeUnavailable("this torch is built without CUDA", "pip install torch from its CUDA index")
    if not torch.cuda.is_available():
        nvidia.require_cuda(torch.version.cuda, f"torch {torch.__version__}")
        raise RuntimeUnavailable("torch finds no CUDA device", "run it alone to see why, or use torch:cpu")
    return f"torch {torch.__version__}, CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}"
