"""The plain data that every step hands to the next, as it stands in `result.json`.

Records do no I/O. Units are in the names; top-1, top-5, agreement and intervals are fractions in [0, 1].
Schema history: 1, the first.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, computed_field, model_validator

from rtbench.terms import CalibrationMethod, Format, Interpolation, Precision, Status

Triple = tuple[float, float, float]
Interval = tuple[float, float]


class Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Preprocessing(Record):
    """How an image becomes an input: resize the shorter side, centre crop, scale to [0, 1], normalise."""

    input_size: int
    resize: int
    interpolation: Interpolation
    mean: Triple
    std: Triple
    colour_order: Literal["RGB"] = "RGB"
    source: str
    """Who says so, in words for the report."""


class Model(Record):
    name: str
    source: str
    arch: str | None
    arch_options: dict[str, int | bool] = {}
    """Keyword arguments that build the architecture this state dict fits."""
    sha256: str
    parameters: int | None
    classes: int
    preprocessing: Preprocessing
    random_weights: bool = False


class Fidelity(Record):
    """How closely outputs follow the model's own, over the same images.

    `relative_error` is the RMS error over the RMS spread of the model's outputs across images: 0 is the
    model itself, 1 is as wrong as a constant. `judged` is false where that spread is within rounding of
    this precision, so that the figures say nothing about the artifact.
    """

    images: int
    top1_agreement: float
    cosine_mean: float
    max_abs_error: float
    relative_error: float | None
    judged: bool
    verdict: str


class Calibration(Record):
    source: str
    method: CalibrationMethod
    images: int
    fingerprint: str
    evaluation_images: bool = False
    """True where the images are drawn from those that accuracy is measured on."""
    files: list[str] = []


class Check(Record):
    """The outcome of running an artifact against the model right after it was made."""

    status: Status
    reason: str | None
    fidelity: Fidelity | None
    note: str | None = None


class Artifact(Record):
    path: str
    format: Format
    precision: Precision
    size_bytes: int
    """On disk, external data included."""
    sha256: str
    made_from: dict[str, str]
    """Everything it depends on, as text: equal means that it need not be made again."""
    tools: dict[str, str]
    calibration: Calibration | None = None
    dynamic_batch: bool = True
    check: Check | None = None


class Gpu(Record):
    name: str
    compute_capability: str
    driver: str
    memory_mib: int


class Environment(Record):
    cpu: str
    cores: int
    threads: int
    """Threads given to every runtime."""
    memory_mib: int
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
    sample: bool = False
    """True for the built-in sample: a smoke test, never a score."""


class Latency(Record):
    runs: int
    rounds: int
    mean_ms: float
    std_ms: float
    min_ms: float
    max_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    mean_ci95_ms: Interval | None
    device_mean_ms: float | None = None
    stable: bool
    warnings: list[str]


class Accuracy(Record):
    images: int
    top1: float
    top5: float | None
    """None for models of fewer than five classes."""
    top1_ci95: Interval
    top5_ci95: Interval | None
    agreement: float | None
    """Same top-1 as the torch/fp32 row of this model on the same images; None without that row."""


class Scores(Record):
    size: float | None
    latency: float | None
    accuracy: float | None
    on_baseline_hardware: bool
    speedup_vs_torch: float | None


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
    latency: Latency | None = None
    accuracy: Accuracy | None = None
    fidelity: Fidelity | None = None
    scores: Scores | None = None


class Run(Record):
    schema_version: Literal[1] = 1
    created: str
    command: list[str]
    complete: bool
    """False while measuring, and for good where the run was interrupted."""
    environment: Environment
    models: list[Model]
    baseline: Baseline | None
    """None only where `--baseline measured` found no torch/fp32 row to be it."""
    dataset: Dataset | None
    rows: list[Row]

    @model_validator(mode="before")
    @classmethod
    def _without_computed(cls, data: Any) -> Any:
        return {key: value for key, value in data.items() if key != "model"} if isinstance(data, dict) else data

    @computed_field  # type: ignore[prop-decorator]
    @property
    def model(self) -> Model:
        """The first of `models`, which is the only one unless several were compared."""
        return self.models[0]
