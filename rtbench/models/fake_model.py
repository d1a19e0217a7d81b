"""A scripted classifier: what the fake runtime loads, for tests of everything around a network.

A `.fake` file is JSON: how many classes, how long runs take by a scripted clock, and what goes wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from rtbench import artifacts
from rtbench.errors import UsageError
from rtbench.images.preprocessing import RESNET, overridden
from rtbench.options import ModelOptions
from rtbench.records import Record
from rtbench.records.model import Artifact, Model, safe_name
from rtbench.terms import LARGEST_SIDE, Precision


class Fault(Record):
    """What goes wrong, and in which step: after `after` calls of `run` where the step is `run`."""

    how: Literal["raise", "exit", "kill", "hang", "eat", "nan", "unavailable"]
    step: Literal["open", "run"] = "run"
    after: int = Field(default=0, ge=0)


class Sleep(Record):
    """A device that lowers its clock while its process is stopped: runs take `slower` times as long until it has
    worked for `wakes_ms`."""

    slower: float
    wakes_ms: float


class FakeScript(Record):
    classes: int = Field(default=10, ge=1, le=1_000_000)
    input_size: int = Field(default=8, ge=1, le=LARGEST_SIDE)
    precision: Precision = "fp32"
    latency_ms: tuple[Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)], ...] = (1.0,)
    """Durations by the scripted clock, taken in turn; empty for the real clock."""
    noise: float = Field(default=0.0, ge=0, le=1e9, allow_inf_nan=False)
    """Standard deviation of what the fake runtime adds to the logits."""
    fault: Fault | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    """What the session says that it runs on."""
    sleep: Sleep | None = None

    def logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, classes): the channel means of the input through a fixed random projection."""
        projection = np.random.Generator(np.random.PCG64(7)).standard_normal((3, self.classes))
        projected: NDArray[np.float32] = (batch.mean(axis=(2, 3)) @ projection).astype(np.float32)
        return projected


def read_script(path: Path) -> FakeScript:
    artifacts.require_file(path)
    try:
        return FakeScript.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        problem = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        raise UsageError(f"{path} is not a script for the fake runtime: {problem}", "fix it") from None


def adopt(path: Path, script: FakeScript, options: ModelOptions) -> tuple[Model, Artifact]:
    recipe = RESNET.model_copy(update={"input_size": script.input_size, "resize": script.input_size})
    sha256 = artifacts.file_sha256(path)
    model = Model(
        name=safe_name(path.stem),
        source=str(path),
        arch=None,
        sha256=sha256,
        parameters=None,
        classes=script.classes,
        preprocessing=overridden(recipe, options),
    )
    artifact = Artifact(
        path=str(path),
        format="fake",
        precision=script.precision,
        size_bytes=artifacts.size_on_disk(path),
        sha256=sha256,
        made_from={"file": str(path)},
        tools={},
    )
    return model, artifact
