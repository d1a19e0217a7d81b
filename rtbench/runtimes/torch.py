"""PyTorch itself: eager and contiguous in inference mode, or as people deploy it, by variants."""

from __future__ import annotations

import contextlib
import time

import torch
from numpy import float32
from numpy.typing import NDArray

from rtbench import nvidia
from rtbench.errors import DeviceFailed, RuntimeUnavailable
from rtbench.models.load import open_torch_artifact
from rtbench.models.loaded import as_logits
from rtbench.records.model import Artifact, Model
from rtbench.runtimes import Clock, SessionInfo


class TorchSession:
    """Variants: `channels_last`; `compile`; `benchmark`, where cuDNN tries its kernels and takes the fastest; `bf16`,
    by autocast; `fp16`, weights and input."""

    scripted_clock: Clock | None = None

    def __init__(
        self,
        artifact: Artifact,
        model: Model,
        device: str,
        threads: int,
        trust_code: bool,
        variants: tuple[str, ...] = (),
    ) -> None:
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # FP32 is FP32
        torch.backends.cudnn.benchmark = "benchmark" in variants
        self._device = torch.device(device)
        self._layout = torch.channels_last if "channels_last" in variants else torch.contiguous_format
        self._kind = torch.float16 if "fp16" in variants else torch.float32
        self._cast = torch.autocast(device, torch.bfloat16) if "bf16" in variants else contextlib.nullcontext()
        self._module = open_torch_artifact(artifact, model, trust_code).module
        if isinstance(self._module, torch.nn.Module):
            self._module = self._module.to(self._device)
            if "fp16" in variants:
                self._module = self._module.half()
            if "channels_last" in variants:
                self._module = self._module.to(memory_format=self._layout)
        settings = {
            "mode": "inference_mode" if "compile" in variants else "eager, inference_mode",
            "memory_format": "channels last" if "channels_last" in variants else "contiguous",
        }
        if "bf16" in variants:
            settings["autocast"] = "bfloat16"
        if device == "cuda":
            settings |= {"allow_tf32": "False", "cudnn.benchmark": str("benchmark" in variants)}
            self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        warnings: list[str] = []
        if "compile" in variants:
            settings["compile"], broken = self._compile((1, *model.preprocessing.input_shape))
            warnings += broken
        self.info = SessionInfo(
            provider=f"torch {torch.__version__}", device=device, settings=settings, warnings=tuple(warnings)
        )

    def _compile(self, shape: tuple[int, ...]) -> tuple[str, list[str]]:
        """Compile for this input, weights folded in: with what and how long it took, and what of it stays eager."""
        import torch._dynamo as dynamo
        import torch._inductor.config as inductor

        require_compiler()
        inductor.compile_threads = 1  # no processes beside this one, which a pause would not stop
        inductor.freezing = self._device.type == "cpu"
        self._module = torch.compile(self._module, dynamic=False)
        began = time.perf_counter()
        self.bind(torch.zeros(shape).numpy())
        self.run()
        took = time.perf_counter() - began
        breaks = sum(dynamo.utils.counters["graph_break"].values())
        broken = [f"torch.compile broke the graph in {breaks} places, which run eager"] if breaks else []
        return f"inductor{', freezing' if inductor.freezing else ''}, {took:.1f} s", broken

    def bind(self, batch: NDArray[float32]) -> None:
        self._input = torch.from_numpy(batch).to(self._device, self._kind, memory_format=self._layout)

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
        with torch.inference_mode(), self._cast:
            self._output = self._module(self._input)

    def fetch(self) -> NDArray[float32]:
        return as_logits(self._output)

    def device_ms(self) -> float | None:
        return None if self._device.type == "cpu" else self._begin.elapsed_time(self._end)

    def close(self) -> None:
        del self._module


def ready(artifact: Artifact, device: str) -> None:
    pass


def open_session(
    artifact: Artifact, model: Model, device: str, threads: int, trust_code: bool, variants: tuple[str, ...] = ()
) -> TorchSession:
    probe(device)
    if "bf16" in variants and device == "cpu":
        require_bf16()
    return TorchSession(artifact, model, device, threads, trust_code, variants)


def probe(device: str) -> str:
    if device == "cpu":
        return f"torch {torch.__version__}"
    if torch.version.cuda is None:
        raise RuntimeUnavailable("this torch is built without CUDA", "pip install torch from its CUDA index")
    if not torch.cuda.is_available():
        nvidia.require_cuda(torch.version.cuda, f"torch {torch.__version__}")
        raise RuntimeUnavailable("torch finds no CUDA device", "run it alone to see why, or use torch:cpu")
    return f"torch {torch.__version__}, CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}"


def require_bf16() -> None:
    """RuntimeUnavailable where PyTorch emulates BF16, which takes seconds an image."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        raise RuntimeUnavailable("this CPU has no BF16 instructions, and PyTorch's emulation takes seconds an image")


def require_compiler() -> None:
    """RuntimeUnavailable where torch.compile lacks what it builds kernels with."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler as error:
        raise RuntimeUnavailable("torch.compile finds no C++ compiler", "apt-get install g++") from error
