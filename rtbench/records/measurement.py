"""Records of what was measured of one row."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from rtbench.records import Change, Count, Fraction, Interval, Positive, Record


class Fidelity(Record):
    """How closely outputs follow the model's own, over the same images.

    `relative_error` is the RMS error over the RMS spread of the model's outputs across images: 0 is the
    model itself, 1 is as wrong as a constant. `judged` is false where that spread is within rounding of
    this precision, so that the figures say nothing about the artifact.
    """

    images: Count
    top1_agreement: Fraction
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
    mean_ms: Positive
    std_ms: float
    min_ms: float
    max_ms: float
    p50_ms: Positive
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

    @model_validator(mode="after")
    def _says_why_unstable(self) -> Latency:
        if not (self.stable or self.warnings):
            raise ValueError("an unstable latency must have a warning")
        return self


class Startup(Record):
    """What it takes to begin; never part of the latency."""

    load_ms: float
    """From the file to a session, the runtime's packages imported already."""
    first_run_ms: float


class GpuConditions(Record):
    """None is what the GPU's management library does not say."""

    sm_mhz: Interval | None
    """Right after each block."""
    temperature_c: float | None
    power_w: float | None
    slowdowns: list[str]
    other_processes: int | None
    lead_mhz: Interval | None = None
    """Within the untimed runs at the head of each block."""
    chosen_clock: bool | None = None
    """Whether NVML says that somebody has set the clock; it does not say so of every way to set it."""

    def __str__(self) -> str:
        clock = _range(self.sm_mhz) + (f" ({_range(self.lead_mhz)} before)" if self.lead_mhz else "")
        said = [clock + (", set" if self.chosen_clock else "")]
        said += [f"{self.temperature_c:.0f} °C"] if self.temperature_c is not None else []
        said += [f"{self.power_w:.0f} W"] if self.power_w is not None else []
        return ", ".join([*said, *self.slowdowns])


def _range(mhz: Interval | None) -> str:
    return "clock not known" if mhz is None else f"{mhz[0]:.0f} to {mhz[1]:.0f} MHz"


class Conditions(Record):
    """What the machine did during a row's blocks: means over them, extremes where there are two."""

    other_cores: float
    """Cores that processes other than this row's kept busy."""
    waited_cores: float = 0.0
    """How many of the row's threads, on average, were ready to run and had no core."""
    stolen_cores: float
    """CPU steal: cores that the host of this virtual machine gave to others."""
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
    ratio: Positive
    """How many times faster `row` is than `to`."""
    ci95: tuple[Positive, Positive] | None
    verdict: Literal["faster", "slower", "no difference shown"]


class ClassLoss(Record):
    """How many of a class's images the model's own row had right, and this row has."""

    label: int
    name: str
    images: int
    own_right: int
    right: int


class Difference(Record):
    """A row's top-1 minus that of the model's own row (torch/fp32 or tf/fp32), on the same images.

    `lost` were right there and are wrong here, `gained` the reverse, `flipped` got another class at all.
    """

    images: Count
    top1: Change
    top1_ci95: tuple[Change, Change]
    lost: int
    gained: int
    mcnemar_p: float
    flipped: int
    worst_classes: list[ClassLoss]


class Accuracy(Record):
    images: Count
    top1: Fraction
    top5: Fraction | None
    """None for models of fewer than five classes."""
    top1_ci95: tuple[Fraction, Fraction]
    top5_ci95: tuple[Fraction, Fraction] | None
    agreement: Fraction | None
    """Same top-1 as the reference row of this model on the same images; None without that row."""
    unreadable: int = 0
    """How many of the images could not be read; they count as wrong."""
    batch_size: int = 1
    difference: Difference | None = None
