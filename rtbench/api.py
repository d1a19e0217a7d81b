"""What `import rtbench` offers; the command line is made of the same three functions."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
from pydantic import TypeAdapter, ValidationError

from rtbench.artifacts import check_writable
from rtbench.compare.plan import Plan
from rtbench.compare.prepare import prepare
from rtbench.compare.prepared import Place, Prepared, Progress
from rtbench.compare.run import compare as run_comparison
from rtbench.errors import UsageError
from rtbench.images.sample import ARCH
from rtbench.measure.environment import available_cores
from rtbench.measure.mlperf import require_loadgen
from rtbench.options import CompareOptions, DataOptions, ExportOptions, Options, WorkerOptions
from rtbench.records.run import Run
from rtbench.report.evidence import read_evidence
from rtbench.report.html import render_html
from rtbench.report.markdown import render_markdown
from rtbench.report.tidy_csv import render_csv
from rtbench.runs.directory import RunDirectory
from rtbench.runs.result import read_run

Given = TypeVar("Given", bound=Options)


def export(
    model: str | Path, *, out: str | Path | None = None, progress: Progress | None = None, **options: Any
) -> Prepared:
    """Write the artifacts of a model, a torchvision name or a file, and check each against the model's own outputs.

    `options` are the fields of `rtbench.options.ExportOptions`. `out`: the artifacts' folder, by default
    `engines/NAME-HASH`. What came of each is in the `check` of its record in `artifacts`, and in `failures` and
    `unavailable`. Raises UsageError for bad input.
    """
    chosen = _checked(ExportOptions, options)
    logs = Path(tempfile.mkdtemp(prefix="rtbench-"))
    place = _place(chosen, logs, Path(out) if out else None)
    check_writable(place.folder or place.engines)
    prepared = prepare(
        str(model),
        chosen,
        place,
        progress or _silent,
        formats=chosen.formats,
        data=DataOptions(data=chosen.calibration),
        export_only=True,
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
    that breaks is a row with that status; UsageError comes before anything is measured and leaves nothing behind.
    """
    chosen = _checked(CompareOptions, options)
    if chosen.scenario:
        require_loadgen()
    sources = tuple(str(model) for model in models) or (ARCH,)
    directory = RunDirectory(Path(out) if out else default_run_path(sources[0]), resume=resume)
    try:
        place = _place(chosen, directory.logs)
        check_writable(place.engines)
        plan = Plan(sources, chosen, place, tuple(command or ("rtbench.compare",)))
        if command and not resume:
            directory.save_command(command[1:])
        run = run_comparison(plan, directory, progress or _silent)
    except (UsageError, KeyboardInterrupt):
        directory.discard()
        raise
    directory.save_report("results.csv", render_csv(run))
    directory.save_report("report.md", render_markdown(run))
    directory.save_report("report.html", render_html(run, read_evidence(directory.path, run)))
    return run


def load_run(path: str | Path) -> Run:
    """The record of a run directory, of this or any earlier schema version; UsageError where it is none."""
    return read_run(Path(path))


def default_run_path(source: str) -> Path:
    return Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(source).stem}"


def _checked(kind: type[Given], said: Mapping[str, Any]) -> Given:
    """The options as their types have them (a text as a path, a list as a tuple); UsageError for what is none."""
    try:
        return TypeAdapter(kind).validate_python(dict(said))
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(f"option {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _place(options: WorkerOptions, logs: Path, folder: Path | None = None) -> Place:
    return Place(
        engines=Path("engines"),
        folder=folder,
        cache=options.cache_dir or platformdirs.user_cache_path("rtbench") / "images",
        logs=logs,
        threads=options.threads or available_cores(),
        timeout_s=options.timeout_s,
    )


def _silent(phase: str, done: int, total: int) -> None:
    pass
