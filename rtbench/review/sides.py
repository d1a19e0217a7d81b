"""One side of a diff: a run, or repeats of one, with its raw samples and predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtbench.errors import UsageError, counted
from rtbench.records.run import Row, Run
from rtbench.review.spread import Estimate, Parts, log_median
from rtbench.runs.predictions import read_right
from rtbench.runs.reading import exists, is_folder
from rtbench.runs.result import RESULT, read_run
from rtbench.runs.samples import Durations, read_durations
from rtbench.stats import LEAST_PROCESSES


@dataclass(frozen=True)
class Side:
    """The runs on one side of a diff: one, or several repeats of the same thing; figures are of the last."""

    path: Path
    runs: Sequence[Run]
    medians: Sequence[Mapping[str, Estimate]]
    """By run and row, of the raw samples."""
    right: Mapping[str, Mapping[str, bool]]
    """By row and image of the last run, whether it was answered rightly."""

    @property
    def run(self) -> Run:
        return self.runs[-1]

    def row(self, row_id: str) -> Row | None:
        return next((row for row in self.run.rows if row.id == row_id), None)

    def measured(self, row_id: str) -> list[Estimate]:
        """The row's median in each run in which it ended well."""
        return [
            medians[row_id]
            for run, medians in zip(self.runs, self.medians, strict=True)
            if row_id in medians and any(row.id == row_id and row.status == "ok" for row in run.rows)
        ]


def read_side(path: Path) -> Side:
    """A run directory, or a folder of them that are repeats of one another."""
    folders = [path]
    if is_folder(path) and not exists(path / RESULT):
        folders = sorted((found.parent for found in path.glob(f"*/{RESULT}")), key=lambda each: each.name) or [path]
    runs = [read_run(folder) for folder in folders]
    for folder, run in zip(folders, runs, strict=True):
        reason = other_machine(runs[-1], run)
        if reason:
            raise UsageError(f"the runs in {path} are not repeats: {folder.name} has {reason}", "name one run")
    homes = [folder if is_folder(folder) else folder.parent for folder in folders]
    right = read_right(homes[-1], [row.id for row in runs[-1].rows])
    return Side(path, runs, [_read_medians(home) for home in homes], right)


def _read_medians(folder: Path) -> dict[str, Estimate]:
    return {row: log_median(_parts(found)) for row, found in read_durations(folder).items()}


def _parts(found: Durations) -> Parts:
    """Milliseconds by process or where there are few by round."""
    names = np.unique(found.process)
    if len(names) < LEAST_PROCESSES:
        return np.split(found.ms, np.flatnonzero(np.diff(found.block)) + 1)
    return [found.ms[found.process == name] for name in names]


def other_machine(before: Run, after: Run) -> str | None:
    """Why latencies of these runs are not of one machine, None where they are."""
    old, new = before.environment, after.environment
    gpus = tuple(env.gpu.name if env.gpu else "no GPU" for env in (old, new))
    if old.cpu == new.cpu and old.cpu_details != new.cpu_details:
        return f"other hardware: {new.cpu_details or 'not known which CPU'}; was {old.cpu_details or 'not known'}"
    if (old.cpu, old.cores, gpus[0]) != (new.cpu, new.cores, gpus[1]):
        now, was = (f"{env.cpu}, {counted(env.cores, 'core')}, {gpu}" for env, gpu in ((new, gpus[1]), (old, gpus[0])))
        return f"other hardware: {now}; was {was}"
    if old.threads != new.threads:
        return f"other threads: {new.threads}, was {old.threads}"
    return None
