"""Pure inference of a run's rows: inputs ready in memory, nothing else done, each row alone in its process; by itself,
or second by second beside a comparison.

python benchmarks/inference.py RUN ROW      # seconds for as many images as each line of the input says
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from rtbench.measure.accuracy import CPU_BATCH
from rtbench.measure.environment import available_cores
from rtbench.runs.csv_lines import file_name
from rtbench.runs.result import read_run
from rtbench.runtimes import load_runtime

PAUSE_EVERY_S, SLICE_S = 3.0, 1.0


class PureInference:
    """One row's process, paused but while it is asked."""

    def __init__(self, run: Path, row: str, cwd: Path) -> None:
        self._process = psutil.Popen(
            [sys.executable, __file__, run, row],
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._process.stdout.readline()
        self._process.suspend()

    def seconds(self, images: int) -> float:
        """Seconds an image, over about so many of them."""
        self._process.resume()
        self._process.stdin.write(f"{images}\n")
        self._process.stdin.flush()
        answer = float(self._process.stdout.readline())
        self._process.suspend()
        return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass
class Taken:
    """The seconds of a comparison, pauses left out, and of each row seconds an image in slices of pure inference."""

    seconds: float
    slices: dict[str, list[float]]


def interrupted(out: Path, alone: dict[str, PureInference], command: Sequence[str | Path], cwd: Path) -> Taken:
    """A comparison that is paused every few seconds for a second of pure inference of the row that it is evaluating:
    the speed of a virtual machine changes by a quarter in minutes, and both must meet the same one."""
    process = psutil.Popen([sys.executable, "-m", "rtbench", "--quiet", *command], cwd=cwd, stdout=subprocess.DEVNULL)
    start, paused = time.perf_counter(), 0.0
    slices: dict[str, list[float]] = {row: [] for row in alone}
    grown: dict[str, int] = {}
    while process.poll() is None:
        with suppress(psutil.TimeoutExpired):
            process.wait(PAUSE_EVERY_S)
        sizes = {row: path.stat().st_size for row in alone if (path := out / f"{file_name(row)}.csv").exists()}
        growing = [row for row in sizes if sizes[row] > grown.get(row, 0)]
        grown = sizes
        if growing and process.poll() is None:
            began = time.perf_counter()
            with stopped(process):
                row = growing[-1]
                once = slices[row][-1] if slices[row] else alone[row].seconds(50)
                slices[row].append(alone[row].seconds(max(1, round(SLICE_S / once))))
            paused += time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"rtbench {' '.join(map(str, command))} failed")
    return Taken(time.perf_counter() - start - paused, slices)


@contextmanager
def stopped(process: psutil.Process) -> Iterator[None]:
    """Without the process and what it has started; those that it keeps paused itself stay so afterwards."""
    process.suspend()
    running = [each for each in process.children(recursive=True) if each.status() != psutil.STATUS_STOPPED]
    for each in running:
        each.suspend()
    yield
    for each in [*running, process]:
        each.resume()


def main() -> None:
    folder, row_id = Path(sys.argv[1]), sys.argv[2]
    run = read_run(folder)
    row = next(row for row in run.rows if row.id == row_id)
    assert row.artifact
    size, shape = CPU_BATCH[row.runtime], run.models[0].preprocessing.input_shape
    session = load_runtime(row.runtime).open_session(row.artifact, run.models[0], "cpu", available_cores(), False)
    inputs = np.random.default_rng(0).standard_normal((4, size, *shape), dtype=np.float32)

    def infer(batch: np.ndarray) -> None:
        session.bind(batch)
        session.run()
        session.fetch()

    for batch in inputs:
        infer(batch)
    print(flush=True)
    for line in sys.stdin:
        batches = -(-int(line) // size)
        infer(inputs[0])  # wakes the runtime's threads
        start = time.perf_counter()
        for number in range(batches):
            infer(inputs[number % len(inputs)])
        print((time.perf_counter() - start) / (batches * size), flush=True)


if __name__ == "__main__":
    main()
