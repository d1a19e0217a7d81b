"""All runs under a folder, over time: what each row measured, and where it changed from the run before."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from rtbench.errors import UsageError
from rtbench.records import Record
from rtbench.records.run import Row, Run
from rtbench.review.diff import FIGURES, Diff, Figure, diff
from rtbench.review.sides import read_side
from rtbench.review.spread import STATISTICS
from rtbench.runs.result import RESULT, read_run
from rtbench.runs.samples import SAMPLES
from rtbench.terms import Status

INDEX = ".rtbench-history.sqlite"
"""Diffs that were computed before, beside the runs; made again where it is missing."""


class Point(Record):
    """A row of a run. `change` has the share, or for accuracy the difference, where one is shown to be real."""

    run: str
    created: str
    model: str
    row: str
    machine: str
    status: Status
    p50_ms: float | None
    top1: float | None
    size_mib: float | None
    change: dict[Figure, float]
    better: dict[Figure, bool]


class History(Record):
    folder: str
    points: list[Point]
    """In the order of time, and of the rows within a run."""
    skipped: list[str]
    """A sentence for each result that could not be read."""


def history(folder: Path) -> History:
    """Read every run under `folder`; each is compared with the last one before it of the same models, threads
    and hardware. UsageError where there is none."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", "name the folder of your run directories")
    runs: list[tuple[Path, Run]] = []
    skipped = []
    for file in sorted(folder.rglob(RESULT)):
        try:
            runs.append((file.parent, read_run(file)))
        except UsageError as error:
            skipped.append(str(error))
    if not runs and not skipped:
        raise UsageError(f"there are no runs under {folder}", "name the folder of your run directories")
    runs.sort(key=lambda each: (each[1].created, each[0]))
    before: dict[tuple[str, ...], Path] = {}
    points: list[Point] = []
    with _index(folder) as index:
        for path, run in runs:
            key = (machine(run), *(model.name for model in run.models))
            change = _diff(index, folder, before[key], path) if key in before else None
            points += [_point(path.relative_to(folder), run, row, change) for row in run.rows]
            before[key] = path
    return History(folder=str(folder), points=points, skipped=skipped)


def machine(run: Run) -> str:
    """What must be the same for latencies to be compared."""
    env = run.environment
    threads = "1 thread" if env.threads == 1 else f"{env.threads} threads"
    return f"{env.gpu.name if env.gpu else env.cpu_details or env.cpu}, {env.cores} cores, {threads}"


def _point(path: Path, run: Run, row: Row, found: Diff | None) -> Point:
    changed = next((each for each in found.rows if each.id == row.id), None) if found else None
    changes = {figure: getattr(changed, figure) for figure in FIGURES} if changed else {}
    real = {figure: change for figure, change in changes.items() if change.verdict in ("better", "worse")}
    return Point(
        run=str(path),
        created=run.created,
        model=row.model,
        row=row.id,
        machine=machine(run),
        status=row.status,
        p50_ms=row.latency.p50_ms if row.latency else None,
        top1=row.accuracy.top1 if row.accuracy else None,
        size_mib=row.artifact.size_bytes / 2**20 if row.artifact else None,
        change={figure: change.change for figure, change in real.items()},
        better={figure: change.verdict == "better" for figure, change in real.items()},
    )


@contextlib.contextmanager
def _index(folder: Path) -> Iterator[sqlite3.Connection]:
    """The index of `folder`, in memory where it cannot be written or is damaged."""
    columns = "(before TEXT, after TEXT, version TEXT, diff TEXT, PRIMARY KEY (before, after))"
    try:
        connection = sqlite3.connect(folder / INDEX)
        connection.execute(f"CREATE TABLE IF NOT EXISTS diffs {columns}")
        connection.execute("SELECT before, after, version, diff FROM diffs LIMIT 1")
        connection.commit()
    except sqlite3.Error:
        connection = sqlite3.connect(":memory:")
        connection.execute(f"CREATE TABLE diffs {columns}")
    with contextlib.closing(connection):
        yield connection
        with contextlib.suppress(sqlite3.OperationalError):  # another history writes the same just now
            connection.commit()


def _diff(index: sqlite3.Connection, folder: Path, before: Path, after: Path) -> Diff:
    """The diff of two runs, from the index where neither has changed since, nor the statistics."""
    key = str(before.relative_to(folder)), str(after.relative_to(folder))
    version = " ".join([STATISTICS, *(_stamp(path) for path in (before, after))])
    kept = index.execute("SELECT version, diff FROM diffs WHERE before = ? AND after = ?", key).fetchone()
    if kept and kept[0] == version:
        return Diff.model_validate_json(kept[1])
    found = diff(read_side(before), read_side(after))
    with contextlib.suppress(sqlite3.OperationalError):
        index.execute("REPLACE INTO diffs VALUES (?, ?, ?, ?)", (*key, version, found.model_dump_json()))
    return found


def _stamp(path: Path) -> str:
    files = [path / name for name in (RESULT, SAMPLES)]
    return ",".join(f"{file.stat().st_mtime_ns}:{file.stat().st_size}" for file in files if file.exists())
