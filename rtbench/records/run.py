"""The plain data that every step hands to the next, as it stands in `result.json`.

Records do no I/O. Units are in the names; top-1, top-5, agreement and intervals are fractions in [0, 1].
Schema history: 1, the first.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator

from rtbench.errors import UsageError
from rtbench.terms import CalibrationMethod, Format, Interpolation, Library, Precision, Preprocess, Status

SCHEMA_VERSION: Literal[1] = 1
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
    preprocess: Preprocess = "torch"
    """Whose resize it is: torchvision's, or TensorFlow's, which squashes the image to a square."""
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


class BatchProfile(Record):
    """The batch sizes that an engine takes, and the one that it is tuned for."""

    min: int = Field(default=1, ge=1)
    opt: int = Field(default=1, ge=1)
    max: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _in_order(self) -> BatchProfile:
        if not self.min <= self.opt <= self.max:
            raise ValueError("must be min <= opt <= max")
        return self


class RecipeCalibration(Record):
    images: int = Field(default=256, ge=1)
    method: CalibrationMethod = "minmax"


class Recipe(Record):
    """How an engine is built, as a recipe file says it."""

    name: str
    precision: Literal["fp16", "int8"]
    compute_capability: str = Field(pattern=r"^\d+\.\d$")
    library: Library | None = None
    """None: `tensorrt` where it is installed and this machine has the GPU, else `tensorrt_rtx`."""
    workspace_mib: int = Field(default=1024, ge=1)
    optimization_level: int = Field(default=3, ge=0, le=5)
    batch: BatchProfile = BatchProfile()
    cuda_graph: bool = False
    """Whether the run is captured once as a CUDA graph and launched as a whole."""
    calibration: RecipeCalibration | None = None


class EngineBuild(Record):
    """Who built an engine, for what, from what: what must fit the machine that loads it."""

    library: Library
    library_version: str
    compute_capability: str
    gpu: str | None
    """The GPU that it was built beside, None where there was none."""
    driver: str | None
    recipe: Recipe
    number: int = 1
    """Which of several builds from one recipe."""
    source: str
    """File name of the ONNX it was built from."""
    source_sha256: str
    seconds: float
    timing_cache: bool
    """Whether kernel timings of earlier builds were used."""


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
    without: list[str] = []
    """Optimisers of ONNX Runtime that crash on this graph on the CPU, and are left out there."""
    kept_fp32: list[str] = []
    """Nodes of an FP16 or INT8 graph that stay in FP32, since their values pass the range of FP16."""
    build: EngineBuild | None = None


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
    sample: bool = False
    """True for the built-in sample: a smoke test, never a score."""


class Latency(Record):
    runs: int
    rounds: int
    processes: int = 1
    """Fresh processes that the rounds were timed in, one after the other."""
    mean_ms: float
    std_ms: float
    min_ms: float
    max_ms: float
    p50_ms: float
    p90_ms: float
    p90_bound_ms: float | None = None
    """One-sided 99 % upper bound of p90, as in MLPerf; None with too few runs for one."""
    p95_ms: float
    p99_ms: float | None
    """None with fewer runs than it takes to know it."""
    mean_ci95_ms: Interval | None
    device_mean_ms: float | None = None
    warmup_runs: int = 0
    settled: bool | None = None
    """Whether the warm-up found that the latency no longer fell; None where its length was given."""
    stable: bool
    warnings: list[str]


class Startup(Record):
    """What it takes to begin; never part of the latency."""

    load_ms: float
    """From the file to a session, the runtime's packages imported already."""
    first_run_ms: float


class GpuConditions(Record):
    sm_mhz: Interval
    temperature_c: float
    power_w: float
    slowdowns: list[str]
    other_processes: int


class Conditions(Record):
    """What the machine did during a row's blocks: means over them, extremes where there are two."""

    other_cores: float
    """Cores that processes other than this row's kept busy."""
    stolen_cores: float
    """Cores that the host of this virtual machine took away."""
    throttled_s: float
    """How long the container's CPU limit stopped it."""
    cpu_mhz: Interval | None
    temperature_c: float | None
    yardstick_ms: Interval | None = None
    """The 10th and the 90th percentile of what the yardstick took in the row's rounds."""
    gpu: GpuConditions | None


class MlPerf(Record):
    """The outcome of MLPerf's load generator, single-stream scenario."""

    verdict: str
    """VALID or INVALID."""
    queries: int
    p90_ms: float
    p90_bound_ms: float
    """Its early-stopping estimate: the one-sided 99 % bound."""


class Comparison(Record):
    """How one row's latency compares with another's in the same run, round by round."""

    row: str
    to: str
    ratio: float
    """How many times faster `row` is than `to`."""
    ci95: Interval | None
    quantile: float = 0.5
    """Of each round's runs: the median, or less where something else used the machine meanwhile."""
    verdict: Literal["faster", "slower", "no difference shown"]


class ClassLoss(Record):
    """How many of a class's images the model's own row had right, and this row has."""

    label: int
    name: str
    images: int
    own_right: int
    right: int


class Difference(Record):
    """A row's top-1 minus that of the model's own row (torch/fp32), on the same images.

    `lost` were right there and are wrong here, `gained` the reverse, `flipped` got another class at all.
    """

    images: int
    top1: float
    top1_ci95: Interval
    lost: int
    gained: int
    mcnemar_p: float
    flipped: int
    worst_classes: list[ClassLoss]


class Accuracy(Record):
    images: int
    top1: float
    top5: float | None
    """None for models of fewer than five classes."""
    top1_ci95: Interval
    top5_ci95: Interval | None
    agreement: float | None
    """Same top-1 as the torch/fp32 row of this model on the same images; None without that row."""
    unreadable: int = 0
    """How many of the images could not be read; they count as wrong."""
    batch_size: int = 1
    difference: Difference | None = None


class Scores(Record):
    size: float | None
    latency: float | None
    accuracy: float | None
    on_baseline_hardware: bool
    speedup_vs_torch: float | None
    """How many times faster than torch/fp32, from the rounds that both were timed in."""
    speedup_ci95: Interval | None = None


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
    startup: Startup | None = None
    latency: Latency | None = None
    conditions: Conditions | None = None
    mlperf: MlPerf | None = None
    leads: bool = False
    """True for the fastest row and for those that no difference to it is shown of."""
    accuracy: Accuracy | None = None
    fidelity: Fidelity | None = None
    scores: Scores | None = None


class Run(Record):
    schema_version: Literal[1] = SCHEMA_VERSION
    created: str
    command: list[str]
    complete: bool
    """False while measuring, and for good where the run was interrupted."""
    resumed: list[str] = []
    """When it was taken up again after an interruption."""
    environment: Environment
    models: list[Model]
    baseline: Baseline | None
    """None only where `--baseline measured` found no torch/fp32 row to be it."""
    dataset: Dataset | None
    rows: list[Row]
    comparisons: list[Comparison] = []
    """Every row with torch/fp32 and with the fastest row."""

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
