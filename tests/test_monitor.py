"""What is seen of the machine, against neighbours that are really busy and a management library's double."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pynvml
import pytest
from machines import spinning

from rtbench.measure import monitor as module
from rtbench.measure.conditions import GpuReading, Judge
from rtbench.measure.monitor import Monitor


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_worker_that_has_died_is_read_as_one_that_did_nothing() -> None:
    worker = subprocess.Popen([sys.executable, "-c", "pass"])
    worker.wait()
    reading = Monitor(gpu=False).read(worker.pid)
    assert 0 < reading.own < 1.1 * sum(psutil.Process().cpu_times()[:2]) + 0.02
    assert reading.waited == 0


def test_what_others_burn_is_told_from_what_we_and_the_worker_burn() -> None:
    monitor = Monitor(gpu=False)
    with spinning(2) as (neighbour, worker):
        theirs, ours = (psutil.Process(each.pid) for each in (neighbour, worker))
        burnt = [sum(each.cpu_times()[:2]) for each in (theirs, ours)]
        before = monitor.read(worker.pid)
        assert neighbour.pid in before.others
        assert not {worker.pid, os.getpid()} & before.others.keys()
        burn(0.3)
        time.sleep(0.3)
        seen = monitor.since(before, worker.pid)
        own = monitor.read(worker.pid).own - before.own
        burnt = [sum(each.cpu_times()[:2]) - then for each, then in zip((theirs, ours), burnt, strict=True)]
    assert min(burnt) > 0.05
    # The neighbour's own account of itself, and whatever else this machine was doing.
    assert seen.other_s > 0.8 * burnt[0] - 0.05
    assert own > 0.3 + 0.8 * burnt[1] - 0.05
    cores = psutil.cpu_count() or 1
    assert seen.other_s + own <= cores * (seen.wall_s + 0.1) + 0.2
    assert Judge(cores, cores).disturbance(seen) == "other processes"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not count what threads wait for a core")
def test_a_worker_that_shares_its_core_has_waited() -> None:
    monitor = Monitor(gpu=False)
    with spinning(2) as processes:
        core = min(os.sched_getaffinity(0))
        for each in processes:
            os.sched_setaffinity(each.pid, {core})
        before = monitor.read(processes[0].pid)
        time.sleep(0.5)
        seen = monitor.since(before, processes[0].pid)
    assert seen.waited_s > 0.1 * seen.wall_s


def test_the_busiest_process_is_named() -> None:
    with spinning() as (neighbour,):
        seen, busiest = Monitor(gpu=False).look()
        used = psutil.Process(neighbour.pid).cpu_times()
    assert seen.other_s > 0
    assert used.user > 0
    assert " (process " in busiest


class FakeNvml:
    """A GPU that is hot and shared, in the words of nvidia-ml-py."""

    NVML_CLOCK_SM = pynvml.NVML_CLOCK_SM
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(self) -> None:
        self.reasons = iter(
            [pynvml.nvmlClocksThrottleReasonGpuIdle, 0x4 | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown]
        )

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"device {index}"

    def nvmlDeviceGetClockInfo(self, device: str, kind: int) -> int:
        assert (device, kind) == ("device 0", pynvml.NVML_CLOCK_SM)
        return 900

    def nvmlDeviceGetTemperature(self, device: str, sensor: int) -> int:
        assert (device, sensor) == ("device 0", pynvml.NVML_TEMPERATURE_GPU)
        return 81

    def nvmlDeviceGetPowerUsage(self, device: str) -> int:
        return 68_500

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, device: str) -> int:
        return next(self.reasons)

    def nvmlDeviceGetComputeRunningProcesses(self, device: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(pid=os.getpid()), SimpleNamespace(pid=1), SimpleNamespace(pid=4242)]


def test_the_double_has_nothing_that_the_library_lacks() -> None:
    for name in vars(FakeNvml):
        assert name.startswith("__") or hasattr(pynvml, name), name


def test_a_gpu_that_slows_down_and_is_shared_is_read(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    monitor = Monitor(gpu=True)
    before = monitor.read(os.getpid())
    idle, hot = (monitor.since(before, os.getpid()).gpu for _ in range(2))
    assert idle == GpuReading(
        sm_mhz=900, temperature_c=81, power_w=68.5, slowdowns=frozenset(), other_processes=2
    )  # an idle GPU's low clock is no slowdown
    assert hot is not None
    assert hot.slowdowns == {"hardware thermal slowdown", "power cap"}


def test_a_containers_throttling_is_read_from_either_version_of_control_groups(tmp_path: Path) -> None:
    second, first = tmp_path / "second", tmp_path / "first"
    second.write_text("usage_usec 5\nnr_periods 9\nnr_throttled 3\nthrottled_usec 1250000\n")
    first.write_text("nr_periods 9\nnr_throttled 3\nthrottled_time 1250000000\n")
    assert module._throttled_seconds(second) == module._throttled_seconds(first) == 1.25
