"""The NVIDIA driver: which GPUs it offers, in its own order, and which CUDA it supports.

`python -m rtbench.nvidia` asks it and prints the answer. It is asked in a process of its own: a driver that hangs or
crashes takes nobody with it, and CUDA_VISIBLE_DEVICES is read again each time.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

from pydantic import ValidationError

from rtbench.errors import RuntimeUnavailable, UsageError
from rtbench.records import Record
from rtbench.records.run import Gpu

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
LOOK = f"""
import ctypes
try:
    ctypes.CDLL({LIBRARY!r})
except OSError as error:
    raise SystemExit(str(error))
"""
"""Whether there is a driver at all: a tenth of the time that asking it takes."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
LEAST_SERIES = {12: 525, 13: 580}
"""The first series of drivers that supports each CUDA, whose minor versions need no newer one."""
PATIENCE_S = 60.0
MAJOR, MINOR, MEMORY_KHZ, BUS_BITS, L2_BYTES = 75, 76, 36, 37, 38
"""Numbers of CUdevice_attribute."""


class Driver(Record):
    """What the driver says: `problem` is why it offers no GPU, `cuda` what it supports; None without one."""

    cuda: str | None = None
    gpus: tuple[Gpu, ...] = ()
    problem: str | None = None


def find_driver() -> Driver:
    """The driver with the GPUs that this process may use, and in the order in which CUDA counts them."""
    return _asked(os.environ.get(VISIBLE))


def find_gpu() -> Gpu | None:
    """The GPU that every runtime uses: the driver's first; None without a driver or a GPU."""
    return next(iter(find_driver().gpus), None)


@cache
def _asked(visible: str | None) -> Driver:  # noqa: ARG001 - the answer depends on it
    try:
        looked = _python("-IS", "-c", LOOK)
        if looked.returncode == 1:
            return Driver(problem=looked.stderr.strip())
        asked = _python("-m", __name__)
        asked.check_returncode()
        return Driver.model_validate_json(asked.stdout)
    except (OSError, subprocess.SubprocessError, ValidationError) as error:
        return Driver(problem=f"the driver gave no answer: {type(error).__name__}")


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONSAFEPATH": "1"},  # nothing of the working folder is imported
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@contextmanager
def using(device: str | None) -> Iterator[None]:
    """Have this process and those that it starts see one GPU alone, `cuda:N` of those there are; with `cpu` none."""
    before = os.environ.get(VISIBLE)
    if device is not None:
        os.environ[VISIBLE] = _chosen(device)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VISIBLE, None)
        else:
            os.environ[VISIBLE] = before


def _chosen(device: str) -> str:
    if device == "cpu":
        return ""
    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        raise UsageError(f"--device {device} is not a device", "write cpu, cuda or cuda:1")
    driver = find_driver()
    index = int(number or 0)
    if index >= len(driver.gpus):
        here = ", ".join(f"cuda:{at} ({gpu.name})" for at, gpu in enumerate(driver.gpus)) or driver.problem or "none"
        raise UsageError(f"there is no --device {device}", f"this machine has: {here}")
    return driver.gpus[index].uuid or str(index)


def require_cuda(built_for: str, who: str) -> None:
    """RuntimeUnavailable where the driver does not support the CUDA that `who` was built for, or offers no GPU."""
    driver = find_driver()
    major = int(built_for.split(".")[0])
    if driver.cuda is None:
        remedy = "install it, or run in the container with --gpus all"
        raise RuntimeUnavailable(f"there is no NVIDIA driver ({driver.problem})", remedy)
    if int(driver.cuda.split(".")[0]) < major:
        said = next((f" {gpu.driver}" for gpu in driver.gpus), "")
        series = f"of the {LEAST_SERIES[major]} series or newer" if major in LEAST_SERIES else f"for CUDA {major}"
        raise RuntimeUnavailable(
            f"the NVIDIA driver{said} supports CUDA {driver.cuda}, and {who} needs {major}",
            f"install a driver {series}; on a data-centre GPU, as the T4 is, NVIDIA's cuda-compat-{major}-0 does too",
        )
    if not driver.gpus:
        remedy = f"see what nvidia-smi says, and {VISIBLE}"
        raise RuntimeUnavailable(f"the NVIDIA driver offers no GPU ({driver.problem})", remedy)


def ask() -> Driver:
    """Ask the driver in this process."""
    library = ctypes.CDLL(LIBRARY)
    version = _number(library.cuDriverGetVersion) or 0
    cuda = f"{version // 1000}.{version % 1000 // 10}" if version else None
    code = library.cuInit(0)
    if code:
        return Driver(cuda=cuda, problem=_words(library, code))
    count = _number(library.cuDeviceGetCount) or 0
    serial = _driver_version()
    gpus = [gpu for index in range(count) if (gpu := _gpu(library, index, serial))]
    return Driver(cuda=cuda, gpus=tuple(gpus), problem=None if gpus else "no CUDA-capable device is detected")


def _gpu(library: Any, index: int, driver: str) -> Gpu | None:
    """One GPU; what the driver does not say of it is unknown, by itself."""
    device = _number(library.cuDeviceGet, index)
    if device is None:
        return None

    def attribute(which: int) -> int | None:
        return _number(library.cuDeviceGetAttribute, which, device)

    name, serial, memory = ctypes.create_string_buffer(100), (ctypes.c_ubyte * 16)(), ctypes.c_size_t()
    library.cuDeviceGetName(name, 100, device)
    by_uuid = getattr(library, "cuDeviceGetUuid_v2", None)
    known = by_uuid is not None and by_uuid(serial, device) == 0
    library.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    clock, bits = attribute(MEMORY_KHZ), attribute(BUS_BITS)
    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{attribute(MAJOR) or 0}.{attribute(MINOR) or 0}",
        driver=driver,
        memory_mib=memory.value >> 20,
        uuid=f"GPU-{uuid.UUID(bytes=bytes(serial))}" if known else None,
        bandwidth_gb_s=2 * clock * bits / 8e6 if clock and bits else None,
        l2_bytes=attribute(L2_BYTES),
    )


def _number(function: Callable[..., int], *arguments: Any) -> int | None:
    """The number that a call of the driver's gives, None where it fails."""
    value = ctypes.c_int()
    return None if function(ctypes.byref(value), *arguments) else value.value


def _words(library: Any, code: int) -> str:
    text = ctypes.c_char_p()
    library.cuGetErrorString(code, ctypes.byref(text))
    return (text.value or b"error").decode(errors="replace") + f", error {code}"


def _driver_version() -> str:
    """By the management library, which an installation may lack."""
    import pynvml

    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        said = pynvml.nvmlSystemGetDriverVersion()
        return said.decode() if isinstance(said, bytes) else str(said)
    return "unknown"


if __name__ == "__main__":
    print(ask().model_dump_json())  # noqa: T201 - what the parent reads
