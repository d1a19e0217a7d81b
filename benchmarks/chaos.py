"""Comparisons that are killed at random moments and resumed: is the end that of a run that nobody disturbed?

    python benchmarks/chaos.py > benchmarks/results/DATE-chaos.md      # 100 kills, 40 minutes
    python benchmarks/chaos.py --kills 5 --rows fake                   # half a minute

Two kinds of rows: fake ones by a scripted clock, and a small network on torch and ONNX Runtime, exported in each run.
What is done at a seeded moment: SIGKILL or SIGTERM to the command, Ctrl-C twice, or SIGKILL to one of its worker
processes. Then the run is resumed, or begun again where it had not come so far, and disturbed again or left to end.
Prints Markdown; exit code 1 where anything was lost, doubled, changed or left behind.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from rtbench import artifacts
from rtbench.measure.environment import available_cores, read_environment
from rtbench.records.measurement import Accuracy
from rtbench.records.model import Artifact
from rtbench.records.run import Row, Run
from rtbench.runs.predictions import read_predictions
from rtbench.runs.result import read_run
from rtbench.runs.samples import every_block
from rtbench.scores.baselines import is_reference

A_WORKER = "SIGKILL to a worker"
KINDS = ("SIGKILL", "SIGINT twice", "SIGTERM", A_WORKER)
PHASES = ("starting", "preparing", "measuring", "writing reports")
REPORTS = ("report.html", "report.md", "results.csv")
MOST_KILLS = 3
"""Of one run."""
MARK = "RTBENCH_CHAOS"
"""In the environment of every process of a run, by which those left behind are known."""
ALONE = {"agreement": None, "difference": None}
"""An accuracy without what is held against the model's own row."""
WAIT_S = 600.0
GONE_S = 15.0


@dataclass(frozen=True)
class Rows:
    """What is compared, as arguments; `scripted`: by a clock that makes every run's durations the same."""

    name: str
    arguments: tuple[str, ...]
    scripted: bool


def fake_rows(folder: Path) -> Rows:
    paths = [folder / "first.fake", folder / "second.fake"]
    for path, latency_ms in zip(paths, (1.0, 1.5), strict=True):
        path.write_text(json.dumps({"classes": 10_000, "latency_ms": [latency_ms]}))
    data = write_images(folder / "few", 240, 12)
    return Rows("fake", (*map(str, paths), "--data", str(data), "--runs", "200", "--patience", "0"), scripted=True)


def real_rows(folder: Path) -> Rows:
    import torch
    from torchvision.models import squeezenet1_1

    torch.manual_seed(0)
    path = folder / "small.pt"
    torch.save(squeezenet1_1(num_classes=10).state_dict(), path)
    data = write_images(folder / "photographs", 200, 80)
    made = ("--input-size", "64", "--resize", "72", "--runtimes", "torch:cpu,ort:cpu", "--precisions", "fp32,int8")
    return Rows("real", (str(path), "--data", str(data), *made, "--runs", "60", "--patience", "0"), scripted=False)


def write_images(folder: Path, count: int, side: int) -> Path:
    """Labelled by ten folders."""
    generator = np.random.default_rng(count)
    for index in range(count):
        label = folder / str(index % 10)
        label.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 255, (side, side, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(label / f"{index}.png")
    return folder


@dataclass
class Trial:
    """One run in a folder of its own, disturbed and resumed until it is whole."""

    rows: Rows
    folder: Path
    name: str
    kills: list[tuple[str, str]] = field(default_factory=list)
    """How, and in which phase."""
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True)
        self.run = self.folder / "run"

    @property
    def has_killed_worker(self) -> bool:
        """Whose row fails then, and with it the command."""
        return any(how == A_WORKER for how, _ in self.kills)

    def start(self) -> subprocess.Popen[str]:
        if (self.run / "command.json").exists():
            self.ends["resumed"] += 1
            asked = ["--resume", str(self.run)]
        else:
            self.ends["begun"] += 1
            asked = [*self.rows.arguments, "--out", str(self.run)]
        return subprocess.Popen(
            [sys.executable, "-m", "rtbench", "compare", *asked],
            cwd=self.folder,
            env=os.environ | {MARK: self.name, "XDG_CACHE_HOME": str(self.folder / "cache")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def phase(self) -> str:
        if not (self.run / "command.json").exists():
            return PHASES[0]
        if not (self.run / "result.json").exists():
            return PHASES[1]
        return PHASES[3] if read_run(self.run).complete else PHASES[2]

    def disturb(self, process: subprocess.Popen[str], how: str, moment_s: float, chooser: random.Random) -> bool:
        """Whether it was still there."""
        if ended(process, moment_s):
            return False
        phase = self.phase()
        match how:
            case "SIGKILL":
                process.kill()
            case "SIGTERM":
                process.terminate()
            case "SIGINT twice":
                os.killpg(process.pid, signal.SIGINT)  # as a terminal does
                if not ended(process, chooser.uniform(0, 1)):
                    os.killpg(process.pid, signal.SIGINT)
            case _:
                children = psutil.Process(process.pid).children(recursive=True)
                try:
                    chooser.choice(sorted(children, key=lambda each: each.pid)).kill()
                except (IndexError, psutil.NoSuchProcess):
                    return False
        self.kills.append((how, phase))
        return True

    def finish(self) -> None:
        """Resume until there is nothing to resume."""
        process = self.start()
        output = self.output_of(process)
        expected = {0} | ({1} if self.has_killed_worker else set()) | ({2} if "is complete" in output else set())
        if process.returncode not in expected:
            last = (output.strip().splitlines() or [""])[-1]
            self.fault(f"the last start ended with exit code {process.returncode}: {last}")

    def output_of(self, process: subprocess.Popen[str]) -> str:
        try:
            return process.communicate(timeout=WAIT_S)[0]
        except subprocess.TimeoutExpired:
            process.kill()
            self.fault(f"hung for more than {WAIT_S:g} s")
            return process.communicate()[0]

    def fault(self, what: str) -> None:
        self.faults.append(f"{self.name}: {what} (after {', '.join(f'{how} {phase}' for how, phase in self.kills)})")

    def require_alone(self) -> None:
        """That no process of the run is left."""
        deadline = time.monotonic() + GONE_S
        while (left := list(marked(self.name))) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in left:
            self.fault(f"process left behind: {' '.join(process.cmdline())[-120:]}")
            process.kill()


def ended(process: subprocess.Popen[str], within_s: float) -> bool:
    try:
        process.wait(within_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def marked(name: str) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == name:
                yield process
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def judge(trial: Trial, whole: Path) -> None:
    """Hold a run that was disturbed against one that was not."""
    run, expected = read_run(trial.run), read_run(whole)
    if not run.complete:
        trial.fault("is not complete")
    for name in REPORTS:
        if not (trial.run / name).exists():
            trial.fault(f"{name} is missing")
    for path in trial.folder.rglob("*"):
        if ".making-" in path.name or path.name.endswith(".partial"):
            trial.fault(f"{path.relative_to(trial.folder)} was left behind")
    if [row.id for row in run.rows] != [row.id for row in expected.rows]:
        trial.fault(f"its rows are {[row.id for row in run.rows]}")
        return
    own, theirs = blocks_of(trial.run, trial.rows), blocks_of(whole, trial.rows)
    ids = [row.id for row in run.rows]
    answers, right = read_predictions(trial.run, ids), read_predictions(whole, ids)
    for row, undisturbed in zip(run.rows, expected.rows, strict=True):
        if row.artifact:
            judge_artifact(trial, row.artifact)
        if is_killed(row, trial):
            continue
        if (row.status, accuracy_of(row, run, trial)) != (undisturbed.status, accuracy_of(undisturbed, run, trial)):
            trial.fault(f"{row.id} is {row.status} ({row.reason}), or its accuracy is another")
        if answers[row.id] != right[row.id] or not right[row.id]:
            trial.fault(f"the predictions of {row.id} are not those of the undisturbed run")
        if own.get(row.id) != theirs.get(row.id):
            trial.fault(f"the samples of {row.id} are not those of the undisturbed run")
    every = [start for block in every_block(trial.run) for start in block.starts_ns.tolist()]
    if not trial.rows.scripted and len(set(every)) != len(every):
        trial.fault("a sample is there twice")


def accuracy_of(row: Row, disturbed: Run, trial: Trial) -> Accuracy | None:
    """Without what is held against the model's own row, where that was killed."""
    lost = any(is_reference(each) and is_killed(each, trial) for each in disturbed.rows)
    return row.accuracy.model_copy(update=ALONE) if row.accuracy and lost else row.accuracy


def is_killed(row: Row, trial: Trial) -> bool:
    """Whether a row failed since its own worker was killed, as it should."""
    return trial.has_killed_worker and row.status == "failed" and "SIGKILL" in (row.reason or "")


def blocks_of(run: Path, rows: Rows) -> dict[str, list[tuple[object, ...]]]:
    """By row its blocks: all of a scripted clock's durations, of a real one's how many there are."""
    found: dict[str, list[tuple[object, ...]]] = {}
    for block in every_block(run):
        durations = block.durations_ns.tolist()
        samples = durations if rows.scripted else len(durations)
        found.setdefault(block.row, []).append((block.round, block.attempt, block.process, samples))
    return {row: sorted(blocks) for row, blocks in found.items()}


def judge_artifact(trial: Trial, artifact: Artifact) -> None:
    path = trial.folder / artifact.path
    if not path.exists() or artifacts.file_sha256(path) != artifact.sha256:
        trial.fault(f"{artifact.path} is not the file that was measured")
    elif path.suffix != ".fake":
        manifest = artifacts.load_manifest(path)
        if manifest is None or manifest.sha256 != artifact.sha256:
            trial.fault(f"the manifest of {artifact.path} is missing or of another file")


def undisturbed(rows: Rows, folder: Path) -> tuple[Path, float]:
    """A run that nobody disturbs, and how long it takes."""
    trial, began = Trial(rows, folder, "undisturbed"), time.monotonic()
    trial.finish()
    took_s = time.monotonic() - began
    if trial.faults:
        sys.exit("\n".join(trial.faults))
    return trial.run, took_s


def disturb_all(rows: Rows, folder: Path, kills: int, chooser: random.Random) -> list[Trial]:
    """Runs until there have been so many kills, each held against an undisturbed one."""
    whole, took_s = undisturbed(rows, folder / f"{rows.name}-whole")
    trials: list[Trial] = []
    left = kills
    while left:
        trial = Trial(rows, folder / f"{rows.name}-{len(trials)}", f"{rows.name}-{len(trials)}")
        for _ in range(min(left, chooser.randint(1, MOST_KILLS))):
            process = trial.start()
            trial.disturb(process, chooser.choice(KINDS), chooser.uniform(0, took_s), chooser)
            trial.output_of(process)
            trial.require_alone()
        trial.finish()
        trial.require_alone()
        judge(trial, whole)
        trials.append(trial)
        left -= len(trial.kills)
    return trials


def show(trials: Sequence[Trial]) -> None:
    print(f"| rows | what was done | {' | '.join(f'while {phase}' for phase in PHASES)} | in all |")
    print("|---|---|" + "---|" * (len(PHASES) + 1))
    for name in dict.fromkeys(trial.rows.name for trial in trials):
        kills = Counter(kill for trial in trials if trial.rows.name == name for kill in trial.kills)
        for how in KINDS:
            counts = [kills[how, phase] for phase in PHASES]
            print(f"| {name} | {how} | {' | '.join(map(str, counts))} | {sum(counts)} |")
    ends = sum((trial.ends for trial in trials), Counter())
    faults = [fault for trial in trials for fault in trial.faults]
    print(
        f"\n{len(trials)} runs, {ends['begun']} times begun and {ends['resumed']} times resumed; "
        f"{sum(bool(trial.faults) for trial in trials)} of them with a fault."
    )
    if faults:
        print("\n" + "\n".join(f"- {fault}" for fault in faults))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rows", choices=("fake", "real", "both"), default="both", help="both: three in ten real")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    env = read_environment(available_cores())
    print(f"# Runs that were killed and resumed, {datetime.now(timezone.utc):%Y-%m-%d}\n")
    print(f"{env.cpu}, {env.cores} cores; Python {env.python}; seed {options.seed}.\n", flush=True)
    real = {"fake": 0, "real": options.kills, "both": 3 * options.kills // 10}[options.rows]
    chooser = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        trials = []
        if options.kills > real:
            trials += disturb_all(fake_rows(folder), folder, options.kills - real, chooser)
        if real:
            trials += disturb_all(real_rows(folder), folder, real, chooser)
    show(trials)
    sys.exit(any(trial.faults for trial in trials))


if __name__ == "__main__":
    main()
