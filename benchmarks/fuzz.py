"""Every reader against made bad inputs, for as long as you like: what is read, refused, or a fault.

    python benchmarks/fuzz.py --minutes 30 > benchmarks/results/DATE-fuzz.md
    python benchmarks/fuzz.py --minutes 5 test_settings       # one harness

The harnesses of tests/fuzz run again and again, one beside the other, each time from the next seed, until a
harness has judged `--enough` inputs, or time is up. A harness is a family of readers: of images, of models. Inputs
that showed a fault are kept in the folder `--keep`. Prints Markdown; exit code 1 where a fault was found.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

from rtbench.measure.environment import available_cores, read_environment

HARNESSES = Path(__file__).resolve().parents[1] / "tests" / "fuzz"
FRAME = "test_judge"
"""The tests of the frame itself."""
COUNTS = ("inputs", "ok", "refused", "contained", "faults")


class Harness:
    """One module of tests/fuzz, and what it has found so far."""

    def __init__(self, path: Path, folder: Path, inputs: int, seed: int) -> None:
        self.name, self._path, self._folder, self._inputs = path.stem, path, folder / path.stem, inputs
        self._folder.mkdir(parents=True)
        self._seeds = itertools.count(seed)
        self.broken = ""

    def run(self) -> None:
        """From the next seed."""
        seed = next(self._seeds)
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=0", "-x", self._path],
            env=os.environ | {"FUZZ_INPUTS": str(self._inputs), "FUZZ_SEED": str(seed), "FUZZ_OUT": str(self._folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        faults = any(each["faults"] for each in self.tallies() if each["seed"] == seed)
        if done.returncode and not faults:
            self.broken = "\n".join(done.stdout.splitlines()[-15:])

    def tallies(self) -> list[dict]:
        path = self._folder / "tallies.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def readers(self) -> dict[str, Counter[str]]:
        """By reader, the sums of its tallies."""
        found: dict[str, Counter[str]] = {}
        for each in self.tallies():
            counts = {key: each[key] for key in COUNTS[:-1]}
            found.setdefault(each["reader"], Counter()).update(counts | {"faults": sum(each["faults"].values())})
        return found

    def faults(self) -> Counter[tuple[str, str]]:
        found: Counter[tuple[str, str]] = Counter()
        for each in self.tallies():
            found.update({(each["reader"], fault): count for fault, count in each["faults"].items()})
        return found

    def has(self, enough: int) -> bool:
        return sum(each["inputs"] for each in self.tallies()) >= enough


def run_all(harnesses: Sequence[Harness], minutes: float, enough: int, beside: int) -> None:
    """So many beside each other; each waits until the others had their turn."""
    deadline, turns = time.monotonic() + 60 * minutes, list(harnesses)

    def take_turns() -> None:
        while turns and time.monotonic() < deadline:
            harness = turns.pop(0)
            harness.run()
            if not (harness.broken or harness.has(enough)):
                turns.append(harness)

    with ThreadPoolExecutor(beside) as pool:
        for turn in [pool.submit(take_turns) for _ in range(beside)]:
            turn.result()


def cells(counts: Counter[str]) -> str:
    return " | ".join(f"{counts[key]:,}" for key in COUNTS)


def show(harnesses: Sequence[Harness], took_s: float) -> bool:
    """Print the tables; whether there was no fault."""
    env = read_environment(available_cores())
    print(f"# Readers and bad inputs, {datetime.now(timezone.utc):%Y-%m-%d}\n")
    print(f"{env.cpu}, {env.cores} cores; Python {env.python}; {took_s / 60:.0f} minutes.\n")
    print("| family | reader | inputs | read | refused in a sentence | its process ended, named | faults |")
    print("|---|---|---|---|---|---|---|")
    total: Counter[str] = Counter()
    for harness in harnesses:
        family: Counter[str] = Counter()
        for reader, counts in sorted(harness.readers().items()):
            family.update(counts)
            print(f"| {harness.name} | {reader} | {cells(counts)} |")
        print(f"| {harness.name} | all | {cells(family)} |")
        total.update(family)
    print(f"| all | | {cells(total)} |")
    faults = sum((harness.faults() for harness in harnesses), Counter())
    if faults:
        print("\n| reader | fault | times |\n|---|---|---|")
        for (reader, fault), count in faults.most_common():
            print(f"| {reader} | {fault} | {count:,} |")
    broken = [harness for harness in harnesses if harness.broken]
    for harness in broken:
        print(f"\n{harness.name} did not run to its end:\n\n```\n{harness.broken}\n```")
    return not (faults or broken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("harness", nargs="*", help="modules of tests/fuzz; none: all of them")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--enough", type=int, default=100_000, help="inputs of a harness, after which it is left alone")
    parser.add_argument("--inputs", type=int, default=2000, help="inputs of a reader in one turn")
    parser.add_argument("--seed", type=int, default=1, help="the first; the same seeds make the same inputs")
    parser.add_argument("--beside", type=int, default=available_cores(), help="harnesses that run at a time")
    parser.add_argument("--keep", type=Path, help="where what showed a fault is kept, in a new folder")
    options = parser.parse_args()
    paths = [path for path in sorted(HARNESSES.glob("test_*.py")) if path.stem != FRAME]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        named = [path for path in paths if not options.harness or path.stem in options.harness]
        harnesses = [Harness(path, folder, options.inputs, options.seed) for path in named]
        began = time.monotonic()
        run_all(harnesses, options.minutes, options.enough, options.beside)
        sys.exit(0 if show(harnesses, time.monotonic() - began) else 1)


if __name__ == "__main__":
    main()
