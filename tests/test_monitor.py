"""What is seen of the machine, against neighbours that are really busy and a management library's double."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pynvml
import pytest
from machines import spinning

from rtbench.measure import gpu as gpu_module
from rtbench.measure import monitor as module
from rtbench.measure.conditions import GpuReading, Judge, Seen, summarise_conditions
from rtbench.measure.environment import read_environment
from rtbench.measure.gpu import GpuMonitor
from rtbench.measure.monitor import Monitor
from rtbench.records.run import Gpu


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_a_worker_that_has_died_is_read_as_one_that_did_nothing() -> None:
    worker = subprocess.Popen([sys.executable, "-c", "pass"])
    worker.wait()
    reading = Monitor(gpu=None).read(worker.pid)
    assert 0 < reading.own < 1.1 * sum(psutil.Process().cpu_times()[:2]) + 0.02
    assert reading.waited == 0


def test_what_others_burn_is_told_from_what_we_and_the_worker_burn() -> None:
    monitor = Monitor(gpu=None)
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
    monitor = Monitor(gpu=None)
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
        seen, busiest = Monitor(gpu=None).look()
        used = psutil.Process(neighbour.pid).cpu_times()
    assert seen.other_s > 0
    assert used.user > 0
    assert " (process " in busiest


@pytest.fixture
def gpu(driver: Path, monkeypatch) -> Iterator[Callable[..., GpuMonitor]]:
    """A monitor of one of two GPUs, over the stand-in for NVIDIA's management library; its variables are read by C."""
    loaded = pynvml.nvmlLib
    pynvml.nvmlLib = ctypes.CDLL(str(driver / "libnvidia-ml.so.1"))
    pynvml._nvmlGetFunctionPointer_cache.clear()

    def watch(uuid: str | None = T4.uuid, **variables: str) -> GpuMonitor:
        for name, value in variables.items():
            monkeypatch.setenv(f"NVML_STANDIN_{name}", value)
        return GpuMonitor(T4.model_copy(update={"uuid": uuid}))

    yield watch
    pynvml.nvmlLib = loaded
    pynvml._nvmlGetFunctionPointer_cache.clear()


T4 = Gpu(
    name="T4", compute_capability="7.5", driver="580", memory_mib=1, uuid="GPU-00000000-0000-0000-0000-000000000000"
)


def test_a_gpu_is_found_by_its_uuid_and_not_by_its_number(gpu) -> None:
    ours, other = gpu().read(0), gpu("GPU-11111111-1111-1111-1111-111111111111").read(0)
    assert (ours.temperature_c, other.temperature_c) == (41, 62)
    assert gpu(None).read(0).temperature_c == 62  # a driver that gives no UUID: the first
    assert gpu("GPU-22222222-2222-2222-2222-222222222222").read(0) is None


def test_a_gpu_that_slows_down_is_read(gpu) -> None:
    idle = gpu(REASONS="0x1").read(0)
    assert idle == GpuReading(
        300, 41, 68.5, frozenset(), 0, chosen_clock=False
    )  # an idle GPU's low clock is no slowdown
    hot = gpu(REASONS="0x46").read(0)
    assert hot.slowdowns == {"hardware thermal slowdown", "power cap"}
    assert hot.chosen_clock


def test_the_clock_is_sampled_while_the_gpu_works_and_after(gpu, tmp_path, monkeypatch) -> None:
    log = tmp_path / "driver.log"
    monkeypatch.setenv("CUDA_STANDIN_LOG", str(log))
    monitor = gpu()
    log.write_text("cuStreamSynchronize")
    monitor.sample_lead()
    os.utime(log, (0, 0))
    first, second = monitor.read(0), monitor.read(0)
    assert (first.lead_mhz, first.sm_mhz) == (1590, 300)
    assert second.lead_mhz is None


@pytest.mark.parametrize(
    ("refused", "field"),
    [
        ("ClockInfo", "sm_mhz"),
        ("Temperature", "temperature_c"),
        ("PowerUsage", "power_w"),
        ("Reasons", "chosen_clock"),
        ("Processes", "other_processes"),
    ],
)
def test_what_nvml_does_not_support_is_unknown_by_itself(gpu, refused, field) -> None:
    reading = vars(gpu(REFUSES=refused).read(0))
    assert [name for name, value in reading.items() if value is None] == sorted(
        {field, "lead_mhz"}, key=list(reading).index
    )
    assert str(summarise_conditions([Seen(1.0, gpu=GpuReading(**reading))]).gpu)


@pytest.mark.parametrize("refused", ["all", "HandleByUUID"])
def test_a_gpu_that_nvml_says_nothing_of_does_not_end_the_run(gpu, refused) -> None:
    monitor = gpu(REFUSES=refused)
    monitor.sample_lead()
    assert monitor.read(0) in (None, GpuReading(None, None, None, frozenset(), None))


def test_a_machine_without_the_library_does_not_either() -> None:
    assert pynvml.nvmlLib is None
    assert Monitor(gpu=T4).since(Monitor(gpu=T4).read(None), None).gpu is None


def test_others_on_the_gpu_are_counted(gpu, monkeypatch) -> None:
    monkeypatch.setattr(gpu_module, "FIRST_PROCESSES", str(gpu_module.OWN_PROCESSES.readlink()))
    assert gpu(PROCESSES=f"1,4242,{os.getpid()}").read(os.getpid()).other_processes == 2


def test_in_a_container_our_own_workers_are_no_strangers(gpu, monkeypatch) -> None:
    """There NVML numbers processes as the host does, so that no number of ours is among them."""
    monkeypatch.setattr(gpu_module, "FIRST_PROCESSES", "pid:[another]")
    monitor = gpu(PROCESSES="900001")  # a stranger that was there before
    workers = [subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) for _ in range(2)]
    ours = len(psutil.Process().children(recursive=True))  # and what other tests may have left
    and_two_more = ",".join(str(number) for number in range(900002, 900004 + ours))
    try:
        monkeypatch.setenv("NVML_STANDIN_PROCESSES", "900001,900002,900003")
        assert monitor.read(workers[0].pid).other_processes == 1
        monkeypatch.setenv("NVML_STANDIN_PROCESSES", "900002,900003")
        assert monitor.read(workers[0].pid).other_processes == 0
        monkeypatch.setenv("NVML_STANDIN_PROCESSES", and_two_more)
        assert monitor.read(workers[0].pid).other_processes == 2
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_a_containers_throttling_is_read_from_either_version_of_control_groups(tmp_path: Path) -> None:
    second, first = tmp_path / "second", tmp_path / "first"
    second.write_text("usage_usec 5\nnr_periods 9\nnr_throttled 3\nthrottled_usec 1250000\n")
    first.write_text("nr_periods 9\nnr_throttled 3\nthrottled_time 1250000000\n")
    assert module._throttled_seconds(second) == module._throttled_seconds(first) == 1.25


REFUSALS = [
    PermissionError(13, "Permission denied"),
    FileNotFoundError(2, "No such file or directory"),
    OSError(24, "Too many open files"),
    NotImplementedError("can't find current frequency file"),
    psutil.AccessDenied(1),
    psutil.NoSuchProcess(1),
    ValueError("not enough values to unpack"),
    IndexError("list index out of range"),
    KeyError("MemTotal:"),
]
READS = ["cpu_times", "pids", "cpu_freq", "sensors_temperatures", "virtual_memory", "cpu_count"]


def refusing(error: Exception):
    def refuse(*_: object, **__: object) -> None:
        raise error

    return refuse


@pytest.mark.parametrize("error", REFUSALS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("name", READS)
def test_what_the_system_does_not_show_is_unknown_by_itself(monkeypatch, name: str, error: Exception) -> None:
    monkeypatch.setattr(psutil, name, refusing(error))
    monitor = Monitor(gpu=None)
    with spinning() as (neighbour,):
        before = monitor.read(None)
        time.sleep(0.1)
        seen = monitor.since(before, None)
        used = sum(psutil.Process(neighbour.pid).cpu_times()[:2])
        monitor.look()
    assert used > 0
    assert (seen.stolen_s == 0) or name != "cpu_times"
    assert (seen.cpu_mhz is None) or name != "cpu_freq"
    assert (seen.temperature_c is None) or name != "sensors_temperatures"
    assert seen.other_s > 0  # which either of two counts shows
    assert seen.waited_s == seen.throttled_s == 0
    hidden = {"cpu_times": ["how busy its cores are"], "pids": ["its processes"]}
    assert monitor.hidden == hidden.get(name, [])
    found = read_environment(1)
    assert (found.memory_mib is None) == (name == "virtual_memory")
    assert found.cores >= 1


def test_what_is_hidden_for_one_reading_is_no_disturbance(monkeypatch) -> None:
    """A counter that is there only at one end of a block counts nothing, and not all since the machine was started."""
    monitor, cores = Monitor(gpu=None), psutil.cpu_count() or 1
    for name in ("cpu_times", "pids"):
        for hide_first in (True, False):
            with monkeypatch.context() as patch:
                if hide_first:
                    patch.setattr(psutil, name, refusing(PermissionError(13, "Permission denied")))
                before = monitor.read(None)
            with monkeypatch.context() as patch:
                if not hide_first:
                    patch.setattr(psutil, name, refusing(PermissionError(13, "Permission denied")))
                seen = monitor.since(before, None)
            assert 0 <= seen.other_s + 0.02 < cores * (seen.wall_s + 0.1) + 0.2
            assert abs(seen.stolen_s) < cores * (seen.wall_s + 0.1) + 0.2


@pytest.mark.parametrize("text", [b"", b"\xff\xfe\n", b"0::/\xe9\n", b"no colons\n", b"0::/../../x\n"])
def test_control_groups_that_cannot_be_understood_limit_nothing(monkeypatch, tmp_path: Path, text: bytes) -> None:
    real, odd = Path.read_bytes, tmp_path / "cgroup"
    odd.write_bytes(text)
    monkeypatch.setattr(Path, "read_bytes", lambda path: real(odd if str(path) == "/proc/self/cgroup" else path))
    monitor = Monitor(gpu=None)
    assert monitor.since(monitor.read(None), None).throttled_s == 0
