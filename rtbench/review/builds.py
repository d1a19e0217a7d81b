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
    name: str
    """The id of the first one's row."""
    builds: int
    size: float
    latency: float | None
    """Of the mean times on the device, or where it has none on the host; None where fewer than two were measured."""

    def __str__(self) -> str:
        latency = "not measured" if self.latency is None else f"{100 * self.latency:.1f} %"
        size = f"{100 * self.size:.2f} %"
        return f"{self.builds} builds of {self.name}: spread of size {size}, of mean time on the device {latency}"


def build_spreads(rows: Sequence[Row]) -> list[BuildSpread]:
    """One for each model and precision whose engine was built more than once."""
    groups: dict[tuple[str, Precision, str], list[Row]] = {}
    for row in rows:
        if row.artifact and row.artifact.build:
            groups.setdefault((row.model, row.precision, row.artifact.build.recipe.name), []).append(row)
    return [
        BuildSpread(
            model,
            built[0].id,
            len(built),
            _spread([row.artifact.size_bytes for row in built if row.artifact]) or 0.0,
            _spread([row.latency.device_mean_ms or row.latency.mean_ms for row in built if row.latency]),
        )
        for (model, *_), built in groups.items()
        if len(built) > 1
    ]


def fastest_on_device(rows: Sequence[Row]) -> list[str]:
    """For each model with several engines measured, which has the lowest mean time on the device."""
    groups: dict[str, list[tuple[float, str]]] = {}
    for row in rows:
        device_ms = row.latency.device_mean_ms if row.latency and row.latency.disturbed is None else None
        if row.artifact and row.artifact.build and device_ms is not None:
            groups.setdefault(row.model, []).append((device_ms, row.id))
    return [
        f"of {len(timed)} engines {name} has the lowest mean time on the device, {device_ms:.3f} ms"
        for timed in groups.values()
        if len(timed) > 1
        for device_ms, name in [min(timed)]
    ]


def _spread(values: Sequence[float]) -> float | None:
    return (max(values) - min(values)) / min(values) if len(values) > 1 else None
