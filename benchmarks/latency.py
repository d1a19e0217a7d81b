"""The harness against a bare loop, against MLPerf, against itself, against other work and against crashes.

    python benchmarks/latency.py > benchmarks/results/DATE-latency.md      # an hour, on an idle machine
    python benchmarks/latency.py overhead differences                      # parts of it

Prints Markdown: what was measured, what is promised, whether it holds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import psutil
import torch
import torchvision
from harms import HARMS, compare_and_harm

from rtbench.export.torch import write_fp32
from rtbench.images.preprocessing import normalise
from rtbench.measure import latency
from rtbench.measure.environment import available_cores, read_environment
from rtbench.measure.rounds import BLOCK_RUNS
from rtbench.models.fake_model import FakeScript
from rtbench.records.measurement import Comparison, MlPerf
from rtbench.records.model import Artifact, Model
from rtbench.records.run import Run
from rtbench.review.diff import diff
from rtbench.review.sides import read_side
from rtbench.runs.result import read_run
from rtbench.runs.samples import every_block, read_blocks
from rtbench.runtimes.fake import FakeSession
from rtbench.stats import compare_rounds
from rtbench.worker import Worker

PAIRS = 10
BLOCKS = 20
GENERATOR_PAIRS = 5
COMPARISONS = 40
LOADED = 20
LOADED_LAYERS = 4
"""Few, since on a busy machine PyTorch's threads wait for each other at every layer: ResNet18 takes a second."""
ATTEMPTS = 4
"""At a pair of runs that met the machine in one state."""
ROWS = ("torch/fp32", "ort/fp32", "ort/int8")
THREADS = available_cores()


@dataclass
class Table:
    title: str
    lines: list[str] = field(default_factory=list)

    def add(self, what: str, measured: str, promised: str, holds: bool | None) -> None:
        verdict = "" if holds is None else "yes" if holds else "**no**"
        self.lines.append(f"| {what} | {measured} | {promised} | {verdict} |")
        print(f"{what}: {measured} ({promised})", file=sys.stderr, flush=True)

    def show(self) -> None:
        print(f"\n## {self.title}\n\n| measured | figure | promised | holds |\n|---|---|---|---|")
        print("\n".join(self.lines), flush=True)


class Bench:
    """A folder with ResNet18 and its artifacts, and rtbench's command line to run on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runs = 0
        torch.manual_seed(0)
        torch.save(torchvision.models.resnet18().state_dict(), folder / "resnet18.pt")
        self.artifacts = folder / "artifacts"
        self.rtbench("export", folder / "resnet18.pt", "--out", self.artifacts, "--calibration-images", "64")

    def rtbench(self, *arguments: str | Path) -> None:
        command = [sys.executable, "-m", "rtbench", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 2:
            raise SystemExit(done.stderr)

    def out(self) -> Path:
        self._runs += 1
        return self.folder / f"run{self._runs}"

    def compare(self, *arguments: str | Path) -> Run:
        out = self.out()
        self.rtbench("compare", *arguments, "--limit", "8", "--out", out)
        return read_run(out)

    def rows(self) -> tuple[Model, dict[str, Artifact], Path, Path]:
        """The model, its artifacts by row, one image as the image cache has it, and as an input of the network."""
        run = self.compare(self.artifacts, "--runs", "1", "--warmup", "0", "--runtimes", "torch,ort")
        model = run.models[0]
        height, width = model.preprocessing.height_width
        images, batch = self.folder / "image.npy", self.folder / "input.npy"
        np.save(images, np.random.default_rng(0).integers(0, 255, (1, height, width, 3), dtype=np.uint8))
        np.save(batch, normalise(np.load(images), model.preprocessing))
        return model, {row.id: row.artifact for row in run.rows if row.artifact}, images, batch


BARE = """
import sys, time
import numpy as np
row, path, batch, threads = sys.argv[1], sys.argv[2], np.load(sys.argv[3]), int(sys.argv[4])
if row.startswith("torch"):
    import torch, torchvision
    torch.set_num_threads(threads)
    network = torchvision.models.resnet18()
    network.load_state_dict(torch.load(path, weights_only=True))
    network.eval()
    def run():
        with torch.inference_mode():
            return network(torch.from_numpy(batch)).numpy()
else:
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    def run():
        return session.run(None, {name: batch})[0]
for _ in range(50):
    run()
print(flush=True)
for line in sys.stdin:
    times, lead_ns, runs = [], *map(int, line.split())
    began = time.perf_counter_ns()
    while time.perf_counter_ns() - began < lead_ns:
        run()
    for _ in range(runs):
        start = time.perf_counter_ns()
        run()
        times.append(time.perf_counter_ns() - start)
    print(*times, flush=True)
"""


class BareLoop:
    """The shortest loop there is, on the same artifact and input, alone in its process; paused between blocks."""

    def __init__(self, row: str, artifact: Artifact, batch: Path) -> None:
        self._process = psutil.Popen(
            [sys.executable, "-c", BARE, row, artifact.path, str(batch), str(THREADS)],
            env=os.environ | {"OMP_NUM_THREADS": str(THREADS)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._process.stdout.readline()
        self._process.suspend()

    def block(self, runs: int) -> list[float]:
        self._process.resume()
        self._process.stdin.write(f"{latency.CPU_LEAD_NS} {runs}\n")
        self._process.stdin.flush()
        times = self._process.stdout.readline().split()
        self._process.suspend()
        return [int(each) / 1e6 for each in times]

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class TimedWorker:
    """A row's worker as `compare` opens, warms up and times it."""

    def __init__(self, row: str, artifact: Artifact, model: Model, images: Path) -> None:
        log = Path(artifact.path).parent / "worker.log"
        self._worker = Worker("rtbench.measure.sessions:SessionHost", log=log, timeout_s=300, threads=THREADS)
        self._worker.call("open", row.split("/")[0], "cpu", artifact, model, images, THREADS, False)
        self._worker.call("stage", 0)
        self._worker.call("warm_up", None)
        self._worker.pause()

    def block(self, runs: int) -> list[float]:
        self._worker.resume()
        timed = self._worker.call("time_block", runs)
        self._worker.pause()
        return (timed.durations_ns / 1e6).tolist()

    def run_mlperf(self, runs: int) -> MlPerf:
        self._worker.resume()
        measured: MlPerf = self._worker.call("run_mlperf", runs)
        self._worker.pause()
        return measured

    def close(self) -> None:
        self._worker.close()


def overhead(bench: Bench) -> Table:
    """Blocks of rtbench's and of the bare loop's process in turn, so that both meet the same machine."""
    table = Table("Overhead: rtbench over a bare loop")
    model, artifacts, images, batch = bench.rows()
    for row in ROWS:
        ratios = []
        for _ in range(PAIRS):
            loops = [TimedWorker(row, artifacts[row], model, images), BareLoop(row, artifacts[row], batch)]
            taken: tuple[list[float], list[float]] = ([], [])
            for number in range(BLOCKS):
                for which in (0, 1) if number % 2 else (1, 0):
                    taken[which].extend(loops[which].block(BLOCK_RUNS))
            for loop in loops:
                loop.close()
            ratios.append(statistics.median(taken[0]) / statistics.median(taken[1]))
        median = statistics.median(ratios)
        table.add(
            f"{row}: p50 over that of a bare loop, median of {PAIRS} pairs of processes, blocks in turn",
            f"{median:.4f} ({min(ratios):.3f} to {max(ratios):.3f})",
            "within 1 %",
            abs(median - 1) <= 0.01,
        )
    timed = latency.time_block(Nothing(), np.zeros((1, 3, 8, 8), np.float32), 101_000, latency.host_clock)
    cost = float(np.median(timed.durations_ns[1000:])) / 1000
    table.add("the harness's own time within a run, fake runtime", f"{cost:.2f} µs", "under 2 µs", cost < 2)
    return table


class Nothing(FakeSession):
    """The fake runtime without its arithmetic: what is left is the harness."""

    def __init__(self) -> None:
        super().__init__(FakeScript(latency_ms=()))
        self._logits = np.zeros((1, 10), dtype=np.float32)

    def fetch(self) -> np.ndarray:
        return self._logits


def mlperf(bench: Bench) -> Table:
    """Rounds before and after the generator's ten seconds, in the same process."""
    table = Table("Against MLPerf's load generator")
    model, artifacts, images, _ = bench.rows()
    for row in ROWS:
        ratios = []
        for _ in range(GENERATOR_PAIRS):
            worker = TimedWorker(row, artifacts[row], model, images)
            before = [each for _ in range(BLOCKS) for each in worker.block(BLOCK_RUNS)]
            generator = worker.run_mlperf(len(before))
            after = [each for _ in range(BLOCKS) for each in worker.block(BLOCK_RUNS)]
            worker.close()
            ratios.append(float(np.percentile(before + after, 90)) / generator.p90_ms)
        median = statistics.median(ratios)
        table.add(
            f"{row}: p90 over the generator's, median of {GENERATOR_PAIRS} processes that had both in turn",
            f"{median:.3f} ({min(ratios):.3f} to {max(ratios):.3f})",
            "within 3 %",
            abs(median - 1) <= 0.03,
        )
    return table


BUSY = [sys.executable, "-c", "while True: pass"]
TORCH = [
    sys.executable,
    "-c",
    "import torch\nconvolution, image = torch.nn.Conv2d(64, 64, 3, padding=1), torch.zeros(1, 64, 56, 56)\n"
    "with torch.inference_mode():\n while True: convolution(image)",
]
SOURCE = """#include <iostream>
#include <map>
#include <regex>
int main() { std::cout << std::regex_match("a", std::regex("b")); }
"""
LOADS: dict[str, tuple[list[str], int]] = {
    "one busy loop": (BUSY, 1),
    "two busy loops": (BUSY, 2),
    "a compiler": (["sh", "-c", "while true; do g++ -O2 -c source.cpp -o /dev/null; done"], 1),
    "another torch process": (TORCH, 1),
    "nothing": ([], 0),
}


@contextmanager
def load(name: str, folder: Path) -> Iterator[None]:
    """Other work on this machine, for as long as the context lasts."""
    (folder / "source.cpp").write_text(SOURCE, encoding="utf-8")
    command, count = LOADS[name]
    started = [subprocess.Popen(command, cwd=folder, start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def chain(folder: Path, layers: int) -> Path:
    """An ONNX network of `layers` equal convolutions, so that 21 are 5 % more work than 20."""
    path = folder / f"chain{layers}.onnx"
    if not path.exists():
        torch.manual_seed(layers)
        convolutions = [torch.nn.Conv2d(64, 64, 3, padding=1) for _ in range(layers)]
        network = torch.nn.Sequential(
            torch.nn.Conv2d(3, 64, 4, 4), *convolutions, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()
        )
        write_fp32(network.eval(), None, (3, 112, 112), path)
    return path


def compared(out: Path, run: Run, row: str, other: str) -> tuple[float, str]:
    """What rtbench says of two rows, of which it compares each with the fastest one only."""
    if any(each.latency and each.latency.disturbed for each in run.rows if each.id in (row, other)):
        return float("nan"), "not comparable"
    blocks = read_blocks(out)
    own, others = ({block.round: block.ms for block in blocks[each]} for each in (row, other))
    ratio, _, verdict = compare_rounds(own, others, {block.round: block.process for block in blocks[row]})
    return ratio, verdict


def differences(bench: Bench) -> Table:
    table = Table("Differences: the same artifact twice, and one with 5 % more work")
    plain, more, again = chain(bench.folder, 20), chain(bench.folder, 21), bench.folder / "again.onnx"
    shutil.copy(plain, again)
    verdicts: dict[str, list[tuple[float, str]]] = {"again": [], "chain21": []}
    repeated = 0
    for _ in range(COMPARISONS):
        out = bench.out()
        bench.rtbench("compare", plain, again, more, "--runs", "200", "--limit", "1", "--out", out)
        run = read_run(out)
        repeated += sum(block.attempt > 0 for block in every_block(out) if block.row == "chain20/ort/fp32")
        for name, found in verdicts.items():
            found.append(compared(out, run, "chain20/ort/fp32", f"{name}/ort/fp32"))
    same, slower = verdicts["again"], verdicts["chain21"]
    apart = [abs(ratio - 1) for ratio, verdict in same if verdict != "not comparable"]
    claimed = sum(verdict in ("faster", "slower") for _, verdict in same)
    found = sum(verdict == "faster" for _, verdict in slower)
    ratios = [ratio for ratio, verdict in slower if verdict != "not comparable"]
    table.add(
        f"A/A: a difference claimed, in {COMPARISONS} comparisons of 200 runs",
        f"{claimed} (apart by {statistics.median(apart):.2%}, at most {max(apart):.2%})",
        "at most 4",
        claimed <= 4,
    )
    table.add(
        f"A/B: 5 % more work found, in {COMPARISONS} comparisons of 200 runs",
        f"{found} (measured {statistics.median(ratios):.3f}x, {min(ratios):.3f} to {max(ratios):.3f})",
        "at least 36",
        found >= 36,
    )
    table.add("not comparable", f"{len(same) - len(apart)} of {COMPARISONS}", "", None)
    table.add("rounds repeated", f"{repeated} of {20 * COMPARISONS}", "", None)
    return table


def loads(bench: Bench) -> Table:
    """Speed-ups of ort/int8 over torch/fp32 beside other work; none may exclude what is measured on a quiet machine."""
    table = Table("Other work on the machine: ort/int8 over torch/fp32")
    network, small = bench.folder / "few.pt", bench.folder / "few"
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(64, 64, 3, padding=1) for _ in range(LOADED_LAYERS)]
    head = [torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    whole = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 4, 4), *layers, *head).eval()
    torch.jit.save(torch.jit.script(whole), network)
    bench.rtbench("export", network, "--trust-code", "--out", small, "--input-size", "112", "--precisions", "int8")
    found: dict[str, list[Comparison]] = {}
    for name in LOADS:
        with load(name, bench.folder):
            for _ in range(LOADED):
                run = bench.compare(
                    small,
                    *(
                        "--trust-code",
                        "--runtimes",
                        "torch,ort",
                        "--precisions",
                        "fp32,int8",
                        "--runs",
                        "40",
                        "--warmup",
                        "5",
                        "--patience",
                        "2",
                    ),
                )
                both = [each for each in run.comparisons if (each.row, each.to) == ("ort/int8", "torch/fp32")]
                found.setdefault(name, []).extend(both)
        print(name, [each.ratio for each in found[name]], file=sys.stderr, flush=True)
    quiet = statistics.median(each.ratio for each in found["nothing"])
    for name, comparisons in found.items():
        ratios = [each.ratio for each in comparisons]
        middle = f"{statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else "-"
        intervals = [each.ci95 for each in comparisons if each.ci95]
        wrong = sum(not low <= quiet <= high for low, high in intervals)
        promised = "" if name == "nothing" else "0"
        table.add(f"beside {name}: compared, and the speed-up", f"{len(ratios)} of {LOADED}: {middle}", "", None)
        table.add(
            f"beside {name}: intervals that exclude {quiet:.2f}x",
            f"{wrong} of {len(intervals)}",
            promised,
            wrong == 0 if promised else None,
        )
    return table


def isolation(bench: Bench) -> Table:
    """Each comparison with a harm beside an undisturbed one of the same minute, as `rtbench diff` sees them."""
    table = Table("Isolation: a worker that dies in the middle of a comparison of three rows")
    plain, more, victim = chain(bench.folder, 20), chain(bench.folder, 21), bench.folder / "victim.onnx"
    shutil.copy(plain, victim)
    scripted = bench.folder / "victim.fake"
    for how, harm in HARMS.items():
        if isinstance(harm, str):
            fault = {"how": harm, "after": 150}  # in the fifth block or so
            scripted.write_text(json.dumps({"latency_ms": [], "fault": fault}), encoding="utf-8")
        third = scripted if isinstance(harm, str) else victim
        for _ in range(ATTEMPTS):
            well, hurt = bench.out(), bench.out()
            compare_and_harm([plain, more, victim], well, None)
            run = compare_and_harm([plain, more, third], hurt, harm)
            found = {row.id: row for row in diff(read_side(well), read_side(hurt)).rows}
            others = [found[row] for row in ("chain20/ort/fp32", "chain21/ort/fp32")]
            if all(row.latency.ci95 for row in others):
                break
        bad = next(row for row in run.rows if row.model == "victim")
        holds, said = bad.status == "failed", []
        for row in others:
            holds &= row.latency.verdict == "no difference shown"
            low, high = row.latency.ci95 or (float("nan"), float("nan"))
            said.append(f"{row.latency.before:.3f} to {row.latency.after:.3f} ms [{low:+.1%}, {high:+.1%}]")
        reason = (bad.reason or "").partition(";")[0]
        table.add(f"it {how}: {bad.status} ({reason})", "; ".join(said), "the others' intervals hold no change", holds)
    return table


PARTS = {part.__name__: part for part in (overhead, mlperf, differences, loads, isolation)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}")
    chosen = parser.parse_args().parts or list(PARTS)
    env = read_environment(THREADS)
    packages = ", ".join(f"{name} {version}" for name, version in env.packages.items())
    print(f"# Latency, {datetime.now(timezone.utc):%Y-%m-%d}\n")
    print(f"{env.cpu}, {env.cores} cores, {env.memory_mib // 1024} GiB, no GPU; Python {env.python}; {packages}.")
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(Path(scratch))
        for name in chosen:
            PARTS[name](bench).show()


if __name__ == "__main__":
    main()
