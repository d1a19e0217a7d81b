"""An interrupted comparison taken up again: what was measured is kept, and nothing else may have changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rtbench.compare.plan import PlannedRow
from rtbench.errors import UsageError
from rtbench.measure.rounds import Schedule
from rtbench.options import Sampling
from rtbench.records.run import Row, Run
from rtbench.runs.directory import RunDirectory

INTERRUPTED = "interrupted before it was measured"
COMPARABLE = ("cpu", "cpu_details", "cores", "threads", "gpu")
"""What must be the same, besides packages, before and after an interruption for samples to be one row's."""


def take_up(kept: Run, run: Run, rows: Sequence[PlannedRow], sampling: Sampling, directory: RunDirectory) -> Run:
    """`run` as the continuation of `kept`, and its rows with what they had measured.

    Predictions stay in the run directory, where the accuracy pass counts them. A row that had failed stays
    as it ended. UsageError, in one sentence, where something is not as it was.
    """
    _require_same(kept, run, directory.path)
    for row, before in zip(rows, kept.rows, strict=True):
        if before.status in ("failed", "invalid") and before.reason != INTERRUPTED:
            row.record = before
            continue
        row.update(fidelity=before.fidelity, mlperf=before.mlperf)
        if before.latency:
            row.warmup_runs, row.settled = before.latency.warmup_runs, before.latency.settled
        row.batch_size = before.accuracy.batch_size if before.accuracy else 1
    take_blocks([row for row in rows if row.live], sampling, directory)
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return run.model_copy(update={"created": kept.created, "command": kept.command, "resumed": [*kept.resumed, now]})


def take_blocks(rows: Sequence[PlannedRow], sampling: Sampling, directory: RunDirectory) -> None:
    """Give rows the samples that the run directory has of them, which is all there is however an interrupt fell."""
    schedule = Schedule(sampling.planned_runs, sampling.planned_processes)
    samples = directory.take_samples(lambda number: schedule.round(number).runs)
    for row in rows:
        row.blocks = samples.get(row.id, {})


def _require_same(kept: Run, run: Run, path: Path) -> None:
    def require(what: str, now: Any, then: Any) -> None:
        if now != then:
            raise UsageError(f"{what} {now}, and {then} when {path} was started", "start a new run")

    for name in COMPARABLE:
        require(f"{name} is", getattr(run.environment, name), getattr(kept.environment, name))
    for package in sorted(run.environment.packages.keys() | kept.environment.packages.keys()):
        now, then = (each.environment.packages.get(package, "absent") for each in (run, kept))
        require(f"package {package} is", now, then)
    for model, before in zip(run.models, kept.models, strict=False):
        if model.sha256 != before.sha256:
            raise UsageError(f"{model.source} is not the model that {path} was started with", "start a new run")
        require(f"the preprocessing of {model.name} is", model.preprocessing, before.preprocessing)
    data, before_data = (each.dataset.fingerprint if each.dataset else None for each in (run, kept))
    if data != before_data:
        raise UsageError(f"the images are not those that {path} was started with", "start a new run")
    require("the rows are", [row.id for row in run.rows], [row.id for row in kept.rows])
    for row, old in zip(run.rows, kept.rows, strict=True):
        if old.artifact and _sha256(row) != _sha256(old):
            raise UsageError(f"the artifact of {row.id} is not the one that {path} was started with", "start a new run")


def _sha256(row: Row) -> str | None:
    return row.artifact.sha256 if row.artifact else None
