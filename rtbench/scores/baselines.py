"""What scores are relative to: a published baseline, a file of the user's, or this run's reference row."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from rtbench.records.run import Baseline, Row
from rtbench.shipped import read_named

MEASURED = "measured"
OWN_RUNTIMES = ("torch", "tf")
"""Those that are frameworks in which models are trained."""
DEFAULT = "resnet18-t4"
LARGEST = 1e9


class _Published(Baseline):
    """What a file may say: numbers that can be divided by."""

    latency_ms: float = Field(gt=0, le=LARGEST, allow_inf_nan=False)
    top1: float | None = Field(gt=0, le=1, allow_inf_nan=False)
    top5: float | None = Field(gt=0, le=1, allow_inf_nan=False)
    size_mib: float = Field(gt=0, le=LARGEST, allow_inf_nan=False)
    classes: int | None = Field(default=None, ge=1, le=LARGEST)


def load_baseline(name: str) -> Baseline | None:
    """A shipped baseline by name, or a TOML file; None for `measured`, which exists once rows do."""
    if name == MEASURED:
        return None
    return Baseline(**read_named("baseline", name, _Published, or_else=MEASURED).model_dump())


def measured_baseline(rows: Sequence[Row], hardware: str) -> Baseline | None:
    """The first measured reference row as baseline, or None where there is none."""
    for row in rows:
        if row.latency and row.artifact and is_reference(row):
            return Baseline(
                name=f"{MEASURED} ({row.id})",
                latency_ms=row.latency.mean_ms,
                top1=row.accuracy.top1 if row.accuracy else None,
                top5=row.accuracy.top5 if row.accuracy else None,
                size_mib=row.artifact.size_bytes / 2**20,
                hardware=hardware,
                measured=True,
            )
    return None


def is_reference(row: Row) -> bool:
    """Whether a row is the model in its own framework, as that runs by default, in FP32: PyTorch is then eager and
    contiguous."""
    return row.runtime.partition(":")[0] in OWN_RUNTIMES and "+" not in row.runtime and row.precision == "fp32"
