"""Does `rtbench diff` claim a difference where there is none, and find a tenth where there is one?

    python benchmarks/diff.py > benchmarks/results/DATE-diff.md

A small convolutional network is measured again and again with ONNX Runtime, each time by a whole `rtbench compare`,
in turn with one of a tenth more layers. Each run is compared with the one before it of the same network, which
must show nothing, and with the deeper network's, where the gate of 5 % must trip. How far runs of the same lie apart
stands beside what they say of themselves. All of it on one thread, as a gate on a shared machine should be, and again
on all. Prints a Markdown table for each; takes 40 minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from rtbench.measure.environment import available_cores, read_environment
from rtbench.review.diff import Change, diff
from rtbench.review.gate import exceeded, parse_budgets
from rtbench.review.sides import Side, read_side

ROW = "ort/fp32"
LAYERS, MORE_LAYERS = 39, 43
SIDE, CHANNELS = 32, 64
REPEATS = 3


def export(layers: int, path: Path) -> None:
    torch.manual_seed(0)
    body = [each for _ in range(layers) for each in (nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU())]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 10)]
    network = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, padding=1), *body, *head).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(1, 3, SIDE, SIDE),), path, dynamo=True, verbose=False)


def write_images(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
        Image.fromarray(generator.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / str(label) / "0.png")


def measure(model: Path, images: Path, out: Path, runs: int, threads: int) -> Side:
    command = [sys.executable, "-m", "rtbench", "--quiet", "compare", str(model), "--runtimes", "ort"]
    command += ["--data", str(images), "--input-size", str(SIDE), "--resize", str(SIDE), "--threads", str(threads)]
    subprocess.run([*command, "--runs", str(runs), "--out", str(out)], stdout=subprocess.DEVNULL, check=True)
    return read_side(out)


def changes(before: Side, after: Side) -> list[Change]:
    row = next(row for row in diff(before, after).rows if row.id == ROW)
    return [row.latency, row.p10]


def claimed(before: Side, after: Side) -> bool:
    """Whether a difference of the median or of the 10th percentile is."""
    return any(change.verdict in ("better", "worse") for change in changes(before, after))


def apart(before: Side, after: Side) -> bool:
    """Whether they have no state of the machine in common."""
    return all(change.verdict == "not comparable" for change in changes(before, after))


def tripped(before: Side, after: Side) -> bool:
    return any(
        sentence.startswith(f"{ROW}: latency")
        for sentence in exceeded(diff(before, after), parse_budgets("latency:5%"))
    )


def joined(sides: Sequence[Side]) -> Side:
    """Several runs as the repeats of one side."""
    return Side(sides[-1].path, [side.run for side in sides], [side.blocks[0] for side in sides], sides[-1].predictions)


def spread(sides: Sequence[Side], figure: Callable[[np.ndarray], float]) -> str:
    """Mean and standard deviation over runs of a figure of all of a run's samples."""
    values = [figure(np.concatenate([block.ms for block in side.blocks[0][ROW]])) for side in sides]
    return f"{statistics.fmean(values):.2f} ms ± {statistics.stdev(values) / statistics.fmean(values):.1%}"


def within(sides: Sequence[Side]) -> str:
    """Half of the interval of the mean, in the middle one of the runs."""
    latencies = [row.latency for side in sides for row in side.run.rows if row.latency]
    widths = [(ci[1] - ci[0]) / 2 / each.mean_ms for each in latencies if (ci := each.mean_ci95_ms)]
    return f"± {statistics.median(widths):.1%}"


def compared(pairs: Sequence[tuple[Side, Side]], which: int) -> str:
    """The standard deviation between runs that pairs of the same show in what `diff` compares of them."""
    found = [changes(*pair)[which].change for pair in pairs]
    apart = [math.log1p(change) for change in found if change is not None]
    return f"{statistics.stdev(apart) / math.sqrt(2):.1%}" if len(apart) > 1 else "-"


def slow_rounds(sides: Sequence[Side]) -> str:
    """In how many rounds the yardstick took more than half as long again as at its quickest, and how long."""
    took = np.array([block.yardstick_ms for side in sides for block in side.blocks[0][ROW]])
    slow = took > 1.5 * np.quantile(took, 0.01)
    times = f", {np.median(took[slow]) / np.median(took[~slow]):.1f} times as long" if slow.any() else ""
    return f"{slow.mean():.0%}{times}"


def report(same: Sequence[Side], slower: Sequence[Side], loads: Sequence[float], threads: int, runs: int) -> None:
    pairs = list(itertools.pairwise(same))
    planted = list(zip(same[1:], slower[1:], strict=True))
    groups = [slice(start, start + REPEATS) for start in range(0, len(same) - REPEATS + 1, REPEATS)]
    three = [(joined(same[group]), joined(slower[group])) for group in groups]
    firsts = list(itertools.pairwise(first for first, _ in three))
    print(f"\n## {threads} thread{'s' if threads > 1 else ''}\n")
    print(f"{runs} runs a row; load average of the machine while measuring {min(loads):.1f} to {max(loads):.1f}.\n")
    print("| measured | figure | promised |\n|---|---|---|")
    for layers, sides in ((LAYERS, same), (MORE_LAYERS, slower)):
        print(f"| mean of {layers} layers, and its standard deviation between runs | {spread(sides, np.mean)} | |")
        print(f"| beside its 95 % interval within a run, which knows nothing of other runs | {within(sides)} | |")
        print(f"| median of {layers} layers, and its standard deviation between runs | {spread(sides, np.median)} | |")
        print(f"| 10th percentile of {layers} layers, and the same | {spread(sides, p10)} | |")
    print(f"| rounds in which the yardstick was slow | {slow_rounds([*same, *slower])} | |")
    both = [*pairs, *itertools.pairwise(slower)]
    print(
        "| standard deviation between runs in the rounds that diff compares, of medians and 10th percentiles"
        f" | {compared(both, 0)}, {compared(both, 1)} | |"
    )
    print(f"| differences claimed between runs of the same | {count(claimed, pairs)} | at most 1 of 20 |")
    print(f"| gate of 5 % tripped by a tenth more layers | {count(tripped, planted)} | all |")
    print(f"| pairs without a state of the machine in common | {count(apart, pairs)}, {count(apart, planted)} | |")
    print(f"| differences claimed between {REPEATS} repeats and {REPEATS} | {count(claimed, firsts)} | |")
    print(f"| gate tripped with {REPEATS} repeats on each side | {count(tripped, three)} | |", flush=True)


def p10(samples: np.ndarray) -> float:
    return float(np.quantile(samples, 0.1))


def count(found: Callable[[Side, Side], bool], pairs: Sequence[tuple[Side, Side]]) -> str:
    return f"{sum(found(*pair) for pair in pairs)} of {len(pairs)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, available_cores()}))
    options = parser.parse_args()
    env = read_environment(available_cores())
    print(f"# rtbench diff on the same thing and on a tenth more, {datetime.now(timezone.utc):%Y-%m-%d}\n")
    print(f"{env.cpu}, {env.cores} cores, no GPU.", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_images(folder / "images")
        for layers in (LAYERS, MORE_LAYERS):
            export(layers, folder / f"{layers}.onnx")
        for threads in options.threads:
            loads = []
            runs: dict[int, list[Side]] = {LAYERS: [], MORE_LAYERS: []}
            for trial in range(options.trials + 1):
                loads.append(os.getloadavg()[0])
                for layers, sides in runs.items():
                    out = folder / f"run-{threads}-{layers}-{trial}"
                    sides.append(measure(folder / f"{layers}.onnx", folder / "images", out, options.runs, threads))
                if trial:
                    same, slower = runs.values()
                    found = [f"{each.verdict} {each.ci95}" for each in changes(*same[-2:])]
                    print(f"trial {trial}: {found} {tripped(same[-1], slower[-1])}", file=sys.stderr)
            report(*runs.values(), loads, threads, options.runs)


if __name__ == "__main__":
    main()
