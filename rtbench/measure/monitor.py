"""Reads what the machine does: processor time, waits, steal, throttling, clocks, the GPU."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from rtbench.measure.conditions import GpuReading, Seen
from rtbench.measure.latency import host_clock

LOOK_S = 0.5
CGROUP = Path("/sys/fs/cgroup")
SLOWDOWNS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
"""NVML's reasons for lowered clocks that mean a disturbance; an idle GPU or a chosen clock does not."""


TICKS_S = 0.02
"""How far the system's count of busy time, in hundredths of a second for each core, may be off over a block."""


@dataclass(frozen=True)
class Reading:
    """Counters since some start, in seconds; their differences over a block are what counts."""

    at: float
    busy: float
    """Of all cores, in hundredths of a second."""
    stolen: float
    own: float
    others: dict[int, float]
    """Of each other process that can be seen, by its number, to the nanosecond."""
    waited: float
    throttled: float


class Monitor:
    """Reads the machine's counters; with `gpu`, the first NVIDIA GPU's through its management library."""

    def __init__(self, *, gpu: bool) -> None:
        self._throttle = _throttle_file()
        self._gpu = _Gpu() if gpu else None

    def read(self, worker: int | None) -> Reading:
        """Counters now; `worker` is the process whose time, like ours, is not that of others."""
        times = psutil.cpu_times()
        own = {os.getpid(), *([worker] if worker else [])}
        busy = times.user + times.system
        busy += sum(getattr(times, name, 0.0) for name in ("nice", "irq", "softirq"))
        return Reading(
            at=host_clock() / 1e9,
            busy=busy,
            stolen=getattr(times, "steal", 0.0),
            own=sum(map(_cpu_seconds, own)),
            others={process: _cpu_seconds(process) for process in psutil.pids() if process not in own},
            waited=_waited_seconds(worker) if worker else 0.0,
            throttled=_throttled_seconds(self._throttle) if self._throttle else 0.0,
        )

    def since(self, before: Reading, worker: int | None) -> Seen:
        """What happened since `before`, and what is slower to read: clocks, temperatures, the GPU.

        Other processes are seen to the nanosecond, but not those of other containers, nor those that have ended. The
        count of all cores has those too, and is coarse: it is believed beyond its coarseness, and as far as the
        worker's own waiting for a core says the same.
        """
        now = self.read(worker)
        waited = max(now.waited - before.waited, 0.0)
        visible = sum(max(seconds - before.others.get(process, 0.0), 0.0) for process, seconds in now.others.items())
        counted = (now.busy - before.busy) - (now.own - before.own)
        frequency = psutil.cpu_freq()
        temperatures: list[float] = []
        if hasattr(psutil, "sensors_temperatures"):
            sensors = psutil.sensors_temperatures()
            temperatures = [each.current for name in ("coretemp", "k10temp") for each in sensors.get(name, [])]
        return Seen(
            wall_s=now.at - before.at,
            other_s=max(visible, counted - TICKS_S, min(counted, waited)),
            waited_s=waited,
            stolen_s=now.stolen - before.stolen,
            throttled_s=now.throttled - before.throttled,
            cpu_mhz=frequency.current if frequency and frequency.current else None,
            temperature_c=max(temperatures, default=None),
            gpu=self._gpu.read(worker or os.getpid()) if self._gpu else None,
        )

    def look(self) -> tuple[Seen, str]:
        """What the machine does for half a second in which we do nothing, and the process that does most of it."""
        before = self.read(None)
        time.sleep(LOOK_S)
        seen, now = self.since(before, None), self.read(None)
        used = {process: seconds - before.others.get(process, 0.0) for process, seconds in now.others.items()}
        busiest = max(used, key=lambda process: used[process], default=None)
        name = ""
        if busiest is not None:
            with contextlib.suppress(psutil.Error):  # it has ended
                name = f"{psutil.Process(busiest).name()} (process {busiest})"
        return seen, name or "other processes"


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


def _cpu_seconds(process: int) -> float:
    """CPU time of a process, 0 of one that has ended (a worker that died: its row fails by itself)."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return time.clock_gettime((~process << 3) | 2)  # the clock of that process, as clock_getcpuclockid gives it
        return 0.0
    with contextlib.suppress(psutil.Error):
        times = psutil.Process(process).cpu_times()
        return float(times.user + times.system)
    return 0.0


def _waited_seconds(process: int) -> float:
    """How long the threads of a process have been ready and without a core, by Linux's count; 0 elsewhere."""
    waited = 0
    for file in Path(f"/proc/{process}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended
            waited += int(file.read_text(encoding="ascii").split()[1])
    return waited / 1e9


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
