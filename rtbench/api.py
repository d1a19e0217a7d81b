"""What `import rtbench` offers; the command line is made of the same functions."""

from __future__ import annotations

import errno
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from rtbench import nvidia
from rtbench.artifacts import check_writable
from rtbench.compare.plan import Plan
from rtbench.compare.prepare import prepare
from rtbench.compare.prepared import Place, Prepared, Progress
from rtbench.compare.run import compare as run_comparison
from rtbench.errors import UsageError, interrupted_once
from rtbench.export.known import require_format
from rtbench.images.sample import ARCH
from rtbench.measure.environment import available_cores
from rtbench.measure.mlperf import require_loadgen
from rtbench.options import (
    OTHER_NAMES,
    CompareOptions,
    DataOptions,
    ExportOptions,
    Options,
    WorkerOptions,
    default_cache,
    require_path,
)
from rtbench.records.model import safe_name
from rtbench.records.run import Run
from rtbench.report.evidence import read_evidence
from rtbench.report.html import render_html
from rtbench.report.markdown import render_markdown
from rtbench.report.tidy_csv import render_csv
from rtbench.review.diff import Diff
from rtbench.review.diff import diff as find_changes
from rtbench.review.history import History
from rtbench.review.history import history as read_history
from rtbench.review.sides import read_side
from rtbench.runs.columns import save_columns
from rtbench.runs.directory import REPORTS, RunDirectory
from rtbench.runs.result import read_run
from rtbench.runs.samples import SAMPLES

Given = TypeVar("Given", bound=Options)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def export(
    model: str | Path, *, out: str | Path | None = None, progress: Progress | None = None, **options: Any
) -> Prepared:
    """Write the artifacts of a model, a torchvision name or a file, and check each against the model's own outputs.

    `options` are the fields of `rtbench.options.ExportOptions`. `out`: the artifacts' folder, by default
    `engines/NAME-HASH`. What came of each is in the `check` of its record in `artifacts`, and in `failures` and
    `unavailable`. Raises UsageError for bad input.
    """
    chosen = _checked(ExportOptions, options)
    require_path(Path(model), "model")
    require_path(Path(out or ""), "--out")
    logs = Path(tempfile.mkdtemp(prefix="rtbench-"))
    place = _place(chosen, logs, Path(out) if out else None)
    check_writable(place.folder or place.engines)
    for name in chosen.formats:
        require_format(name)
    with nvidia.using(chosen.device):
        prepared = prepare(
            str(model),
            chosen,
            place,
            progress or _silent,
            formats=chosen.formats,
            data=DataOptions(data=chosen.calibration),
        )
    if not prepared.failures and all(each.check is None or each.check.status == "ok" for each in prepared.artifacts):
        shutil.rmtree(logs)  # kept otherwise, since a failure names its log
    return prepared


def compare(
    *models: str | Path,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    command: Sequence[str] | None = None,
    **options: Any,
) -> Run:
    """Measure every precision of the models on every runtime; the run directory `out` keeps everything.

    Without models, the built-in sample. `options` are the fields of `rtbench.options.CompareOptions`. `out` is by
    default `runs/TIME-NAME`, and must be new, but with `resume` one that the command line began (`command`). A row
    that breaks is a row with that status; UsageError comes before anything is measured and leaves nothing behind, but
    NotKept, where the disk is full, which leaves what was measured.
    """
    chosen = _checked(CompareOptions, options)
    if chosen.scenario:
        require_loadgen()
    sources = tuple(str(model) for model in models) or (ARCH,)
    for source in sources:
        require_path(Path(source), "model")
    require_path(Path(out or ""), "--out")
    directory = RunDirectory(Path(out) if out else default_run_path(sources[0]), resume=resume)
    with interrupted_once():
        run = directory.kept
        if run and run.complete:
            _report(run, directory, directory.missing_reports())
        else:
            place = replace(_place(chosen, directory.logs), held=directory.held)
            plan = Plan(sources, chosen, place, tuple(command or ("rtbench.compare",)))
            run = _measure(plan, directory, progress or _silent)
            _report(run, directory, REPORTS)
    return run


def _measure(plan: Plan, directory: RunDirectory, progress: Progress) -> Run:
    try:
        check_writable(plan.place.engines)
        if plan.command[1:]:
            directory.save_command(plan.command[1:])
        with nvidia.using(plan.options.device):
            return run_comparison(plan, directory, progress)
    except OSError as error:
        if error.errno not in FULL:
            raise
        failure = directory.not_kept(error.filename or "to the disk", error)
        directory.discard()
        raise failure from None
    except (UsageError, KeyboardInterrupt):
        directory.discard()
        raise


def _report(run: Run, directory: RunDirectory, names: Sequence[str]) -> None:
    renderers: dict[str, Callable[[], str]] = {
        "results.csv": lambda: render_csv(run),
        "report.md": lambda: render_markdown(run),
        "report.html": lambda: render_html(run, read_evidence(directory.path, run)),
    }
    if run.complete:
        save_columns(directory.path / SAMPLES)
    directory.save_reports({name: renderers[name] for name in names})
    if run.complete:
        directory.release()


def load_run(path: str | Path) -> Run:
    """The record of a run directory, of this or any earlier schema version; UsageError where it is none."""
    return read_run(Path(path))


def diff(before: str | Path, after: str | Path) -> Diff:
    """What changed between two runs, row by row, and whether it is real.

    Each is a run directory, or a folder of repeats of one. UsageError where they cannot be compared.
    """
    return find_changes(read_side(Path(before)), read_side(Path(after)))


def history(folder: str | Path = "runs") -> History:
    """Every run under a folder over time, each compared with the one before it; UsageError where there is none."""
    return read_history(Path(folder))


def default_run_path(source: str) -> Path:
    return Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{safe_name(Path(source).stem)}"


def _checked(kind: type[Given], said: Mapping[str, Any]) -> Given:
    """The options as their types have them (a text as a path, a list as a tuple); UsageError for what is none."""
    try:
        return TypeAdapter(kind).validate_python({OTHER_NAMES.get(name, name): value for name, value in said.items()})
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"option {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _place(options: WorkerOptions, logs: Path, folder: Path | None = None) -> Place:
    return Place(
        engines=Path("engines"),
        folder=folder,
        cache=options.cache_dir or default_cache(),
        logs=logs,
        threads=options.threads or available_cores(),
        timeout_s=options.timeout_s,
    )


def _silent(phase: str, done: int, total: int) -> None:
    pass
