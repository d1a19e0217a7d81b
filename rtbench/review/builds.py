"""How far engines differ that were built from one recipe, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rtbench.records.run import Row
from rtbench.terms import Precision


@dataclass(frozen=True)
class BuildSpread:
    """Largest less smallest, over the smallest, of `builds` engines of one model and recipe."""

    model: str
    precision: Precision
    builds: int
    size: float
    latency: float | None
    """Of the means; None where fewer than two were measured."""

    def __str__(self) -> str:
        latency = "not measured" if self.latency is None else f"{self.latency:.1%}"
        return (
            f"{self.builds} builds of trt/{self.precision}: spread of size {self.size:.2%}, of mean latency {latency}"
        )


def build_spreads(rows: Sequence[Row]) -> list[BuildSpread]:
    """One for each model and precision whose engine was built more than once."""
    groups: dict[tuple[str, Precision], list[Row]] = {}
    for row in rows:
        if row.artifact and row.artifact.build:
            groups.setdefault((row.model, row.precision), []).append(row)
    return [
        BuildSpread(
            model,
            precision,
            len(built),
            _spread([row.artifact.size_bytes for row in built if row.artifact]) or 0.0,
            _spread([row.latency.mean_ms for row in built if row.latency]),
        )
        for (model, precision), built in groups.items()
        if len(built) > 1
    ]


def _spread(values: Sequence[float]) -> float | None:
    return (max(values) - min(values)) / min(values) if len(values) > 1 else None
