"""What is seen of the machine, against a neighbour that is really busy and a management library's double."""

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

from rtbench.measure import conditions as module
from rtbench.measure.conditions import Observed, disturbances
from rtbench.measure.monitor import Monitor, Reading
from rtbench.records.measurement import Conditions, GpuConditions

QUIET = Conditions(other_cores=0.02, stolen_cores=0.0, throttled_s=0.0, cpu_mhz=None, temperature_c=None, gpu=None)


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_worker_that_has_died_is_read_as_one_that_did_nothing() -> None:
    worker = subprocess.Popen([sys.executable, "-c", "pass"])
    worker.wait()
    reading = Monitor(gpu=False).read(worker.pid)
    assert 0 < reading.own < 1.1 * sum(psutil.Process().cpu_times()[:2])


def test_what_others_burn_is_told_from_what_we_burn() -> None:
    monitor = Monitor(gpu=False)
    neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    worker = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.2)
        observed = Observed()
        theirs = psutil.Process(neighbour.pid)
        before, burnt = monitor.read(worker.pid), sum(theirs.cpu_times()[:2])
        burn(0.5)
        time.sleep(0.5)
        after = monitor.read(worker.pid)
        observed.add(before, after)
        burnt = sum(theirs.cpu_times()[:2]) - burnt
    finally:
        neighbour.kill()
        worker.kill()
        neighbour.wait()
        worker.wait()
    assert burnt > 0.1
    # The neighbour's own account of itself, and whatever else this machine was doing.
    assert observed.other > 0.8 * burnt - 0.05
    assert after.own - before.own > 0.5
    assert observed.other + (after.own - before.own) <= (os.cpu_count() or 1) * observed.wall + 0.2


def test_figures_are_means_over_the_blocks_and_extremes() -> None:
    observed = Observed()
    observed.add(Reading(10.0, 100.0, 1.0, 50.0, 0.0), Reading(12.0, 103.0, 1.1, 52.0, 0.0))
    observed.add(Reading(20.0, 200.0, 5.0, 80.0, 3.0), Reading(22.0, 202.0, 5.0, 82.0, 3.5))
    observed.mhz += [2000.0, 3000.0, 2500.0]
    record = observed.record()
    assert record.other_cores == pytest.approx((1 + 0) / 4)
    assert record.stolen_cores == pytest.approx(0.1 / 4)
    assert record.throttled_s == pytest.approx(0.5)
    assert record.cpu_mhz == (2000.0, 3000.0)
    assert (record.temperature_c, record.gpu) == (None, None)


def test_nothing_was_seen_of_a_row_that_was_not_timed() -> None:
    assert Observed().record() == QUIET.model_copy(update={"other_cores": 0.0})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"other_cores": 0.8}, "0.8 of 2 cores busy"),
        ({"stolen_cores": 0.1}, "took 0.1 cores away"),
        ({"throttled_s": 1.5}, "CPU limit stopped it for 1.5 s"),
    ],
)
def test_a_disturbance_is_told_with_its_size_and_a_remedy(changes: dict, words: str | None) -> None:
    found = disturbances(QUIET.model_copy(update=changes), cores=2, threads=2)
    assert [words in sentence and ": " in sentence for sentence in found] == ([True] if words else [])


def test_a_neighbour_on_a_spare_core_disturbs_nobody() -> None:
    busy = QUIET.model_copy(update={"other_cores": 0.8})
    assert disturbances(busy, cores=8, threads=2) == []
    assert disturbances(busy, cores=8, threads=8)


class FakeNvml:
    """A GPU that is hot and shared, in the words of nvidia-ml-py."""

    NVML_CLOCK_SM = pynvml.NVML_CLOCK_SM
    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __init__(self) -> None:
        self.clocks = iter([1590, 900])
        self.reasons = iter(
            [pynvml.nvmlClocksThrottleReasonGpuIdle, 0x4 | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown]
        )

    def nvmlInit(self) -> None: ...

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return f"device {index}"

    def nvmlDeviceGetClockInfo(self, device: str, kind: int) -> int:
        assert (device, kind) == ("device 0", pynvml.NVML_CLOCK_SM)
        return next(self.clocks)

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


def test_a_gpu_that_slows_down_and_is_shared_is_told(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    monitor, observed = Monitor(gpu=True), Observed()
    for _ in range(2):
        monitor.look(observed, os.getpid())
    record = observed.record()
    assert record.gpu == GpuConditions(
        sm_mhz=(900.0, 1590.0),
        temperature_c=81,
        power_w=68.5,
        slowdowns=["hardware thermal slowdown", "power cap"],
        other_processes=2,
    )
    slower, shared = disturbances(record, cores=2, threads=2)
    assert "900 to 1590 MHz" in slower
    assert "2 other processes" in shared


def test_a_containers_throttling_is_read_from_either_version_of_control_groups(tmp_path: Path) -> None:
    second, first = tmp_path / "second", tmp_path / "first"
    second.write_text("usage_usec 5\nnr_periods 9\nnr_throttled 3\nthrottled_usec 1250000\n")
    first.write_text("nr_periods 9\nnr_throttled 3\nthrottled_time 1250000000\n")
    assert module._throttled_seconds(second) == module._throttled_seconds(first) == 1.25
