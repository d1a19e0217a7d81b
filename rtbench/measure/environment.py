"""What this machine is, read without importing a runtime."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
from functools import cache
from pathlib import Path

import psutil

from rtbench.artifacts import tool_versions
from rtbench.measure.cpu import cpu_name, read_cpu
from rtbench.records.run import Environment, Gpu

PACKAGES = (
    "rtbench",
    "numpy",
    "pillow",
    "torch",
    "torchvision",
    "onnx",
    "onnxscript",
    "onnxruntime-gpu",
    "onnxruntime",
    "tensorrt",
    "tensorrt-rtx",
    "pycuda",
)


def read_environment(threads: int) -> Environment:
    return Environment(
        cpu=cpu_name(),
        cpu_details=read_cpu(),
        cores=available_cores(),
        threads=threads,
        affinity=sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
        cpu_limit=_cpu_limit(),
        governor=_governor(),
        memory_mib=psutil.virtual_memory().total // 2**20,
        gpu=find_gpu(),
        os=platform.platform(),
        python=platform.python_version(),
        packages=tool_versions(*PACKAGES),
    )


def available_cores() -> int:
    """Physical cores, or fewer where this process may not run on all of them."""
    physical: int = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return min(physical, allowed)


@cache
def find_gpu() -> Gpu | None:
    """The first NVIDIA GPU, as the driver's own tool describes it; None without a driver or a GPU."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = "--query-gpu=name,compute_cap,driver_version,memory.total"
    try:
        answer = subprocess.run(
            [tool, query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=30, check=True
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    name, capability, driver, memory = (field.strip() for field in answer.stdout.splitlines()[0].split(","))
    return Gpu(name=name, compute_capability=capability, driver=driver, memory_mib=int(memory))


def _cpu_limit() -> float | None:
    """Cores that this process's control group may use, version 2 of them or 1; None where nothing limits it."""
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):
        files = (group / "cpu" / f"cpu.cfs_{name}_us" for name in ("quota", "period"))
        quota, period = (file.read_text(encoding="ascii") for file in files)
        return int(quota) / int(period) if int(quota) > 0 else None
    return None


def _governor() -> str | None:
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text(encoding="ascii").strip()
    except OSError:
        return None
