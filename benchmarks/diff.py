"""Does `rtbench diff` claim a difference where there is none, and find a tenth where there is one?

    python benchmarks/diff.py > benchmarks/results/DATE-diff.md

A small convolutional network is measured again and again with ONNX Runtime, each time by a whole `rtbench compare`,
in turn with one of a tenth more layers. Each run is compared with the one before it of the same network, which
must show nothing, and with the deeper network's, where the gate of 5 % must trip. How far runs of the same lie apart
stands beside what they say of themselves. Prints one Markdown table; takes 20 minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from rtbench.diff import Side, diff, exceeded, parse_budgets, read_side
from rtbench.environment import available_cores, read_environment
from rtbench.records import Latency

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


def measure(model: Path, images: Path, out: Path, runs: int) -> Side:
    command = [sys.executable, "-m", "rtbench", "--quiet", "compare", str(model), "--runtimes", "ort"]
    command += ["--data", str(images), "--input-size", str(SIDE), "--resize", str(SIDE)]
    subprocess.run([*command, "--runs", str(runs), "--out", str(out)], stdout=subprocess.DEVNULL, check=True)
    return read_side(out)


def claimed(before: Side, after: Side) -> bool:
    """Whether a difference of the median or of the quickest run is."""
    row = next(row for row in diff(before, after).rows if row.id == ROW)
    return any(change.verdict != "no difference shown" for change in (row.latency, row.quickest))


def tripped(before: Side, after: Side) -> bool:
    return any(
        sentence.startswith(f"{ROW}: latency")
        for sentence in exceeded(diff(before, after), parse_budgets("latency:5%"))
    )


def joined(sides: Sequence[Side]) -> Side:
    """Several runs as the repeats of one side."""
    return Side(sides[-1].path, [side.run for side in sides], [side.blocks[0] for side in sides], sides[-1].predictions)


def latencies(sides: Sequence[Side]) -> list[Latency]:
    return [side.run.rows[0].latency for side in sides if side.run.rows[0].latency]


def spread(sides: Sequence[Side], name: str) -> str:
    """Mean and standard deviation over runs."""
    values = [getattr(each, name) for each in latencies(sides)]
    return f"{statistics.fmean(values):.2f} ms ± {statistics.stdev(values) / statistics.fmean(values):.1%}"


def within(sides: Sequence[Side]) -> str:
    """Half of the interval of the mean, in the middle one of the runs."""
    widths = [(ci[1] - ci[0]) / 2 / each.mean_ms for each in latencies(sides) if (ci := each.mean_ci95_ms)]
    return f"± {statistics.median(widths):.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--runs", type=int, default=1000)
    options = parser.parse_args()
    loads = []
    same: list[Side] = []
    slower: list[Side] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_images(folder / "images")
        for layers in (LAYERS, MORE_LAYERS):
            export(layers, folder / f"{layers}.onnx")
        for trial in range(options.trials + 1):
            loads.append(os.getloadavg()[0])
            for layers, sides in ((LAYERS, same), (MORE_LAYERS, slower)):
                out = folder / f"run-{layers}-{trial}"
                sides.append(measure(folder / f"{layers}.onnx", folder / "images", out, options.runs))
            print(f"trial {trial}: {spread(same[-2:], 'p50_ms') if trial else ''}", file=sys.stderr)
    pairs = list(itertools.pairwise(same))
    claims = sum(claimed(*pair) for pair in pairs)
    trips = sum(tripped(before, after) for before, after in zip(same[1:], slower[1:], strict=True))
    groups = [slice(start, start + REPEATS) for start in range(0, len(same) - REPEATS + 1, REPEATS)]
    three = [(joined(same[group]), joined(slower[group])) for group in groups]
    group_claims = sum(claimed(a[0], b[0]) for a, b in itertools.pairwise(three))
    group_trips = sum(tripped(*pair) for pair in three)
    env = read_environment(available_cores())
    print(f"# rtbench diff on the same thing and on a tenth more, {datetime.now(timezone.utc):%Y-%m-%d}\n")
    print(
        f"{env.cpu}, {env.cores} cores, no GPU; {options.runs} runs a row; load average of the machine while measuring"
        f" {min(loads):.1f} to {max(loads):.1f} (its {env.cores} cores are busy by themselves from {env.cores} on).\n"
    )
    print("| measured | figure | promised |\n|---|---|---|")
    for layers, sides in ((LAYERS, same), (MORE_LAYERS, slower)):
        print(f"| mean of {layers} layers, and its standard deviation between runs | {spread(sides, 'mean_ms')} | |")
        print(f"| beside its 95 % interval within a run, which knows nothing of other runs | {within(sides)} | |")
        print(f"| median of {layers} layers, and its standard deviation between runs | {spread(sides, 'p50_ms')} | |")
        print(f"| quickest run of {layers} layers, and the same | {spread(sides, 'min_ms')} | |")
    print(f"| differences claimed between runs of the same | {claims} of {len(pairs)} | at most 1 of 20 |")
    print(f"| gate of 5 % tripped by a tenth more layers | {trips} of {len(pairs)} | all |")
    print(f"| differences claimed between {REPEATS} repeats and {REPEATS} | {group_claims} of {len(three) - 1} | |")
    print(f"| gate tripped with {REPEATS} repeats on each side | {group_trips} of {len(three)} | |")


if __name__ == "__main__":
    main()
