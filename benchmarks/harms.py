"""What can happen to a worker in the middle of a comparison, made to happen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from rtbench.records.run import Run
from rtbench.runs.result import read_run

HARMS = {
    "is killed by SIGKILL": signal.SIGKILL,
    "segfaults": signal.SIGSEGV,
    "hangs": "hang",
    "eats memory until it is killed": "eat",
}


def compare_and_harm(models: list[Path], out: Path, harm: signal.Signals | str | None) -> Run:
    """A comparison in the middle of which `harm` comes to the worker of the model called victim: a signal, or what
    the fake runtime does there by its script."""
    command = [sys.executable, "-m", "rtbench", "compare", *models, "--limit", "1", "--out", out]
    command += ["--runs", "1500", "--timeout", "20", "--runtimes", "ort,fake", "--precisions", "fp32"]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen([str(part) for part in command], stdout=quiet, stderr=subprocess.PIPE)
    if isinstance(harm, signal.Signals):
        await_text(process, out / "samples.csv", "victim")
        os.kill(worker_of(process, "victim"), harm)
    elif harm == "eat":
        limit_memory(worker_of(process, "victim"))
    process.wait()
    return read_run(out)


def await_text(process: subprocess.Popen[bytes], path: Path, text: str) -> None:
    while not (path.exists() and text in path.read_text(encoding="utf-8")):
        require_running(process)
        time.sleep(0.05)


def require_running(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        assert process.stderr
        raise SystemExit(process.stderr.read().decode())


def worker_of(process: subprocess.Popen[bytes], model: str) -> int:
    """The worker process whose log is that of the model's row, as soon as there is one."""
    while True:
        require_running(process)
        for child in psutil.Process(process.pid).children():
            with suppress(OSError):  # it has ended
                if model in Path(f"/proc/{child.pid}/fd/1").readlink().name:
                    return child.pid
        time.sleep(0.005)


def limit_memory(pid: int) -> None:
    """Let the kernel kill this process at 2 GiB, by a control group of its own."""
    version1, version2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    root, limit = (version1, "memory.limit_in_bytes") if version1.is_dir() else (version2, "memory.max")
    group = root / "rtbench-isolation"
    group.mkdir(exist_ok=True)
    (group / limit).write_text(str(2 * 2**30), encoding="ascii")
    (group / "cgroup.procs").write_text(str(pid), encoding="ascii")
