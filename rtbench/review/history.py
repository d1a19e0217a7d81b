"""All runs under a folder, over time: what each row measured, and where it changed from the run before."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

from rtbench.artifacts import write_text
from rtbench.errors import UsageError, WorkerFailed, counted
from rtbench.measure.environment import available_cores
from rtbench.records import Record
from rtbench.records.run import Row, Run
from rtbench.review.diff import FIGURES, Diff, Figure, diff
from rtbench.review.sides import Side, read_side
from rtbench.review.spread import STATISTICS
from rtbench.runs.predictions import PREDICTIONS
from rtbench.runs.reading import is_folder
from rtbench.runs.result import RESULT, read_run
from rtbench.runs.samples import SAMPLES
from rtbench.terms import Status
from rtbench.worker import Worker

INDEX = ".rtbench-history.json"
"""What was read and computed before, next to the runs, after its own hash; made again where missing or damaged."""
SIDES = 16
"""Runs whose samples are kept in memory, for the next run of each machine and model."""


MANY = 100
"""New runs that are worth the start of a process which reads them beside others."""
READER = "rtbench.review.history:Reader"
SILENT_S, BUSY_S = 60.0, 3600.0
"""How long these may do nothing, and compute."""
_Found = Mapping[str, tuple[Path, str]]
"""By its name, where each run is and the stamp of its files."""


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
    found = dict(_find_runs(folder))
    if not found:
        raise UsageError(f"there are no runs under {folder}", "name the folder of your run directories")
    index = _read_index(folder / INDEX)
    kept = {name: index[name] for name, (_, stamp) in found.items() if name in index and index[name].stamp == stamp}
    new = {name: each for name, each in found.items() if name not in kept}
    if len(new) >= 2 * MANY:
        kept |= _read_beside(new)
    runs, skipped = _follow(found, kept)
    if runs != index:
        _write_index(folder / INDEX, runs)
    points = [point for own in runs.values() for point in own.points]
    return History(folder=_name(folder), points=points, skipped=list(dict.fromkeys(skipped)))


def _follow(found: _Found, kept: Mapping[str, _Kept]) -> tuple[dict[str, _Kept], list[str]]:
    """The runs in the order of time, each compared with the one before it, and what could not be read; of those `kept`
    only what has changed since."""
    created = {name: kept[name].created if name in kept else _created(path) for name, (path, _) in found.items()}
    runs: dict[str, _Kept] = {}
    skipped: list[str] = []
    read = lru_cache(maxsize=SIDES)(read_side)
    last: dict[tuple[str, ...], str] = {}
    for name in sorted(found, key=lambda name: (created[name], name)):
        path, stamp = found[name]
        try:
            own = kept.get(name) or _read(name, path, stamp, read)
        except UsageError as error:
            skipped.append(str(error))
            continue
        before = last.get(own.like)
        compared: str | None = f"{STATISTICS} {before} {runs[before].stamp}" if before else ""
        if own.compared != compared:
            try:
                changes = diff(read(found[before][0]), read(path)) if before else None
            except UsageError as error:
                skipped.append(str(error))
                changes, compared = None, None
            points = [_with_changes(point, changes) for point in own.points]
            own = own.model_copy(update={"compared": compared, "points": points})
        runs[name] = own
        last[own.like] = name
    return runs, skipped


class Reader:
    """Reads a part of the runs, in a process beside those that read the others."""

    def __init__(self, report: Callable[..., None]) -> None:
        pass

    def read(self, found: _Found) -> str:
        runs, _ = _follow(found, {})
        return _Index(runs=runs).model_dump_json()


def _read_beside(found: _Found) -> dict[str, _Kept]:
    """What processes read side by side: all but runs that cannot be read."""
    names, read = sorted(found), dict[str, _Kept]()
    count = min(available_cores(), len(names) // MANY)
    parts = [names[len(names) * part // count : len(names) * (part + 1) // count] for part in range(count)]
    with TemporaryDirectory() as logs, ExitStack() as running:
        workers = []
        for number, part in enumerate(parts):
            worker = Worker(
                READER,
                log=Path(logs) / f"{number}.log",
                timeout_s=SILENT_S,
                busy_timeout_s=BUSY_S,
                threads=1,
            )
            workers.append(running.enter_context(worker))
            worker.begin("read", {name: found[name] for name in part})
        for worker in workers:
            with suppress(WorkerFailed):  # what it has not read, this process reads
                read |= _Index.model_validate_json(worker.finish()).runs
    return read


def _find_runs(folder: Path) -> Iterator[tuple[str, tuple[Path, str]]]:
    """By its name below the folder, where each run is and the stamp of its files."""
    for place, _, files in os.walk(folder):
        if RESULT in files:
            path = Path(place)
            yield _name(path.relative_to(folder)), (path, _stamp(place))


def _name(path: Path) -> str:
    """As text, whatever bytes it is of."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _created(path: Path) -> str:
    """When a run was started, without checking the rest of its result; empty where that cannot be read."""
    try:
        return str(json.loads((path / RESULT).read_bytes())["created"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return ""


def _read(name: str, path: Path, stamp: str, read: Callable[[Path], Side]) -> _Kept:
    try:
        run = read(path).run
    except UsageError:  # of its samples or predictions, which the comparison tells
        run = read_run(path)
    like = (machine(run), *(model.name for model in run.models))
    points = [_point(name, run, row) for row in run.rows]
    return _Kept(stamp=stamp, created=run.created, like=like, points=points)


def machine(run: Run) -> str:
    """What must be the same for latencies to be compared."""
    env = run.environment
    cores, threads = counted(env.cores, "core"), counted(env.threads, "thread")
    return f"{env.gpu.name if env.gpu else env.cpu_details or env.cpu}, {cores}, {threads}"


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
    with suppress(OSError):  # in a folder of somebody else
        write_text(path, f"{hashlib.sha256(content.encode()).hexdigest()}\n{content}")


def _stamp(folder: str) -> str:
    """Of what a run's points and changes are made of: when it was written, and its size."""
    files = [each for each in _files(folder) if each.name in (RESULT, SAMPLES)]
    files += [each for each in _files(f"{folder}/{PREDICTIONS}") if each.name.endswith(".csv")]
    found = sorted((each.name, each.stat()) for each in files)
    return ",".join(f"{name}:{stat.st_mtime_ns}:{stat.st_size}" for name, stat in found)


def _files(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
