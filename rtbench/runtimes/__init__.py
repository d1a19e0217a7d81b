"""What executes an artifact: the contract, and one module a runtime; `known` has their table.

An artifact comes in, an open session goes out. A runtime never times itself, and falls back to nothing in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rtbench.records import Record
from rtbench.records.model import Artifact, Model

Clock = Callable[[], int]
"""Nanoseconds since some start."""


HEAVY = ("Conv", "ConvInteger", "QLinearConv", "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul")
PROVEN = ("torch:cuda/fp32", "torch+benchmark/fp32", "ort:cuda/fp32")
"""Rows whose outputs have been seen to be right on a GPU."""
UNPROVEN = (
    "its outputs have not yet been checked on such a device: on an NVIDIA GPU, judge it with make gpu-check first"
)
"""What every other row says that is not on the CPU."""


def misplaced(placement: Mapping[str, Mapping[str, int]], provider: str) -> dict[str, dict[str, int]]:
    """The convolutions and matrix products that another execution provider than `provider` was given."""
    heavy = {name: {kind: counts[kind] for kind in HEAVY if kind in counts} for name, counts in placement.items()}
    return {name: counts for name, counts in heavy.items() if counts and name != provider}


class SessionInfo(Record):
    """What a session says of itself once it has loaded an artifact."""

    provider: str
    """What really executes: an ONNX Runtime execution provider, or the library's name."""
    device: str
    """cpu, cuda, gpu (Intel's) or npu."""
    settings: dict[str, str]
    placement: dict[str, dict[str, int]] = {}  # noqa: RUF012 - pydantic copies it
    """For each execution provider, how many nodes of which operator it was given."""
    layers: dict[str, dict[str, int]] = {}  # noqa: RUF012 - pydantic copies it
    """For each precision, how many layers run in it: convolutions and matrix products, and others."""
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
    def open_session(
        artifact: Artifact, model: Model, device: str, threads: int, trust_code: bool, variants: tuple[str, ...] = ()
    ) -> Session:
        """Load an artifact; RuntimeUnavailable where this machine cannot, or not on this device.

        `variants`: how it runs otherwise than by default, and in which precision where that is not the artifact's.
        """

    @staticmethod
    def probe(device: str) -> str:
        """What would run, in words, found by running something; RuntimeUnavailable where it cannot."""
