"""All runs under a folder, over time: what each row measured, and where it changed from the run before."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from rtbench.artifacts import write_text
from rtbench.errors import UsageError
from rtbench.records import Record
from rtbench.records.run import Row, Run
from rtbench.review.diff import FIGURES, Diff, Figure, diff
from rtbench.review.sides import read_side
from rtbench.review.spread import STATISTICS
from rtbench.runs.reading import is_folder
from rtbench.runs.result import RESULT, read_run
from rtbench.runs.samples import SAMPLES
from rtbench.terms import Status

INDEX = ".rtbench-history.json"
"""What was read and computed before, beside the runs, after its own hash; made again where it is missing or damaged."""


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


class _Kept(Record):
    """What the index keeps of a run."""

    stamp: str
    """Of its files."""
    created: str
    like: tuple[str, ...]
    """What runs must share to be compared: hardware, threads and models."""
    compared: str | None = None
    """With which run, in which state, by which statistics; empty without one, None before."""
    points: list[Point]


class _Index(Record):
    runs: dict[str, _Kept]
    """By their path below the folder."""


def history(folder: Path) -> History:
    """Read every run under `folder`; each is compared with the last one before it of the same models, threads
    and hardware. UsageError where there is none."""
    if not is_folder(folder):
        raise UsageError(f"{folder} is not a folder", "name the folder of your run directories")
    kept = _read_index(folder / INDEX)
    runs: dict[str, _Kept] = {}
    skipped: list[str] = []
    paths = {_name(path.relative_to(folder)): path for path in _run_folders(folder)}
    for name, path in paths.items():
        stamp = _stamp(path)
        try:
            runs[name] = kept[name] if name in kept and kept[name].stamp == stamp else _read(name, path, stamp)
        except UsageError as error:
            skipped.append(str(error))
    if not paths:
        raise UsageError(f"there are no runs under {folder}", "name the folder of your run directories")
    order = sorted(runs, key=lambda name: (runs[name].created, paths[name]))
    alike: dict[tuple[str, ...], list[str]] = {}
    for name in order:
        alike.setdefault(runs[name].like, []).append(name)
    for names in alike.values():
        _compare(names, runs, paths, skipped)
    if runs != kept:
        _write_index(folder / INDEX, runs)
    points = [point for name in order for point in runs[name].points]
    return History(folder=_name(folder), points=points, skipped=list(dict.fromkeys(skipped)))


def _run_folders(folder: Path) -> list[Path]:
    return sorted(Path(path) for path, _, files in os.walk(folder) if RESULT in files)


def _name(path: Path) -> str:
    """As text, whatever bytes it is of."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _read(name: str, path: Path, stamp: str) -> _Kept:
    run = read_run(path)
    like = (machine(run), *(model.name for model in run.models))
    points = [_point(name, run, row) for row in run.rows]
    return _Kept(stamp=stamp, created=run.created, like=like, points=points)


def _compare(names: list[str], runs: dict[str, _Kept], paths: Mapping[str, Path], skipped: list[str]) -> None:
    """Compare runs that are alike, in the order of time, each with the one before where that has not been done."""
    read = lru_cache(maxsize=2)(read_side)
    for before, name in zip([None, *names], names, strict=False):
        compared: str | None = f"{STATISTICS} {before} {runs[before].stamp}" if before else ""
        if runs[name].compared == compared:
            continue
        found = None
        try:
            found = diff(read(paths[before]), read(paths[name])) if before else None
        except UsageError as error:
            skipped.append(str(error))
            compared = None
        points = [_with_changes(point, found) for point in runs[name].points]
        runs[name] = runs[name].model_copy(update={"compared": compared, "points": points})


def machine(run: Run) -> str:
    """What must be the same for latencies to be compared."""
    env = run.environment
    threads = "1 thread" if env.threads == 1 else f"{env.threads} threads"
    return f"{env.gpu.name if env.gpu else env.cpu_details or env.cpu}, {env.cores} cores, {threads}"


def _point(name: str, run: Run, row: Row) -> Point:
    return Point(
        run=name,
        created=run.created,
        model=row.model,
        row=row.id,
        machine=machine(run),
        status=row.status,
        p50_ms=row.latency.p50_ms if row.latency else None,
        top1=row.accuracy.top1 if row.accuracy else None,
        size_mib=row.artifact.size_bytes / 2**20 if row.artifact else None,
        change={},
        better={},
    )


def _with_changes(point: Point, found: Diff | None) -> Point:
    changed = next((each for each in found.rows if each.id == point.row), None) if found else None
    changes = {figure: getattr(changed, figure) for figure in FIGURES} if changed else {}
    real = {figure: change for figure, change in changes.items() if change.verdict in ("better", "worse")}
    better = {figure: change.verdict == "better" for figure, change in real.items()}
    return point.model_copy(
        update={"change": {figure: change.change for figure, change in real.items()}, "better": better}
    )


def _read_index(path: Path) -> dict[str, _Kept]:
    try:
        digest, _, content = path.read_bytes().partition(b"\n")
        if digest.decode() == hashlib.sha256(content).hexdigest():
            return _Index.model_validate_json(content).runs
    except (OSError, ValueError):
        pass
    return {}


def _write_index(path: Path, runs: dict[str, _Kept]) -> None:
    content = _Index(runs=runs).model_dump_json()
    with contextlib.suppress(OSError):  # in a folder of somebody else
        write_text(path, f"{hashlib.sha256(content.encode()).hexdigest()}\n{content}")


def _stamp(path: Path) -> str:
    """Of what a run's points and changes are made of: when it was written, and its size."""
    files = [path / RESULT, path / SAMPLES, *sorted((path / "predictions").glob("*.csv"))]
    found = [(file.name, file.stat()) for file in files if file.exists()]
    return ",".join(f"{name}:{stat.st_mtime_ns}:{stat.st_size}" for name, stat in found)
