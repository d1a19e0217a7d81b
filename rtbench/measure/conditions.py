"""What the machine did while rows were timed, judged block by block."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from rtbench.records.measurement import Conditions, GpuConditions

OTHER_CORES = 0.1
"""Cores kept busy by others past which a block was disturbed, where no core is spare for them."""
STOLEN_CORES = 0.02
TICK_S, MOMENT_S = 0.01, 0.002
"""What is allowed beyond these in a block: steal is counted in hundredths of a second, and on every machine something
runs for a millisecond or two."""


@dataclass(frozen=True)
class GpuReading:
    """What its management library says right after a block; None is what it does not."""

    sm_mhz: int | None
    temperature_c: int | None
    power_w: float | None
    slowdowns: frozenset[str]
    other_processes: int | None
    lead_mhz: int | None = None
    """The clock within the untimed runs before it."""
    chosen_clock: bool | None = None
    """Whether somebody has set the clock."""


@dataclass(frozen=True)
class Seen:
    """What the machine did during one block.

    `other_s` is the CPU time of other processes as far as it is sure, `waited_s` how long the worker's threads waited
    for a core, `stolen_s` what the host of the virtual machine took, `throttled_s` how long a container's limit
    stopped it.
    """

    wall_s: float
    other_s: float = 0.0
    waited_s: float = 0.0
    stolen_s: float = 0.0
    throttled_s: float = 0.0
    cpu_mhz: float | None = None
    temperature_c: float | None = None
    gpu: GpuReading | None = None


@dataclass(frozen=True)
class Judge:
    """Says whether a block was disturbed, by what the system says of it and never by its latencies."""

    cores: int
    threads: int

    def disturbance(self, seen: Seen) -> str:
        """In a word or two what disturbed a block; empty where nothing did."""
        if seen.throttled_s > 0:
            return "throttled"
        spare = max(self.cores - self.threads, 0)
        if seen.other_s > (OTHER_CORES + 0.5 * spare) * seen.wall_s + MOMENT_S:
            return "other processes"
        if seen.stolen_s > STOLEN_CORES * seen.wall_s + TICK_S:
            return "steal"
        if seen.gpu and seen.gpu.slowdowns:
            return "GPU slowed down"
        if seen.gpu and seen.gpu.other_processes:
            return "GPU shared"
        return ""

    def explain(self, conditions: Conditions) -> tuple[str, str]:
        """What disturbed a row, with its size, and what to do about it."""
        gpu = conditions.gpu
        if conditions.throttled_s > 0:
            return (
                f"the container's CPU limit stopped it for {conditions.throttled_s:.2g} s",
                "raise the limit or lower --threads",
            )
        if gpu and gpu.slowdowns:
            clock = f"; {gpu.sm_mhz[0]:.0f} to {gpu.sm_mhz[1]:.0f} MHz" if gpu.sm_mhz else ""
            return (
                f"the GPU lowered its clock ({', '.join(gpu.slowdowns)}{clock})",
                "cool it, or lock its clock with nvidia-smi --lock-gpu-clocks",
            )
        if gpu and gpu.other_processes:
            return f"{gpu.other_processes} other processes used the GPU", "close them and run again"
        if conditions.stolen_cores > conditions.other_cores:
            return (
                f"CPU steal: the host of this virtual machine used {conditions.stolen_cores:.2g} of its cores",
                "run again when it is idle",
            )
        busy = f"{conditions.other_cores:.1f} of {self.cores} cores"
        return f"other processes kept {busy} busy", "close them and run again"


def summarise_conditions(seen: Sequence[Seen]) -> Conditions:
    """Means over a row's blocks, extremes where there are two."""
    wall = sum(each.wall_s for each in seen) or 1.0
    mhz = [each.cpu_mhz for each in seen if each.cpu_mhz is not None]
    return Conditions(
        other_cores=max(sum(each.other_s for each in seen) / wall, 0.0),
        waited_cores=sum(each.waited_s for each in seen) / wall,
        stolen_cores=sum(each.stolen_s for each in seen) / wall,
        throttled_s=sum(each.throttled_s for each in seen),
        cpu_mhz=(min(mhz), max(mhz)) if mhz else None,
        temperature_c=max((each.temperature_c for each in seen if each.temperature_c is not None), default=None),
        gpu=_summary([each.gpu for each in seen if each.gpu]),
    )


def _summary(readings: Sequence[GpuReading]) -> GpuConditions | None:
    if not readings:
        return None
    return GpuConditions(
        sm_mhz=_extremes(reading.sm_mhz for reading in readings),
        temperature_c=_most(reading.temperature_c for reading in readings),
        power_w=_most(reading.power_w for reading in readings),
        slowdowns=sorted(frozenset().union(*(reading.slowdowns for reading in readings))),
        other_processes=_most(reading.other_processes for reading in readings),
        lead_mhz=_extremes(reading.lead_mhz for reading in readings),
        chosen_clock=_most(reading.chosen_clock for reading in readings),
    )


Number = TypeVar("Number", bound=float)


def _most(values: Iterable[Number | None]) -> Number | None:
    return max((each for each in values if each is not None), default=None)


def _extremes(values: Iterable[int | None]) -> tuple[int, int] | None:
    known = [each for each in values if each is not None]
    return (min(known), max(known)) if known else None
