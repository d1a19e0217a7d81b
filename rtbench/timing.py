"""The timing of a comparison's rows, side by side: warm-up, rounds until there are enough, MLPerf."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rtbench import latency, stats
from rtbench.conditions import Monitor, disturbances
from rtbench.plan import PlannedRow, Sampling
from rtbench.prepare import Progress
from rtbench.records import Comparison, Environment, MlPerf, Row
from rtbench.runs import RunDirectory


@dataclass
class Timing:
    """Times rows whose workers are open; every row's samples are kept in it as they come."""

    rows: Sequence[PlannedRow]
    sampling: Sampling
    directory: RunDirectory
    monitor: Monitor
    progress: Progress

    def run(self) -> None:
        for row in self.rows:
            row.attempt(self._warm_up)
        live = [row for row in self.rows if row.live]
        by_id = {row.id: row for row in live}
        began = latency.host_clock()

        def seconds() -> float:
            return (latency.host_clock() - began) / 1e9

        def enough() -> bool:
            return seconds() >= self.sampling.max_time_s or all(self._narrow(row) for row in live if row.live)

        def time_row(row_id: str, runs: int) -> latency.Timed | None:
            return self._time_block(by_id[row_id], runs)

        sizes: Iterable[int]
        if self.sampling.target_ci is None:
            sizes = latency.block_sizes(self.sampling.runs)
        else:
            sizes = latency.until(enough, self.sampling.runs)
        kept = {(row.id, number) for row in live for number in row.rounds}
        done = sum(len(samples) for row in live for samples in row.rounds.values())
        for block in latency.measure_rounds(list(by_id), sizes, time_row, kept=kept):
            by_id[block.row].rounds[block.round] = block.durations_ns / 1e6
            by_id[block.row].device_rounds[block.round] = block.device_ms
            self.directory.append_samples(block)
            done += len(block.durations_ns)
            if self.sampling.target_ci is None:
                self.progress("latency", done, self.sampling.runs * len(live))
            else:
                self.progress("latency (seconds at most)", int(seconds()), int(self.sampling.max_time_s))
        for row in live:
            if self.sampling.target_ci is not None and row.live and not self._narrow(row):
                words = (
                    f"interval is wider than {100 * self.sampling.target_ci:g}% after {self.sampling.max_time_s:g} s"
                )
                row.update(warnings=[*row.record.warnings, f"{words}: raise --max-time"])
        if self.sampling.scenario:
            for row in live:
                if row.record.mlperf is None:
                    row.attempt(self._run_mlperf)

    def _warm_up(self, row: PlannedRow) -> None:
        worker = row.running
        worker.call("stage", row.prepared.fidelity_indices[0])
        row.warmup_runs, row.settled = worker.call("warm_up", self.sampling.warmup)
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
        interval = stats.mean_interval(list(row.rounds.values()))
        target = self.sampling.target_ci
        if interval is None or target is None:
            return False
        low, high = interval
        return (high - low) / 2 <= target * (high + low) / 2

    def _run_mlperf(self, row: PlannedRow) -> None:
        self.progress(f"MLPerf's load generator on {row.id}", 0, 1)
        worker = row.running
        worker.resume()
        measured: MlPerf = worker.call("run_mlperf", self.sampling.runs)
        row.update(mlperf=measured)
        worker.pause()


def summarise(row: PlannedRow, environment: Environment) -> None:
    """Put what was sampled of a row into its record."""
    conditions = row.observed.record()
    row.update(
        conditions=conditions,
        latency=stats.summarise_latency(
            list(row.rounds.values()),
            list(row.device_rounds.values()),
            warmup_runs=row.warmup_runs,
            settled=row.settled,
            disturbances=disturbances(conditions, cores=environment.cores, threads=environment.threads),
        ),
    )


def compare_latencies(
    rows: Sequence[PlannedRow], reference_for: Callable[[Row], Row | None]
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
            ratio, interval, verdict = stats.compare_rounds(row.rounds, timed[other].rounds)
            comparisons.append(Comparison(row=row.id, to=other, ratio=ratio, ci95=interval, verdict=verdict))
            if other == leader.id and verdict != "slower":
                lead.add(row.id)
    return comparisons, lead
