"""Which GPU is used and whether the driver fits, asked of the stand-ins for NVIDIA's libraries by the real code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from standins import in_place

from rtbench import nvidia
from rtbench.errors import RuntimeUnavailable, UsageError

FIRST, SECOND = (f"GPU-{n * 8}-{n * 4}-{n * 4}-{n * 4}-{n * 12}" for n in "01")


@pytest.fixture
def ask(driver: Path, monkeypatch):
    """Have the driver be asked anew, over the stand-ins, with these variables."""

    def put(**variables: str) -> None:
        for name, value in in_place(driver, **variables).items():
            monkeypatch.setenv(name, value)
        nvidia._asked.cache_clear()

    monkeypatch.delenv(nvidia.VISIBLE, raising=False)
    yield put
    nvidia._asked.cache_clear()


def test_the_driver_names_its_gpus_in_its_own_order(ask):
    ask()
    said = nvidia.find_driver()
    assert said.cuda.startswith("13.")
    assert [(gpu.name, gpu.compute_capability, gpu.uuid) for gpu in said.gpus] == [
        ("stand-in for a Tesla T4", "7.5", FIRST),
        ("stand-in for an A10", "8.6", SECOND),
    ]
    first = nvidia.find_gpu()
    assert (first.driver, first.memory_mib, first.l2_bytes) == ("580.65.06", 15360, 4 << 20)
    assert first.bandwidth_gb_s == pytest.approx(320, rel=0.01)  # a T4's


@pytest.mark.parametrize(
    ("visible", "names"), [("1", [SECOND]), (SECOND, [SECOND]), ("1,0", [SECOND, FIRST]), ("", [])]
)
def test_visible_devices_are_the_drivers_to_read(ask, visible, names):
    ask(CUDA_VISIBLE_DEVICES=visible)
    assert [gpu.uuid for gpu in nvidia.find_driver().gpus] == names
    assert (nvidia.find_gpu() is None) == (names == [])


def test_nothing_of_the_working_folder_is_run(ask, tmp_path, monkeypatch):
    ask()
    for name in ("ctypes.py", "pydantic.py", "rtbench.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'written')!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    assert len(nvidia.find_driver().gpus) == 2
    assert not (tmp_path / "written").exists()


def test_a_device_that_is_named_is_the_only_one_until_the_end(ask, monkeypatch):
    ask()
    for device, name in (("cuda:1", SECOND), ("cuda:0", FIRST), ("cuda", FIRST)):
        with nvidia.using(device):
            assert [gpu.uuid for gpu in nvidia.find_driver().gpus] == [name]
        assert nvidia.VISIBLE not in os.environ
    with nvidia.using("cpu"):
        assert nvidia.find_gpu() is None
    monkeypatch.setenv(nvidia.VISIBLE, "1,0")
    with nvidia.using("cuda:1"):  # of those that are visible
        assert nvidia.find_gpu().uuid == FIRST
    assert os.environ[nvidia.VISIBLE] == "1,0"
    for wrong, words in (("cuda:2", "there is no --device cuda:2; this machine has: cuda:0"), ("gpu", "not a device")):
        with pytest.raises(UsageError, match=words), nvidia.using(wrong):
            pass


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (
            {"CUDA_STANDIN_VERSION": "12020", "NVML_STANDIN_DRIVER": "535.104.05"},
            r"driver 535\.104\.05 supports CUDA 12\.2, and torch 2 needs 13; install a driver of the 580 .*T4 is",
        ),
        ({"CUDA_STANDIN_FAULT": "cuInit:1:100"}, r"the NVIDIA driver offers no GPU \(error 100"),
        ({"CUDA_VISIBLE_DEVICES": ""}, "offers no GPU .*CUDA_VISIBLE_DEVICES"),
        ({"LD_LIBRARY_PATH": ""}, r"there is no NVIDIA driver \(libcuda\.so\.1: cannot open"),
    ],
)
def test_what_is_wrong_with_the_driver_is_told_by_name(ask, variables, words):
    ask(**variables)
    with pytest.raises(RuntimeUnavailable, match=words):
        nvidia.require_cuda("13.0", "torch 2")


def test_a_driver_that_supports_it_is_enough(ask):
    ask(CUDA_STANDIN_VERSION="12020")
    nvidia.require_cuda("12.9", "a build for CUDA 12")


def test_a_driver_without_its_management_library_still_has_its_gpus(ask, driver, tmp_path):
    (tmp_path / "libcuda.so.1").symlink_to(driver / "libcuda.so.1")
    ask(LD_LIBRARY_PATH=str(tmp_path))
    assert [gpu.driver for gpu in nvidia.find_driver().gpus] == ["unknown", "unknown"]


def test_a_driver_that_crashes_is_a_problem_and_not_the_end(ask, monkeypatch):
    ask()
    monkeypatch.setattr(nvidia, "PATIENCE_S", 0.001)
    assert "gave no answer" in nvidia.find_driver().problem


def test_it_is_asked_as_a_program(driver):
    done = subprocess.run(
        [sys.executable, "-m", "rtbench.nvidia"], env=in_place(driver), capture_output=True, text=True, check=True
    )
    assert len(json.loads(done.stdout)["gpus"]) == 2
