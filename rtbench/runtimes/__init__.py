"""What executes an artifact: the contract, and one module a runtime, imported when it is asked for.

An artifact comes in, an open session goes out. A runtime never times itself, and falls back to nothing in silence.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from rtbench.errors import UsageError
from rtbench.records import Record
from rtbench.records.model import Artifact, Model
from rtbench.terms import Format, Precision

Clock = Callable[[], int]
"""Nanoseconds since some start."""


HEAVY = ("Conv", "ConvInteger", "QLinearConv", "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul")
PROVEN = ("torch:cuda/fp32", "torch+benchmark/fp32", "ort:cuda/fp32")
"""Rows whose outputs have been seen to be right on a GPU."""
UNPROVEN = "its outputs have not yet been checked on a GPU: judge it with make gpu-check first"
"""What every other row on a GPU says."""


def misplaced(placement: Mapping[str, Mapping[str, int]], provider: str) -> dict[str, dict[str, int]]:
    """The convolutions and matrix products that another execution provider than `provider` was given."""
    heavy = {name: {kind: counts[kind] for kind in HEAVY if kind in counts} for name, counts in placement.items()}
    return {name: counts for name, counts in heavy.items() if counts and name != provider}


class SessionInfo(Record):
    """What a session says of itself once it has loaded an artifact."""

    provider: str
    """What really executes: an ONNX Runtime execution provider, or the library's name."""
    device: str
    """cpu or cuda."""
    settings: dict[str, str]
    placement: dict[str, dict[str, int]] = {}  # noqa: RUF012 - pydantic copies it
    """For each execution provider, how many nodes of which operator it was given."""
    layers: dict[str, dict[str, int]] = {}  # noqa: RUF012 - pydantic copies it
    """For each precision, how many of an engine's layers run in it: convolutions and matrix products, and others."""
    scripted: bool = False
    """Whether runs are timed by a script instead of the host's clock: then nothing on the machine disturbs them."""
    warnings: tuple[str, ...] = ()
    """What whoever reads this session's figures should know."""


class Session(Protocol):
    """One artifact, loaded. Batches live in host memory: float32 (N, C, H, W) in, (N, classes) out.

    `bind` stages an input, `run` returns when the device is done, `fetch` gives the finished output of
    the last run. A session never times itself; `device_ms` is what the GPU's own clock says of the last
    run's compute, copies left out, and None where nothing says it.
    """

    info: SessionInfo
    scripted_clock: Clock | None
    """None but for the fake runtime, which is timed by it instead of by the host's clock."""

    def bind(self, batch: NDArray[np.float32]) -> None: ...
    def run(self) -> None: ...
    def fetch(self) -> NDArray[np.float32]: ...
    def device_ms(self) -> float | None: ...
    def close(self) -> None: ...


class RuntimeModule(Protocol):
    """What each module in this package offers."""

    @staticmethod
    def ready(artifact: Artifact, device: str) -> None:
        """Import all that `open_session` needs, so that none of it counts as loading."""

    @staticmethod
    def open_session(artifact: Artifact, model: Model, device: str, threads: int, trust_code: bool) -> Session:
        """Load an artifact; RuntimeUnavailable where this machine cannot, or not on this device."""

    @staticmethod
    def probe(device: str) -> str:
        """What would run, in words, found by running something; RuntimeUnavailable where it cannot."""


@dataclass(frozen=True)
class Runtime:
    """A runtime as the table knows it; `devices` are what may follow its name after a colon."""

    name: str
    module: str
    formats: frozenset[Format]
    precisions: tuple[Precision, ...]
    devices: tuple[str, ...]
    made_of: Precision | None = None
    """The precision of the artifacts that it takes, where it computes in another one itself."""


_ALL: tuple[Precision, ...] = ("fp32", "fp16", "int8")
_TORCH: frozenset[Format] = frozenset({"state_dict", "torchscript", "pickle", "pt2"})
QUANTISED: frozenset[Format] = frozenset({"torchscript", "pickle", "pt2"})
"""Formats in which a network can be that PyTorch has quantised itself."""
RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime("torch", "rtbench.runtimes.torch", _TORCH, ("fp32",), ("cpu", "cuda")),
        Runtime("torch+half", "rtbench.runtimes.torch_half", _TORCH - {"pt2"}, ("fp16",), ("cuda",), made_of="fp32"),
        Runtime("torch+benchmark", "rtbench.runtimes.torch_benchmark", _TORCH, ("fp32",), ("cuda",)),
        Runtime("ort", "rtbench.runtimes.ort", frozenset({"onnx"}), _ALL, ("cpu", "cuda", "trt")),
        Runtime("trt", "rtbench.runtimes.trt", frozenset({"engine"}), ("fp16", "int8"), ("cuda",)),
        Runtime("fake", "rtbench.runtimes.fake", frozenset({"fake"}), _ALL, ("cpu",)),
    )
}


@dataclass(frozen=True)
class RuntimeChoice:
    """A runtime as the user wrote it (`ort`, `ort:cuda`) and the device that it means here."""

    written: str
    runtime: Runtime
    device: str

    def takes(self, kind: Format, precision: Precision) -> bool:
        """Whether it runs artifacts of this kind; what TensorRT runs in INT8 is quantised in its own way."""
        if self.runtime.name == "ort" and precision == "int8":
            return kind == ("onnx_trt" if self.device == "trt" else "onnx")
        quantised = self.runtime.name == "torch" and precision == "int8" and kind in QUANTISED
        return kind in self.runtime.formats and (precision in self.runtime.precisions or quantised)


def choose(written: str, *, gpu: bool) -> RuntimeChoice:
    """Read `name` or `name:device`. A bare name means the GPU where there is one (`gpu`), else the CPU.

    Raises UsageError with the nearest name for one that is not known.
    """
    name, _, device = written.partition(":")
    runtime = RUNTIMES.get(name)
    if runtime is None:
        raise UsageError(f"there is no runtime {name!r}", _hint(name, list(RUNTIMES)))
    if device and device not in runtime.devices:
        raise UsageError(f"runtime {name} has no device {device!r}", _hint(device, list(runtime.devices)))
    if not device:
        device = "cuda" if gpu and "cuda" in runtime.devices else runtime.devices[0]
    return RuntimeChoice(written, runtime, device)


def _hint(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def load_runtime(name: str) -> RuntimeModule:
    """Import a runtime's module and with it the packages that it needs."""
    return cast(RuntimeModule, import_module(RUNTIMES[name].module))
