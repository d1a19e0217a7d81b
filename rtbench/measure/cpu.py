"""Which CPU this is: what `/proc/cpuinfo` says of it."""

from __future__ import annotations

import platform
from pathlib import Path

from rtbench.records.run import Cpu

INFO = Path("/proc/cpuinfo")
FLAGS = frozenset(
    {
        *("avx2", "f16c", "avx_vnni", "avx_vnni_int8", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
        *("amx_int8", "amx_bf16", "amx_fp16", "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"),
    }
)
VNNI = frozenset({"avx_vnni", "avx512_vnni", "amx_int8"})
X86 = frozenset({"x86_64", "amd64", "i386", "i686"})


def cpu_name() -> str:
    return _fields().get("model name") or platform.processor() or platform.machine()


def read_cpu() -> Cpu | None:
    """None where the system has no `/proc/cpuinfo`, or one that says nothing known."""
    fields = _fields()
    flags = sorted(FLAGS.intersection(fields.get("flags", fields.get("Features", "")).split()))
    if "vendor_id" in fields:  # x86
        names = ("vendor_id", "cpu family", "model", "stepping")
    elif "CPU implementer" in fields:  # Arm
        names = ("CPU implementer", "CPU architecture", "CPU part", "CPU revision")
    else:
        return None
    vendor, family, model, stepping = (fields.get(name, "") for name in names)
    if "CPU variant" in fields:
        stepping = f"{fields['CPU variant']} {stepping}"
    microcode = fields.get("microcode")
    return Cpu(vendor=vendor, family=family, model=model, stepping=stepping, microcode=microcode, flags=flags)


def lacks_vnni(cpu: Cpu | None) -> bool:
    """Whether this is an x86 CPU that adds products of 8-bit numbers in 16 bits, or may be one."""
    return platform.machine().lower() in X86 and not (cpu and VNNI.intersection(cpu.flags))


def _fields() -> dict[str, str]:
    """What is said of the first processor."""
    try:
        first = INFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
