"""Many runs, and runs of many samples: how long history, diff and the page take, and how much memory.

    python benchmarks/load.py > benchmarks/results/DATE-load.md        # a minute

The runs are made, not measured: 2,000 of seven rows, four of them with 500 samples and 400 predictions each, and two of
two rows with a million samples each. Every figure is of the command line in a process of its own. Prints Markdown.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from made_runs import made_row, made_run, write_run, write_usual_run

from rtbench.measure.conditions import Seen
from rtbench.measure.environment import available_cores, read_environment
from rtbench.measure.rounds import BLOCK_RUNS, Block
from rtbench.measure.summary import summarise_latency
from rtbench.runs.columns import save_columns
from rtbench.runs.result import read_run
from rtbench.runs.samples import SAMPLES

ROWS = {"torch/fp32": 2.0, "ort/fp32": 1.0}
"""Mean milliseconds of the rows of a large run."""


@dataclass(frozen=True)
class Cost:
    wall_s: float
    cpu_s: float
    peak_mib: float

    def __str__(self) -> str:
        return f"{self.wall_s:.1f} s (CPU {self.cpu_s:.1f} s), {self.peak_mib:.0f} MiB"


def cost(*arguments: str | Path) -> Cost:
    """Of one command: time on the clock and of the CPU, and the most memory."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "rtbench", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return Cost(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def made_history(folder: Path, runs: int) -> None:
    """A run every hour; a tenth of them a fifth slower than the one before, or as much faster again."""
    first = datetime(2026, 1, 1, tzinfo=timezone.utc)
    generator = np.random.default_rng(0)
    for kind in (1.0, 1.2):
        write_usual_run(folder / f"kind-{kind}", slower=kind)
        save_columns(folder / f"kind-{kind}" / SAMPLES)
    for number in range(runs):
        path = folder / "runs" / f"{number:05}"
        shutil.copytree(folder / f"kind-{generator.choice((1.0, 1.2), p=(0.95, 0.05))}", path)
        created = (first + timedelta(hours=number)).isoformat()
        run = read_run(path).model_copy(update={"created": created})
        (path / "result.json").write_text(run.model_dump_json(indent=2))


def many_blocks(row: str, mean_ms: float, samples: int, seed: int) -> list[Block]:
    generator = np.random.default_rng(seed)
    rounds = samples // BLOCK_RUNS
    durations = (1e6 * mean_ms * generator.normal(1, 0.01, samples)).astype(np.int64)
    starts = 10**15 + np.cumsum(3 * durations)
    nan = np.full(BLOCK_RUNS, np.nan)
    seen = Seen(0.02, cpu_mhz=2400.0)
    return [
        Block(row, number, 0, number * 5 // rounds, 0, starts[own], durations[own], nan, seen)
        for number in range(rounds)
        for own in [slice(number * BLOCK_RUNS, (number + 1) * BLOCK_RUNS)]
    ]


def made_large(path: Path, samples: int, seed: int) -> None:
    blocks = {row: many_blocks(row, mean, samples, seed + at) for at, (row, mean) in enumerate(ROWS.items())}
    rows = [
        made_row(row, mean, []).model_copy(
            update={
                "latency": summarise_latency(
                    [block.ms for block in blocks[row]], [block.process for block in blocks[row]]
                )
            }
        )
        for row, mean in ROWS.items()
    ]
    write_run(path, made_run(rows), blocks, {})
    save_columns(path / SAMPLES)


def made(make: Callable[..., None], *arguments: object) -> None:
    """In a process of its own: a command's peak of memory counts what its parent had when it forked."""
    process = multiprocessing.get_context("spawn").Process(target=make, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{make.__name__} ended with {process.exitcode}")


def report(what: str, used: Cost, *, seconds: float, mib: float = float("inf")) -> None:
    promised = f"under {seconds:g} s" + (f" and {mib:.0f} MiB" if mib < float("inf") else "")
    holds = used.wall_s < seconds and used.peak_mib < mib
    print(f"| {what} | {used} | {promised} | {'yes' if holds else '**no**'} |", flush=True)


def many_runs(folder: Path, runs: int) -> None:
    made(made_history, folder, runs)
    for when, seconds in (("at first", 5), ("again", 1)):
        report(f"`history` of {runs:,} runs, {when}", cost("history", folder / "runs"), seconds=seconds)
    shutil.rmtree(folder / "runs" / "00000")
    report("`history` with a run less", cost("history", folder / "runs"), seconds=1)


def large_runs(folder: Path, samples: int) -> None:
    before, after = folder / "before", folder / "after"
    for seed, path in enumerate((before, after)):
        made(made_large, path, samples, 2 * seed)
    what = f"two runs of {len(ROWS)} rows x {samples:,} samples"
    report(f"`diff` of {what}", cost("diff", before, after), seconds=5, mib=500e6 / 2**20)
    page = folder / "report.html"
    used = cost("report", before, "--format", "html", "--output", page)
    report(f"`report --format html` of one of {len(ROWS)} rows x {samples:,}", used, seconds=5, mib=500e6 / 2**20)
    size = page.stat().st_size / 1e6
    print(f"| its page | {size:.2f} MB | under 2 MB | {'yes' if size < 2 else '**no**'} |")
    sizes = [(before / SAMPLES).with_suffix(suffix).stat().st_size / 1e6 for suffix in (".csv", ".npz")]
    print(f"| its samples, as CSV and as columns | {sizes[0]:.0f} MB and {sizes[1]:.0f} MB | | |")
    for path in (before, after):
        (path / SAMPLES).with_suffix(".npz").unlink()
    used = cost("diff", before, after)
    print(f"| `diff` of {what}, where there is only the CSV | {used} | | |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help="runs in the history")
    parser.add_argument("--samples", type=int, default=1_000_000, help="samples of each row of a large run")
    options = parser.parse_args()
    env = read_environment(available_cores())
    print(f"# Many runs and large runs, {datetime.now(timezone.utc):%Y-%m-%d}\n")
    print(
        f"{env.cpu} ({env.cpu_details}), {env.cores} cores; load of the machine {os.getloadavg()[0]:.1f} at the start."
    )
    print("\n| measured | figure | promised | holds |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        many_runs(folder, options.runs)
        large_runs(folder, options.samples)


if __name__ == "__main__":
    main()
