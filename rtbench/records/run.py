"""The record of a run, which is `result.json`.

Schema history: 1, the first; 2, without the reference timing, with disturbed rounds, the recommendation and `against`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, computed_field, model_validator

from rtbench.errors import UsageError
from rtbench.records import Interval, Positive, Record
from rtbench.records.measurement import Accuracy, Comparison, Conditions, Fidelity, Latency, MlPerf, Startup
from rtbench.records.model import Artifact, Model
from rtbench.terms import Precision, Status

SCHEMA_VERSION: Literal[2] = 2


class Gpu(Record):
    name: str
    compute_capability: str
    driver: str
    memory_mib: int
    uuid: str | None = None
    bandwidth_gb_s: float | None = None
    """Of its memory, by clock and bus width; None where the driver does not say, and in runs of earlier versions."""
    l2_bytes: int | None = None


class Cpu(Record):
    """Which CPU it is, as far as the system says; a name like "AMD EPYC" stands for several generations."""

    vendor: str
    family: str
    model: str
    stepping: str
    microcode: str | None
    flags: list[str]
    """Those of its instruction sets that decide how fast, or whether rightly, a network is computed."""

    def __str__(self) -> str:
        microcode = f", microcode {self.microcode}" if self.microcode else ""
        named = f"{self.vendor} family {self.family} model {self.model} stepping {self.stepping}{microcode}"
        return f"{named} ({' '.join(self.flags)})"


class Environment(Record):
    cpu: str
    cpu_details: Cpu | None = None
    """None where the system does not say, and in runs of earlier versions."""
    cores: int
    threads: int
    """Threads given to every runtime."""
    memory_mib: int | None
    """None where the system does not say."""
    affinity: list[int] = []
    """Processors that every worker may run on; empty where the system does not say."""
    cpu_limit: float | None = None
    """Cores that the container's limit allows; None without one."""
    governor: str | None = None
    """How the first CPU's frequency is governed; None where the system does not say."""
    gpu: Gpu | None
    os: str
    python: str
    packages: dict[str, str]


class Baseline(Record):
    name: str
    latency_ms: float
    top1: float | None
    top5: float | None
    size_mib: float
    hardware: str
    gpu: str | None = None
    """The word or words in the GPU's name that mean baseline hardware."""
    classes: int | None = None
    """Of the task that its top-1 was measured on: accuracy scores are for models with as many; None: for any."""
    measured: bool = False
    """True for a row of this very run."""


class Dataset(Record):
    source: str
    images: int
    labelled: int
    classes: int | None
    labels: str
    """How labels were read: wnid, index, folder order, or none."""
    fingerprint: str
    available: int | None = None
    """How many images there were, where `--limit` took a part of them."""
    unreadable: list[str] = []
    """Why each image that could not be read could not, with its name."""
    test_set: str | None = None
    """Which other test set of ImageNet's classes it is, as ImageNetV2: accuracy on it is not an ImageNet score."""
    among_classes: int | None = None
    """How many classes answers were chosen among, where those are not all of the model's."""
    choices: list[str] = []
    """How labels were read where it could be otherwise, and which files were left out, in sentences."""
    sample: bool = False
    """True for the built-in sample: a smoke test, never a score."""


class Scores(Record):
    size: float | None
    latency: float | None
    accuracy: float | None
    on_baseline_hardware: bool
    speedup_vs_torch: Positive | None
    """How many times faster than the reference row, torch/fp32 or tf/fp32, from the rounds that both were timed in."""
    speedup_ci95: Interval | None = None
    speedup_vs_best_torch: Positive | None = None
    """The same against the fastest torch row, where that is a variant."""


class Row(Record):
    id: str
    model: str
    runtime: str
    provider: str | None
    device: str | None
    precision: Precision
    status: Status
    reason: str | None = None
    warnings: list[str] = []
    artifact: Artifact | None = None
    timed: str | None = None
    """What exactly a timed run does."""
    settings: dict[str, str] = {}
    """The runtime's settings, which are its own defaults but where they say otherwise."""
    placement: dict[str, dict[str, int]] = {}
    """For each execution provider, how many nodes of which operator it was given; empty where not known."""
    layers: dict[str, dict[str, int]] = {}
    """Of an engine: for each precision, how many convolutions and matrix products and how many other layers."""
    startup: Startup | None = None
    latency: Latency | None = None
    conditions: Conditions | None = None
    mlperf: MlPerf | None = None
    leads: bool = False
    """True for the fastest row and for those that no difference to it is shown of."""
    accuracy: Accuracy | None = None
    fidelity: Fidelity | None = None
    scores: Scores | None = None


class Recommendation(Record):
    """Which row to ship, or why none."""

    row: str | None
    verdict: Literal["ship", "not enough evidence", "check", "none"]
    """check: labels and preprocessing; none: nothing was measured."""
    reason: str
    """The answer in full sentences, with what to mind before acting on it."""
    max_loss: float
    """Of top-1 against the model itself, as a fraction."""
    max_disagreement: float
    """The same where no image is labelled: answers that are not the model's."""
    images_needed: int | None
    """About how many images would settle what is open; None where that is not known."""


class AgainstRow(Record):
    """An earlier run's row, timed again beside the row of the same name: medians, and how many times faster the new one
    is; without a comparison `reason` says why."""

    id: str
    before_ms: float | None
    after_ms: float | None
    comparison: Comparison | None
    reason: str | None


class Against(Record):
    """An earlier run whose artifacts were timed again in the rounds of this one."""

    path: str
    created: str
    python: str | None
    """The interpreter that they were run with, where it is not that of this run."""
    rows: list[AgainstRow]


class Run(Record):
    schema_version: Literal[2] = SCHEMA_VERSION
    created: str
    command: list[str]
    complete: bool
    """False while measuring, and for good where the run was interrupted."""
    resumed: list[str] = []
    """When it was taken up again after an interruption."""
    environment: Environment
    models: list[Model] = Field(min_length=1)
    baseline: Baseline | None
    """None only where `--baseline measured` found no reference row to be it."""
    dataset: Dataset | None
    rows: list[Row]
    comparisons: list[Comparison] = []
    """Every row with its reference row, with the fastest row, and with the recommended one."""
    against: Against | None = None
    recommendation: Recommendation | None = None
    """None while measuring, and in runs of earlier versions."""

    @model_validator(mode="before")
    @classmethod
    def _without_computed(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if key != "model"} if isinstance(data, dict) else data

    @computed_field  # type: ignore[prop-decorator]
    @property
    def model(self) -> Model:
        """The first of `models`, which is the only one unless several were compared."""
        return self.models[0]

    def to_pandas(self) -> Any:
        """A DataFrame with one row a row; columns are named as in `result.json`, `latency.mean_ms` and so on.

        Raises UsageError where pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UsageError("to_pandas() needs pandas, which is not installed", "pip install pandas") from None
        return pandas.json_normalize([row.model_dump() for row in self.rows])
