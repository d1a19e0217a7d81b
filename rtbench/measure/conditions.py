"""What the machine does while rows are timed: read between blocks, never inside them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from rtbench.measure.latency import host_clock
from rtbench.records.measurement import Conditions, GpuConditions

OTHER_CORES = 0.1
"""Cores kept busy by others past which a row was disturbed, where no core is spare for them."""
STOLEN_CORES = 0.02
CGROUP = Path("/sys/fs/cgroup")
SLOWDOWNS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""NVML's reasons for lowered clocks that mean a disturbance; an idle GPU or a chosen clock does not."""


@dataclass(frozen=True)
class Reading:
    """Counters since some start, in seconds; their differences over a block are what counts."""

    at: float
    busy: float
    stolen: float
    own: float
    throttled: float


@dataclass(frozen=True)
class GpuReading:
    sm_mhz: int
    temperature_c: int
    power_w: float
    slowdowns: frozenset[str]
    other_processes: int


@dataclass
class Observed:
    """What was seen over the blocks of one row."""

    wall: float = 0.0
    other: float = 0.0
    stolen: float = 0.0
    throttled: float = 0.0
    mhz: list[float] = field(default_factory=list)
    temperature_c: list[float] = field(default_factory=list)
    gpu: list[GpuReading] = field(default_factory=list)

    def add(self, before: Reading, after: Reading) -> None:
        busy = after.busy - before.busy
        self.wall += after.at - before.at
        self.other += busy - (after.own - before.own)
        self.stolen += after.stolen - before.stolen
        self.throttled += after.throttled - before.throttled

    def record(self) -> Conditions:
        wall = self.wall or 1.0
        return Conditions(
            other_cores=max(self.other / wall, 0.0),
            stolen_cores=self.stolen / wall,
            throttled_s=self.throttled,
            cpu_mhz=(min(self.mhz), max(self.mhz)) if self.mhz else None,
            temperature_c=max(self.temperature_c, default=None),
            gpu=_summary(self.gpu) if self.gpu else None,
        )


class Monitor:
    """Reads the machine's counters; with `gpu`, the first NVIDIA GPU's through its management library."""

    def __init__(self, *, gpu: bool) -> None:
        self._throttle = _throttle_file()
        self._gpu = _Gpu() if gpu else None

    def read(self, worker: int) -> Reading:
        """Counters now; `worker` is the process whose time, like ours, is not that of others."""
        times = psutil.cpu_times()
        own = sum(_cpu_seconds(process) for process in (os.getpid(), worker))
        busy = times.user + times.system
        busy += sum(getattr(times, name, 0.0) for name in ("nice", "irq", "softirq"))
        throttled = _throttled_seconds(self._throttle) if self._throttle else 0.0
        return Reading(host_clock() / 1e9, busy, getattr(times, "steal", 0.0), own, throttled)

    def look(self, observed: Observed, worker: int) -> None:
        """Add what is slower to read: clocks, temperatures, the GPU."""
        frequency = psutil.cpu_freq()
        if frequency and frequency.current:
            observed.mhz.append(frequency.current)
        if hasattr(psutil, "sensors_temperatures"):
            sensors = psutil.sensors_temperatures()
            cpu = [sensor for name in ("coretemp", "k10temp") for sensor in sensors.get(name, [])]
            observed.temperature_c += [sensor.current for sensor in cpu]
        if self._gpu:
            observed.gpu.append(self._gpu.read(worker))


class _Gpu:
    """NVML, by the names of nvidia-ml-py. Not yet run on hardware."""

    def __init__(self) -> None:
        import pynvml

        self._nvml: Any = pynvml
        pynvml.nvmlInit()
        self._device = pynvml.nvmlDeviceGetHandleByIndex(0)

    def read(self, worker: int) -> GpuReading:
        nvml, device = self._nvml, self._device
        reasons = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(device)
        processes = nvml.nvmlDeviceGetComputeRunningProcesses(device)
        own = {worker, *(child.pid for child in psutil.Process().children(recursive=True))}
        return GpuReading(
            sm_mhz=nvml.nvmlDeviceGetClockInfo(device, nvml.NVML_CLOCK_SM),
            temperature_c=nvml.nvmlDeviceGetTemperature(device, nvml.NVML_TEMPERATURE_GPU),
            power_w=nvml.nvmlDeviceGetPowerUsage(device) / 1000,
            slowdowns=frozenset(words for bit, words in SLOWDOWNS.items() if reasons & bit),
            other_processes=sum(process.pid not in own for process in processes),
        )


def disturbances(conditions: Conditions, *, cores: int, threads: int) -> list[str]:
    """What in these conditions makes a row's figures unstable, each with what to do about it."""
    found = []
    spare = max(cores - threads, 0)
    if conditions.other_cores > OTHER_CORES + 0.5 * spare:
        found.append(
            f"other processes kept {conditions.other_cores:.1f} of {cores} cores busy meanwhile:"
            " close them and run again"
        )
    if conditions.stolen_cores > STOLEN_CORES:
        found.append(
            f"the host of this virtual machine took {conditions.stolen_cores:.2g} cores away meanwhile:"
            " run again when it is idle"
        )
    if conditions.throttled_s > 0:
        found.append(
            f"the container's CPU limit stopped it for {conditions.throttled_s:.2g} s:"
            " raise the limit or lower --threads"
        )
    gpu = conditions.gpu
    if gpu and gpu.slowdowns:
        found.append(
            f"the GPU lowered its clock ({', '.join(gpu.slowdowns)}; {gpu.sm_mhz[0]:.0f} to {gpu.sm_mhz[1]:.0f} MHz):"
            " cool it, or lock its clock with nvidia-smi --lock-gpu-clocks"
        )
    if gpu and gpu.other_processes:
        found.append(f"{gpu.other_processes} other processes used the GPU meanwhile: close them and run again")
    return found


def _summary(readings: Iterable[GpuReading]) -> GpuConditions:
    seen = list(readings)
    clocks = [reading.sm_mhz for reading in seen]
    return GpuConditions(
        sm_mhz=(min(clocks), max(clocks)),
        temperature_c=max(reading.temperature_c for reading in seen),
        power_w=max(reading.power_w for reading in seen),
        slowdowns=sorted(frozenset().union(*(reading.slowdowns for reading in seen))),
        other_processes=max(reading.other_processes for reading in seen),
    )


def _cpu_seconds(process: int) -> float:
    try:
        times = psutil.Process(process).cpu_times()
    except psutil.NoSuchProcess:  # a worker that died in this block, or before it: its row fails by itself
        return 0.0
    return float(times.user + times.system)


def _throttle_file() -> Path | None:
    """The file in which this process's control group (version 2, else 1) counts how long it was stopped."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        folder = {"": CGROUP, "cpu": CGROUP / "cpu", "cpu,cpuacct": CGROUP / "cpu,cpuacct"}.get(controllers)
        for found in (folder / path.lstrip("/") / "cpu.stat", folder / "cpu.stat") if folder else ():
            if found.is_file() and "throttled" in found.read_text(encoding="ascii"):
                return found
    return None


def _throttled_seconds(file: Path) -> float:
    fields = dict(line.split() for line in file.read_text(encoding="ascii").splitlines())
    return int(fields["throttled_usec"]) / 1e6 if "throttled_usec" in fields else int(fields["throttled_time"]) / 1e9
