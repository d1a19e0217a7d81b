"""The main job's figures, measured: accuracy on real images, sizes, speed, memory, start-up.

    python benchmarks/main_job.py --data ../shared/imagenet-sample/val > benchmarks/results/DATE-main-job.md

Prints a Markdown table of what was measured, what is promised, whether it holds; then where the time of a comparison
goes, by `answer.py`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import torch
import torchvision

from rtbench.measure.environment import available_cores, read_environment
from rtbench.records.run import Row, Run
from rtbench.runs.result import read_run

IMAGES = 500
ZOO = ("resnet50", "mobilenet_v2", "efficientnet_b0", "vit_b_16", "convnext_tiny")
HELP_RUNS = 15


class Report:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def add(self, what: str, measured: str, promised: str, holds: bool) -> None:
        self.lines.append(f"| {what} | {measured} | {promised} | {'yes' if holds else '**no**'} |")
        print(f"{what}: {measured} ({promised})", file=sys.stderr)


def rtbench(*arguments: str | Path) -> int:
    """Run the command line; its peak resident memory in MiB, workers not counted."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rtbench", *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peak = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        peak = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), peak)
        time.sleep(0.1)
    if process.returncode == 2:
        raise SystemExit(f"rtbench {' '.join(map(str, arguments))} was refused")
    return peak // 1024


def rows(run: Run) -> dict[str, Row]:
    return {row.id: row for row in run.rows}


def accuracy(folder: Path, data: Path, report: Report) -> None:
    peak = rtbench("compare", "efficientnet_lite0", "--data", data, "--out", folder / "lite0")
    found = rows(read_run(folder / "lite0"))

    def count(row_id: str, figure: str) -> int:
        measured = found[row_id].accuracy
        return round(IMAGES * getattr(measured, figure)) if measured else -1

    checks: list[tuple[str, str, Callable[[int], bool], str]] = [
        ("torch/fp32", "top1", lambda n: n == 442, "442"),
        ("ort/fp32", "top1", lambda n: n == 442, "442"),
        ("torch/fp32", "top5", lambda n: n == 486, "486"),
        ("ort/fp32", "top5", lambda n: n == 486, "486"),
        ("ort/fp16", "top1", lambda n: abs(n - 442) <= 2, "440 to 444"),
        ("ort/int8", "top1", lambda n: n >= 437, "at least 437"),
    ]
    for row_id, figure, holds, promised in checks:
        n = count(row_id, figure)
        report.add(f"EfficientNet-Lite0 {row_id}, {figure} of {IMAGES}", str(n), promised, holds(n))
    int8, fp32 = found["ort/int8"], found["ort/fp32"]
    assert int8.artifact and int8.latency and fp32.latency
    size = int8.artifact.size_bytes / 2**20
    report.add("EfficientNet-Lite0 INT8 artifact", f"{size:.2f} MiB", "at most 5.2 MiB", size <= 5.2)
    ratio = int8.latency.p50_ms / fp32.latency.p50_ms
    report.add("its p50 over ort/fp32's, 1000 runs", f"{ratio:.2f}", "at most 0.65", ratio <= 0.65)
    report.add("peak memory of the parent", f"{peak} MiB", "under 1000 MiB", peak < 1000)


def resnet18(folder: Path, report: Report) -> None:
    torch.manual_seed(0)
    path = folder / "resnet18.pt"
    torch.save(torchvision.models.resnet18().state_dict(), path)
    start = time.perf_counter()
    rtbench("export", path, "--out", folder / "resnet18-artifacts", "--calibration-images", "256")
    seconds = time.perf_counter() - start
    report.add("export of ResNet18 to FP32, FP16, INT8 with 256 images", f"{seconds:.0f} s", "under 60 s", seconds < 60)
    rtbench("compare", path, "--out", folder / "resnet18", "--runs", "200")
    run = read_run(folder / "resnet18")
    report.add(
        "architecture of a bare state dict", str(run.models[0].arch), "resnet18", run.models[0].arch == "resnet18"
    )
    found = rows(run)
    for row_id, low, high, score in (
        ("torch/fp32", 44.6, 44.7, 1.0),
        ("ort/fp32", 44.55, 44.65, 1.0),
        ("ort/fp16", 22.35, 22.45, 2.0),
        ("ort/int8", 11.25, 11.35, 3.97),
    ):
        row = found[row_id]
        assert row.artifact and row.scores and row.scores.size and row.latency and row.scores.latency
        size = row.artifact.size_bytes / 2**20
        holds = low <= size <= high and abs(row.scores.size - score) <= 0.02
        report.add(
            f"ResNet18 {row_id}: size, size score",
            f"{size:.2f} MiB, {row.scores.size:.2f}",
            f"{low:g} to {high:g} MiB, {score:.2f} ± 0.02",
            holds,
        )
        exact = abs(row.scores.latency * row.latency.mean_ms / 23.5 - 1) < 1e-9
        report.add(
            f"ResNet18 {row_id}: latency score",
            f"{row.scores.latency:.3f} at {row.latency.mean_ms:.2f} ms",
            "23.5 ms / mean",
            exact,
        )


def zoo(folder: Path, report: Report) -> None:
    for name in ZOO:
        torch.manual_seed(0)
        torch.save(torchvision.models.get_model(name).state_dict(), folder / f"{name}.pt")
        start = time.perf_counter()
        rtbench("compare", folder / f"{name}.pt", "--out", folder / name, "--runs", "50")
        run = read_run(folder / name)
        seconds = time.perf_counter() - start
        statuses = {row.id: row.status for row in run.rows}
        may_fail = {"ort/int8"} if name in ("vit_b_16", "convnext_tiny") else set()
        holds = run.models[0].arch == name and all(
            status == "ok" for row_id, status in statuses.items() if row_id not in may_fail
        )
        said = ", ".join(f"{row_id} {status}" for row_id, status in statuses.items())
        report.add(f"{name} without special flags", f"{said}; {seconds:.0f} s", "all rows ok", holds)


def start_up(report: Report) -> None:
    times = []
    for _ in range(HELP_RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "rtbench", "--help"], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - start)
    median = statistics.median(times)
    report.add(f"rtbench --help, median of {HELP_RUNS}", f"{median:.2f} s", "under 0.25 s", median < 0.25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the 500 labelled images of imagenet-sample")
    data = parser.parse_args().data.resolve()
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        start_up(report)
        accuracy(folder, data, report)
        resnet18(folder, report)
        zoo(folder, report)
    env = read_environment(available_cores())
    packages = ", ".join(f"{name} {version}" for name, version in env.packages.items())
    print(f"# The main job, {datetime.now(timezone.utc):%Y-%m-%d}\n")
    print(f"{env.cpu}, {env.cores} cores, {env.memory_mib // 1024} GiB, no GPU; Python {env.python}; {packages}.\n")
    print("| measured | figure | promised | holds |\n|---|---|---|---|")
    print("\n".join(report.lines), flush=True)
    subprocess.run([sys.executable, Path(__file__).with_name("answer.py"), "--data", data], check=True)


if __name__ == "__main__":
    main()
