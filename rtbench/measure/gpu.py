"""What the GPU does while rows are timed, by NVIDIA's management library (NVML)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psutil

from rtbench.measure.conditions import GpuReading
from rtbench.records.run import Gpu

SLOWDOWNS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""NVML's reasons for lowered clocks that mean a disturbance; an idle GPU or a chosen clock does not."""
CHOSEN_CLOCK = 0x02
OWN_PROCESSES = Path("/proc/self/ns/pid")
FIRST_PROCESSES = "pid:[4026531836]"
"""The namespace that NVML's process numbers are of; in a container these are other numbers than ours."""


class GpuMonitor:
    """One GPU, found by the UUID that the driver gives it. What it does not say is unknown, each thing by itself.

    Not yet run on hardware.
    """

    def __init__(self, gpu: Gpu) -> None:
        import pynvml

        self._nvml: Any = pynvml
        self._device: Any = None
        self._lead_mhz: int | None = None
        for name in (gpu.uuid, gpu.uuid.replace("GPU-", "MIG-", 1)) if gpu.uuid else ():
            self._device = self._device or self._opened("nvmlDeviceGetHandleByUUID", name)
        if gpu.uuid is None:
            self._device = self._opened("nvmlDeviceGetHandleByIndex", 0)
        self._strangers = self._processes() or frozenset()

    def _opened(self, function: str, name: str | int) -> Any:
        try:
            self._nvml.nvmlInit()
            return getattr(self._nvml, function)(name)
        except self._nvml.NVMLError:
            return None

    def _ask(self, function: str, *arguments: int) -> Any:
        """What NVML says of the GPU; None where it does not (a virtual or a partitioned GPU, an old board)."""
        try:
            return getattr(self._nvml, function)(self._device, *arguments)
        except self._nvml.NVMLError:
            return None

    def sample_lead(self) -> None:
        """Read the clock while the untimed runs at the head of a block are under way."""
        if self._device is not None:
            self._lead_mhz = self._ask("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM)

    def read(self, worker: int) -> GpuReading | None:
        """How the GPU is now; None where nothing can be asked."""
        if self._device is None:
            return None
        power = self._ask("nvmlDeviceGetPowerUsage")
        reasons = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        lead, self._lead_mhz = self._lead_mhz, None
        return GpuReading(
            sm_mhz=self._ask("nvmlDeviceGetClockInfo", self._nvml.NVML_CLOCK_SM),
            temperature_c=self._ask("nvmlDeviceGetTemperature", self._nvml.NVML_TEMPERATURE_GPU),
            power_w=None if power is None else power / 1000,
            slowdowns=frozenset(words for bit, words in SLOWDOWNS.items() if (reasons or 0) & bit),
            other_processes=self._others(worker),
            lead_mhz=lead,
            chosen_clock=None if reasons is None else bool(reasons & CHOSEN_CLOCK),
        )

    def _others(self, worker: int) -> int | None:
        """Processes on the GPU that are not ours.

        In a container NVML has other numbers for ours: those that were there before any worker are others' then,
        and so are more new ones than we have processes.
        """
        seen = self._processes()
        if seen is None:
            return None
        own = {worker, *(child.pid for child in psutil.Process().children(recursive=True))}
        if not _in_container():
            return len(seen - own)
        return len(seen & self._strangers) + max(len(seen - self._strangers) - len(own), 0)

    def _processes(self) -> frozenset[int] | None:
        running = self._ask("nvmlDeviceGetComputeRunningProcesses") if self._device is not None else None
        return None if running is None else frozenset(process.pid for process in running)


def _in_container() -> bool:
    try:
        return str(OWN_PROCESSES.readlink()) != FIRST_PROCESSES
    except OSError:
        return False
