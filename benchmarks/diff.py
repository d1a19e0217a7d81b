"""Does the gate trip on a planted difference, and only on one? Side by side, and between runs of different times.

    python benchmarks/diff.py > benchmarks/results/DATE-diff.md        # 40 minutes on two idle cores
    python benchmarks/diff.py --pairs 40 --trials 0                    # side by side alone

A small convolutional network is measured once. Then it is measured again and again against that run
(`rtbench compare --against`), unchanged and with 5 % more layers: the budget of 3 % must trip on the second and never
on the first. After that whole runs of it and of a network of a tenth more layers are measured one after the other, and
compared by `rtbench diff`, which must claim nothing between runs of the same. Prints Markdown.
"""

from __future__ import annotations

import argparse
import itertools
import math
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

from rtbench.measure.environment import available_cores, read_environment
from rtbench.review.diff import Change, diff
from rtbench.review.gate import judge, parse_budgets
from rtbench.review.sides import Side, read_side

ROW = "ort/fp32"
LAYERS, FIVE_PERCENT, A_TENTH = 39, 41, 43
SIDE, CHANNELS = 32, 64


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


class Bench:
    def __init__(self, folder: Path, threads: int) -> None:
        self._folder, self._threads = folder, threads
        self._numbers = itertools.count()

    def measure(self, layers: int, runs: int, *options: str | Path) -> Side:
        out = self._folder / f"run-{self._threads}-{next(self._numbers)}"
        command = [sys.executable, "-m", "rtbench", "--quiet", "compare", self._folder / f"{layers}.onnx"]
        command += ["--data", self._folder / "images", "--input-size", SIDE, "--resize", SIDE, "--runtimes", "ort"]
        command += ["--threads", self._threads, "--runs", runs, "--out", out, *options]
        subprocess.run([str(each) for each in command], stdout=subprocess.DEVNULL, check=True)
        return read_side(out)


def change(before: Side, after: Side) -> Change:
    return next(row for row in diff(before, after).rows if row.id == ROW).latency


def tripped(before: Side, after: Side, budget: str) -> bool:
    gate = judge(diff(before, after), parse_budgets(budget))
    return any(each.row == ROW and each.outcome == "exceeded" for each in gate.decisions)


def middle(changes: Sequence[Change]) -> str:
    """The middle change, its range, and the middle width of the intervals."""
    known = [each for each in changes if each.change is not None and each.ci95]
    if not known:
        return "none could be compared"
    found = [each.change for each in known if each.change is not None]
    half = statistics.median((each.ci95[1] - each.ci95[0]) / 2 for each in known if each.ci95)
    return f"{statistics.median(found):+.1%} ({min(found):+.1%} to {max(found):+.1%}), interval ± {half:.1%}"


def side_by_side(bench: Bench, pairs: int, runs: int) -> None:
    earlier = bench.measure(LAYERS, runs)
    print("| measured | figure | promised | holds |\n|---|---|---|---|")
    for layers, what in ((LAYERS, "the same network"), (FIVE_PERCENT, "5 % more layers")):
        afters = [bench.measure(layers, runs, "--against", earlier.path) for _ in range(pairs)]
        changes = [change(earlier, after) for after in afters]
        trips = sum(tripped(earlier, after, "latency:3%") for after in afters)
        same = layers == LAYERS
        promised, holds = ("0", trips == 0) if same else (f"at least {pairs - 2}", trips >= pairs - 2)
        kept = sum(each.ci95 is not None for each in changes)
        print(f"| {what}: change, median of {pairs} | {middle(changes)} | | |")
        shown = sum(each.verdict == "worse" if not same else each.verdict in ("better", "worse") for each in changes)
        limit, kind = ("at most 4", "a difference is shown") if same else (f"at least {pairs - 4}", "shown to be worse")
        good = "yes" if (shown <= 4 if same else shown >= pairs - 4) else "**no**"
        print(f"| {what}: {kind} | {shown} of {pairs} | {limit} | {good} |")
        print(f"| {what}: could be compared | {kept} of {pairs} | | |")
        print(
            f"| {what}: `latency:3%` trips | {trips} of {pairs} | {promised} | {'yes' if holds else '**no**'} |",
            flush=True,
        )


def apart(bench: Bench, trials: int, runs: int) -> None:
    same, slower = [], []
    for _ in range(trials + 1):
        same.append(bench.measure(LAYERS, runs))
        slower.append(bench.measure(A_TENTH, runs))
    pairs = list(itertools.pairwise(same))
    changes = [change(*pair) for pair in pairs]
    logs = [math.log1p(each.change) for each in changes if each.change is not None]
    claims = sum(each.verdict in ("better", "worse") for each in changes)
    planted = [change(before, after) for before, after in zip(same, slower, strict=True)]
    found = sum(each.verdict == "worse" for each in planted)
    print("| measured | figure | promised |\n|---|---|---|")
    print(f"| standard deviation between runs, of medians | {statistics.stdev(logs) / math.sqrt(2):.1%} | |")
    print(f"| the same network twice: change | {middle(changes)} | |")
    print(f"| the same network twice: a difference is claimed | {claims} of {len(pairs)} | at most 1 of 20 |")
    print(f"| a tenth more layers: change | {middle(planted)} | |")
    print(f"| a tenth more layers: shown to be worse | {found} of {len(planted)} | |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40, help="comparisons side by side, of each kind")
    parser.add_argument("--trials", type=int, default=20, help="runs one after the other, of each network")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--threads", type=int, nargs="+", default=[available_cores()])
    options = parser.parse_args()
    env = read_environment(available_cores())
    print(f"# The gate on the same thing and on planted differences, {datetime.now(timezone.utc):%Y-%m-%d}\n")
    print(f"{env.cpu} ({env.cpu_details}), {env.cores} cores, no GPU; {options.runs} runs a row.", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_images(folder / "images")
        for layers in (LAYERS, FIVE_PERCENT, A_TENTH):
            export(layers, folder / f"{layers}.onnx")
        for threads in options.threads:
            bench = Bench(folder, threads)
            if options.pairs:
                print(f"\n## Side by side, {threads} threads\n")
                side_by_side(bench, options.pairs, options.runs)
            if options.trials:
                print(f"\n## Between runs of different times, {threads} threads\n")
                apart(bench, options.trials, options.runs)


if __name__ == "__main__":
    main()
