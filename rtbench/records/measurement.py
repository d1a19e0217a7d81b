"""Records of what was measured of one row."""

from __future__ import annotations

from typing import Literal

from rtbench.records import Interval, Record


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
    disturbed_rounds: int = 0
    """Rounds in which something else used the machine; no figure is made of them but where `disturbed` says so."""
    disturbed: str | None = None
    """What disturbed so many rounds that figures are made of them all, and comparable with nothing; else None."""
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
    waited_cores: float = 0.0
    """How many of the row's threads, on average, were ready to run and had no core."""
    stolen_cores: float
    """Cores that the host of this virtual machine took away."""
    throttled_s: float
    """How long the container's CPU limit stopped it."""
    cpu_mhz: Interval | None
    temperature_c: float | None
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
