"""The timing of a comparison's rows, side by side: warm-up, rounds until there are enough, MLPerf."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from rtbench import stats
from rtbench.compare.opening import Opening
from rtbench.compare.patience import Patience
from rtbench.compare.plan import PlannedRow
from rtbench.compare.prepared import Progress
from rtbench.measure import latency
from rtbench.measure.conditions import Judge, Seen, summarise_conditions
from rtbench.measure.monitor import Monitor
from rtbench.measure.rounds import Round, Schedule, disturbed_rounds, measure_rounds, undisturbed
from rtbench.measure.summary import summarise_latency
from rtbench.options import Sampling
from rtbench.records.measurement import Comparison, MlPerf
from rtbench.records.run import Row
from rtbench.runs.directory import RunDirectory


@dataclass
class Timing:
    """Times rows; every row's samples are kept in it as they come, and its last worker stays open, paused.

    `opening` starts fresh processes in place of those before, and `open_row` opens a row's artifact in its own. A round
    in which something else used the machine is timed again, once the machine is calm, while there is patience left.
    """

    rows: Sequence[PlannedRow]
    sampling: Sampling
    directory: RunDirectory
    monitor: Monitor
    judge: Judge
    progress: Progress
    opening: Opening
    open_row: Callable[[PlannedRow], None]

    def run(self) -> None:
        self._began = latency.host_clock()
        self._process: dict[str, int] = {}
        self._patience = Patience(self.sampling.patience_s, self.monitor, self.judge, self.progress)
        self._seen: Seen | None = None
        if any(row.choice.runtime.name != "fake" for row in self.rows):
            self._patience.wait()
        by_id = {row.id: row for row in self.rows}

        def time_row(row_id: str, runs: int) -> latency.Timed | None:
            return self._time_block(by_id[row_id], runs)

        kept = {(row.id, block.round, block.attempt) for row in self.rows for block in row.blocks.values()}
        for block in measure_rounds(list(by_id), self._rounds(), time_row, kept=kept):
            assert self._seen
            row = by_id[block.row]
            disturbed = "" if row.scripted else self.judge.disturbance(self._seen)
            block = row.blocks[block.round] = replace(block, seen=self._seen, disturbed=disturbed)
            self.directory.append_samples(block)
            self._report()
        target, most = self.sampling.target_ci, self.sampling.max_time_s
        for row in self._live():
            if target is not None and not self._narrow(row):
                row.warn(f"interval is wider than {100 * target:g}% after {most:g} s: raise --max-time")
            if self.monitor.hidden and not row.scripted:
                row.warn(f"this machine hides {' and '.join(self.monitor.hidden)}: others may disturb unnoticed")
            if self.sampling.scenario and row.record.mlperf is None:
                row.attempt(self._run_mlperf)

    def _report(self) -> None:
        if self.sampling.target_ci is None:
            done = sum(row.timed_runs for row in self.rows)
            self.progress("latency", done, self.sampling.planned_runs * len(self.rows))
        else:
            self.progress("latency (seconds at most)", int(self._seconds()), int(self.sampling.max_time_s))

    def _rounds(self) -> Iterator[Round]:
        """Those planned, and with a target more, until it is reached at the end of a process; each again where it was
        disturbed. Before each, the rows' processes are those that it is timed in."""
        schedule, before = Schedule(self.sampling.planned_runs, self.sampling.planned_processes), 0
        for number in itertools.count():
            coming = schedule.round(number)
            if number >= len(schedule.sizes):
                whole = coming.process != before or coming.process == 0
                if self._is_enough(whole=whole):
                    return
            self._open(coming.process, [row for row in self._live() if number not in row.blocks])
            before = coming.process
            kept = [row.blocks[number].attempt for row in self._live() if number in row.blocks]
            if len(kept) == len(self._live()):
                continue  # before an interruption
            coming = coming._replace(attempt=max(kept, default=0))
            yield coming
            while self._may_repeat(number):
                self._open(coming.process, self._live())
                coming = coming._replace(attempt=coming.attempt + 1)
                start = latency.host_clock()
                yield coming
                self._patience.spend((latency.host_clock() - start) / 1e9)

    def _open(self, process: int, rows: Sequence[PlannedRow]) -> None:
        """See that these rows are open in their process of that number."""
        fresh = [row for row in rows if self._process.get(row.id) != process]
        first = not self._process

        def report(done: int) -> None:
            if first:
                self.progress("start processes", done, len(fresh))

        report(0)
        for row in fresh:  # which import side by side; loading is timed, so it is not
            row.attempt(self.opening.begin)
        for done, row in enumerate(fresh, start=1):
            row.attempt(self.opening.await_ready)
            report(done)
        for row in fresh:
            row.attempt(self.open_row)
            row.attempt(self._warm_up)
            self._process[row.id] = process

    def _may_repeat(self, number: int) -> bool:
        """Whether a round was disturbed by what may pass, and has; a container's own limit does not pass."""
        by = {row.blocks[number].disturbed for row in self._live() if number in row.blocks} - {""}
        return bool(by - {"throttled"}) and self._patience.wait()

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
            lead = self.monitor.sample_lead
            timed.append(worker.call("time_block", runs, on_progress=lead))
            self._seen = self.monitor.since(before, worker.pid)
            worker.pause()

        row.attempt(step)
        return timed[0] if timed else None

    def _narrow(self, row: PlannedRow) -> bool:
        blocks = undisturbed(list(row.blocks.values()), _disturbed(self.rows)) or list(row.blocks.values())
        interval = stats.mean_interval([block.ms for block in blocks], [block.process for block in blocks])
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


def _disturbed(rows: Sequence[PlannedRow]) -> set[int]:
    return disturbed_rounds(block for row in rows for block in row.blocks.values())


def summarise(rows: Sequence[PlannedRow], judge: Judge) -> None:
    """Put what was sampled of the rows into their records: figures of the rounds that nothing disturbed, or where
    those are too few, of all of them, flagged."""
    bad = _disturbed(rows)
    for row in rows:
        every = list(row.blocks.values())
        if not every:
            continue
        counted = undisturbed(every, bad)
        blocks = every if counted is None else counted
        conditions = summarise_conditions([block.seen for block in blocks if block.seen])
        left_out = sum(block.round in bad for block in every)
        why, remedy = judge.explain(conditions) if counted is None else (None, "")
        figures = summarise_latency(
            [block.ms for block in blocks],
            [block.process for block in blocks],
            device_rounds=[block.device_ms for block in blocks],
            warmup_runs=row.warmup_runs,
            settled=row.settled,
            disturbances=[f"{why} in {left_out} of {len(every)} rounds: {remedy}"] if why else [],
        )
        row.update(
            conditions=conditions,
            latency=figures.model_copy(update={"disturbed_rounds": left_out, "disturbed": why}),
        )


def compare_latencies(
    rows: Sequence[PlannedRow], references_for: Callable[[Row], Sequence[Row | None]]
) -> tuple[list[Comparison], set[str]]:
    """Each row with its `references_for` and with the fastest row; and the ids of those that lead.

    Rows that were disturbed too often are compared with nothing, and lead nothing.
    """
    timed = {row.id: row for row in rows if not _incomparable(row)}
    if not timed:
        return [], set()
    leader = min(timed.values(), key=lambda row: row.record.latency.p50_ms if row.record.latency else 0.0)
    comparisons, lead = [], {leader.id}
    for row in timed.values():
        others = {each.id for each in references_for(row.record) if each and each.id in timed}
        for other in sorted((others | {leader.id}) - {row.id}):
            comparison, _ = compare_pair(row, timed[other], rows)
            assert comparison
            comparisons.append(comparison)
            if other == leader.id and comparison.verdict != "slower":
                lead.add(row.id)
    return comparisons, lead


def compare_pair(
    row: PlannedRow, other: PlannedRow, rows: Sequence[PlannedRow]
) -> tuple[Comparison | None, str | None]:
    """Two of the `rows` that were timed together, round by round, or why they cannot be compared."""
    reason = _incomparable(row) or _incomparable(other)
    if reason:
        return None, reason
    bad = _disturbed(rows)
    own, theirs = (undisturbed(list(each.blocks.values()), bad) or [] for each in (row, other))
    ratio, interval, verdict = stats.compare_rounds(
        {block.round: block.ms for block in own},
        {block.round: block.ms for block in theirs},
        {block.round: block.process for block in own},
    )
    return Comparison(row=row.id, to=other.id, ratio=ratio, ci95=interval, verdict=verdict), None


def _incomparable(row: PlannedRow) -> str | None:
    record = row.record
    if record.status != "ok":
        return f"{record.status}: {record.reason}"
    return record.latency.disturbed if record.latency else "not measured"
