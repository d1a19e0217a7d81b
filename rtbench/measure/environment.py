"""What this machine is, read without importing a runtime."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil

from rtbench.artifacts import tool_versions
from rtbench.measure.cpu import cpu_name, read_cpu
from rtbench.nvidia import find_gpu
from rtbench.records.run import Environment

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
    "openvino",
    "tensorflow-cpu",
    "tensorflow",
    "tf2onnx",
    "ai-edge-litert",
    "tensorrt",
    "tensorrt-rtx",
    "pycuda",
)

Value = TypeVar("Value")


def known(read: Callable[[], Value], otherwise: Value) -> Value:
    """What the system says, `otherwise` where it does not: what is under `/proc` and `/sys` may be hidden, absent or
    of another form."""
    try:
        return read()
    except (OSError, psutil.Error, ValueError, LookupError, RuntimeError):
        return otherwise


def read_environment(threads: int) -> Environment:
    return Environment(
        cpu=cpu_name(),
        cpu_details=read_cpu(),
        cores=available_cores(),
        threads=threads,
        affinity=sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
        cpu_limit=_cpu_limit(),
        governor=_governor(),
        memory_mib=known(lambda: psutil.virtual_memory().total // 2**20, None),
        gpu=find_gpu(),
        os=platform.platform(),
        python=platform.python_version(),
        packages=tool_versions(*PACKAGES),
    )


def available_cores() -> int:
    """Physical cores, or fewer where this process may not run on all of them."""
    physical: int = known(lambda: psutil.cpu_count(logical=False), None) or os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return min(physical, allowed)


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
    file = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return known(lambda: file.read_text(encoding="ascii").strip(), None)
