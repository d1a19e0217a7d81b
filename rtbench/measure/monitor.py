"""Reads what the machine does: processor time, waits, steal, throttling, clocks, the GPU."""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from rtbench.measure.conditions import Seen
from rtbench.measure.environment import known
from rtbench.measure.gpu import GpuMonitor
from rtbench.measure.latency import host_clock
from rtbench.records.run import Gpu

LOOK_S = 0.5
CGROUP = Path("/sys/fs/cgroup")
TICKS_S = 0.02
"""How far the system's count of busy time, in hundredths of a second for each core, may be off over a block."""


@dataclass(frozen=True)
class Reading:
    """Counters since some start, in seconds; their differences over a block are what counts. What the system does not
    say is NaN, or None."""

    at: float
    busy: float
    """Of all cores, in hundredths of a second."""
    stolen: float
    own: float
    others: dict[int, float] | None
    """Of each other process that can be seen, by its number, to the nanosecond."""
    waited: float
    throttled: float


class Monitor:
    """Reads the machine's counters; with `gpu`, that GPU's too. Made before any worker is started."""

    def __init__(self, *, gpu: Gpu | None) -> None:
        self._throttle = known(_throttle_file, None)
        looked_at = {"how busy its cores are": psutil.cpu_times, "its processes": psutil.pids}
        self.hidden = [what for what, read in looked_at.items() if known(read, None) is None]
        """What this machine does not show, so that others may disturb unnoticed."""
        self._gpu = GpuMonitor(gpu) if gpu else None

    def sample_lead(self) -> None:
        """Called while the untimed runs at the head of a block are under way."""
        if self._gpu:
            self._gpu.sample_lead()

    def read(self, worker: int | None) -> Reading:
        """Counters now; `worker` is the process whose time, like ours, is not that of others."""
        busy, stolen = known(_busy_and_stolen, (math.nan, math.nan))
        own = {os.getpid(), *([worker] if worker else [])}
        processes: list[int] | None = known(psutil.pids, None)
        return Reading(
            at=host_clock() / 1e9,
            busy=busy,
            stolen=stolen,
            own=sum(map(_cpu_seconds, own)),
            others=None if processes is None else {each: _cpu_seconds(each) for each in processes if each not in own},
            waited=_waited_seconds(worker) if worker else 0.0,
            throttled=known(lambda: _throttled_seconds(self._throttle), math.nan),
        )

    def since(self, before: Reading, worker: int | None) -> Seen:
        """What happened since `before`, and what is slower to read: clocks, temperatures, the GPU.

        Other processes are seen to the nanosecond, but not those of other containers, nor those that have ended. The
        count of all cores has those too, and is coarse: it is believed beyond its coarseness, and as far as the
        worker's own waiting for a core says the same.
        """
        now = self.read(worker)
        waited = max(now.waited - before.waited, 0.0)
        visible = sum(max(seconds, 0.0) for seconds in _used(before, now).values())
        counted = _difference(before.busy, now.busy) - (now.own - before.own)
        return Seen(
            wall_s=now.at - before.at,
            other_s=max(visible, counted - TICKS_S, min(counted, waited)),
            waited_s=waited,
            stolen_s=_difference(before.stolen, now.stolen),
            throttled_s=_difference(before.throttled, now.throttled),
            cpu_mhz=known(lambda: getattr(psutil.cpu_freq(), "current", None), None) or None,
            temperature_c=known(_temperature, None),
            gpu=self._gpu.read(worker or os.getpid()) if self._gpu else None,
        )

    def look(self) -> tuple[Seen, str]:
        """What the machine does for half a second in which we do nothing, and the process that does most of it."""
        before = self.read(None)
        time.sleep(LOOK_S)
        seen, now = self.since(before, None), self.read(None)
        used = _used(before, now)
        busiest = max(used, key=lambda process: used[process], default=None)
        name = ""
        if busiest is not None:
            with contextlib.suppress(psutil.Error, OSError):  # it has ended
                name = f"{psutil.Process(busiest).name()} (process {busiest})"
        return seen, name or "other processes"


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
        with contextlib.suppress(OSError, LookupError, ValueError):  # the thread has ended
            waited += int(file.read_text(encoding="ascii").split()[1])
    return waited / 1e9


def _used(before: Reading, now: Reading) -> dict[int, float]:
    """Of each other process, the CPU time between two readings; empty where processes are hidden."""
    if before.others is None or now.others is None:
        return {}
    return {process: seconds - before.others.get(process, 0.0) for process, seconds in now.others.items()}


def _difference(before: float, now: float) -> float:
    """Nothing, where a counter is hidden."""
    return 0.0 if math.isnan(now - before) else now - before


def _busy_and_stolen() -> tuple[float, float]:
    times = psutil.cpu_times()
    busy = times.user + times.system + sum(getattr(times, name, 0.0) for name in ("nice", "irq", "softirq"))
    return busy, getattr(times, "steal", 0.0)


def _temperature() -> float | None:
    """Of the hottest core."""
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    return max((each.current for name in ("coretemp", "k10temp") for each in sensors.get(name, [])), default=None)


def _throttle_file() -> Path | None:
    """The file in which this process's control group (version 2, else 1) counts how long it was stopped."""
    for line in os.fsdecode(Path("/proc/self/cgroup").read_bytes()).splitlines():
        _, controllers, path = line.split(":", 2)
        folder = {"": CGROUP, "cpu": CGROUP / "cpu", "cpu,cpuacct": CGROUP / "cpu,cpuacct"}.get(controllers)
        for found in (folder / path.lstrip("/") / "cpu.stat", folder / "cpu.stat") if folder else ():
            if found.is_file() and "throttled" in found.read_text(encoding="ascii"):
                return found
    return None


def _throttled_seconds(file: Path | None) -> float:
    if file is None:
        return 0.0
    fields = dict(line.split() for line in file.read_text(encoding="ascii").splitlines())
    return int(fields["throttled_usec"]) / 1e6 if "throttled_usec" in fields else int(fields["throttled_time"]) / 1e9
