"""The timing of a comparison's rows, side by side: warm-up, rounds until there are enough, MLPerf."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rtbench import stats
from rtbench.compare.plan import PlannedRow
from rtbench.compare.prepared import Progress
from rtbench.errors import WorkerFailed
from rtbench.measure import latency
from rtbench.measure.conditions import Monitor, disturbances
from rtbench.options import Sampling
from rtbench.records.measurement import Comparison, Conditions, MlPerf
from rtbench.records.run import Environment, Row
from rtbench.runs.directory import RunDirectory
from rtbench.worker import Worker


@dataclass
class Timing:
    """Times rows; every row's samples are kept in it as they come, and its last worker stays open, paused.

    `open_row` opens a row's artifact in a fresh process in place of the one before; `yardstick` is a worker that
    hosts a Yardstick. What becomes of that is no row's misfortune: rounds are then without it.
    """

    rows: Sequence[PlannedRow]
    sampling: Sampling
    directory: RunDirectory
    monitor: Monitor
    progress: Progress
    open_row: Callable[[PlannedRow], None]
    yardstick: Worker | None

    def run(self) -> None:
        self._began = latency.host_clock()
        self._process: dict[str, int] = {}
        by_id = {row.id: row for row in self.rows}

        def time_row(row_id: str, runs: int) -> latency.Timed | None:
            return self._time_block(by_id[row_id], runs)

        target, most = self.sampling.target_ci, self.sampling.max_time_s
        kept = {(row.id, number) for row in self.rows for number in row.blocks}
        done = sum(row.timed_runs for row in self.rows)
        for block in latency.measure_rounds(list(by_id), self._rounds(), time_row, kept=kept):
            by_id[block.row].blocks[block.round] = block
            self.directory.append_samples(block)
            done += len(block.durations_ns)
            if target is None:
                self.progress("latency", done, self.sampling.planned_runs * len(self.rows))
            else:
                self.progress("latency (seconds at most)", int(self._seconds()), int(most))
        for row in self._live():
            if target is not None and not self._narrow(row):
                row.warn(f"interval is wider than {100 * target:g}% after {most:g} s: raise --max-time")
            if self.sampling.scenario and row.record.mlperf is None:
                row.attempt(self._run_mlperf)

    def _rounds(self) -> Iterator[latency.Round]:
        """Those planned, and with a target more, until it is reached at the end of a process; before each, the
        rows' processes are those that it is timed in."""
        schedule, before = latency.Schedule(self.sampling.planned_runs, self.sampling.processes), 0
        for number in itertools.count():
            coming = schedule.round(number)
            if number >= len(schedule.sizes):
                whole = coming.process != before or coming.process == 0
                if self._is_enough(whole=whole):
                    return
            for row in self._live():
                if number not in row.blocks and self._process.get(row.id) != coming.process:
                    row.attempt(self.open_row)
                    row.attempt(self._warm_up)
                    self._process[row.id] = coming.process
            before = coming.process
            if any(number not in row.blocks for row in self._live()):
                coming = coming._replace(yardstick_ms=self._measure_yardstick())
            yield coming

    def _measure_yardstick(self) -> float:
        if self.yardstick is None:
            return float("nan")
        try:
            self.yardstick.resume()
            took: float = self.yardstick.call("measure")
            self.yardstick.pause()
        except WorkerFailed:
            self.yardstick = None
            return float("nan")
        return took

    def _is_enough(self, *, whole: bool) -> bool:
        """Whether the runs planned are; `whole` where the last process has had all of its rounds."""
        if self.sampling.target_ci is None or self._seconds() >= self.sampling.max_time_s:
            return True
        return whole and all(self._narrow(row) for row in self._live())

    def _seconds(self) -> float:
        return (latency.host_clock() - self._began) / 1e9

    def _live(self) -> list[PlannedRow]:
        return [row for row in self.rows if row.live]

    def _warm_up(self, row: PlannedRow) -> None:
        worker = row.running
        worker.call("stage", row.prepared.fidelity_indices[0])
        runs, settled = worker.call("warm_up", self.sampling.warmup)
        row.warmup_runs = max(row.warmup_runs, runs)
        row.settled = settled if row.settled is None or settled is None else row.settled and settled
        worker.pause()

    def _time_block(self, row: PlannedRow, runs: int) -> latency.Timed | None:
        timed: list[latency.Timed] = []

        def step(row: PlannedRow) -> None:
            worker = row.running
            worker.resume()
            before = self.monitor.read(worker.pid)
            timed.append(worker.call("time_block", latency.LEAD_RUNS, runs))
            row.observed.add(before, self.monitor.read(worker.pid))
            self.monitor.look(row.observed, worker.pid)
            worker.pause()

        row.attempt(step)
        return timed[0] if timed else None

    def _narrow(self, row: PlannedRow) -> bool:
        interval = stats.mean_interval(*_rounds_and_processes(row))
        target = self.sampling.target_ci
        if interval is None or target is None:
            return False
        low, high = interval
        return (high - low) / 2 <= target * (high + low) / 2

    def _run_mlperf(self, row: PlannedRow) -> None:
        self.progress(f"MLPerf's load generator on {row.id}", 0, 1)
        if row.worker is None:
            self.open_row(row)
            self._warm_up(row)
        worker = row.running
        worker.resume()
        measured: MlPerf = worker.call("run_mlperf", self.sampling.planned_runs)
        row.update(mlperf=measured)
        worker.pause()


def _rounds_and_processes(row: PlannedRow) -> tuple[list[NDArray[np.float64]], list[int]]:
    blocks = row.blocks.values()
    return [block.ms for block in blocks], [block.process for block in blocks]


def summarise(row: PlannedRow, environment: Environment) -> None:
    """Put what was sampled of a row into its record."""
    took = [block.yardstick_ms for block in row.blocks.values() if not np.isnan(block.yardstick_ms)]
    yardstick = (float(np.quantile(took, 0.1)), float(np.quantile(took, 0.9))) if took else None
    conditions = row.observed.record().model_copy(update={"yardstick_ms": yardstick})
    row.update(
        conditions=conditions,
        latency=stats.summarise_latency(
            *_rounds_and_processes(row),
            device_rounds=[block.device_ms for block in row.blocks.values()],
            warmup_runs=row.warmup_runs,
            settled=row.settled,
            disturbances=_disturbances(conditions, environment),
        ),
    )


def compare_latencies(
    rows: Sequence[PlannedRow], environment: Environment, reference_for: Callable[[Row], Row | None]
) -> tuple[list[Comparison], set[str]]:
    """Each row with its `reference_for` and with the fastest row; and the ids of those that lead."""
    timed = {row.id: row for row in rows if row.record.status == "ok" and row.record.latency}
    if not timed:
        return [], set()
    leader = min(timed.values(), key=lambda row: row.record.latency.p50_ms if row.record.latency else 0.0)
    comparisons, lead = [], {leader.id}
    for row in timed.values():
        reference = reference_for(row.record)
        others = {reference.id} if reference else set()
        for other in sorted((others | {leader.id}) - {row.id}):
            comparison = _compare(row, timed[other], environment)
            comparisons.append(comparison)
            if other == leader.id and comparison.verdict != "slower":
                lead.add(row.id)
    return comparisons, lead


def _compare(row: PlannedRow, other: PlannedRow, environment: Environment) -> Comparison:
    own, theirs = ({block.round: block.ms for block in each.blocks.values()} for each in (row, other))
    processes = {block.round: block.process for block in row.blocks.values()}
    disturbed = any(_disturbances(each.observed.record(), environment) for each in (row, other))
    quantile = stats.DISTURBED_QUANTILE if disturbed else 0.5
    ratio, interval, verdict = stats.compare_rounds(own, theirs, processes, quantile)
    return Comparison(row=row.id, to=other.id, ratio=ratio, ci95=interval, quantile=quantile, verdict=verdict)


def _disturbances(conditions: Conditions, environment: Environment) -> list[str]:
    return disturbances(conditions, cores=environment.cores, threads=environment.threads)
