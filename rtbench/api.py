"""What `import rtbench` offers; the command line is made of the same three functions."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from rtbench.artifacts import check_writable
from rtbench.compare.plan import Plan, Sampling
from rtbench.compare.prepare import Place, Prepared, Progress, prepare
from rtbench.compare.run import compare as run_comparison
from rtbench.errors import UsageError
from rtbench.images.sample import ARCH
from rtbench.measure.environment import available_cores
from rtbench.measure.mlperf import require_loadgen
from rtbench.options import CalibrationOptions, EngineOptions, ModelOptions
from rtbench.records.run import Run
from rtbench.report.evidence import read_evidence
from rtbench.report.html import render_html
from rtbench.report.markdown import render_markdown
from rtbench.report.tidy_csv import render_csv
from rtbench.runs.directory import RunDirectory, read_run
from rtbench.terms import Format, Precision, Scenario

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
TIMEOUT_S = 300.0


def export(
    model: str | Path,
    *,
    formats: Sequence[Format] = ("onnx",),
    precisions: Sequence[Precision] = PRECISIONS,
    out: str | Path | None = None,
    options: ModelOptions | None = None,
    calibration: CalibrationOptions | None = None,
    engines: EngineOptions | None = None,
    threads: int | None = None,
    timeout_s: float = TIMEOUT_S,
    cache_dir: str | Path | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Write the artifacts of a model, a torchvision name or a file, and check each against the model's own outputs.

    `formats`: `onnx`, `engine`, or both. `out`: their folder, by default `engines/NAME-HASH`. What came of each is
    in the `check` of its record in `artifacts`, and in `failures` and `unavailable`. Raises UsageError for bad input.
    """
    calibration = calibration or CalibrationOptions()
    logs = Path(tempfile.mkdtemp(prefix="rtbench-"))
    place = _place(out, logs, threads, timeout_s, cache_dir)
    check_writable(place.folder or place.engines)
    prepared = prepare(
        str(model),
        options or ModelOptions(),
        precisions,
        calibration,
        place,
        progress or _silent,
        data=calibration.folder,
        export_only=True,
        formats=formats,
        engines=engines or EngineOptions(),
    )
    if not prepared.failures and all(each.check is None or each.check.status == "ok" for each in prepared.artifacts):
        shutil.rmtree(logs)  # kept elsewise, since a failure names its log
    return prepared


def compare(
    *models: str | Path,
    runtimes: Sequence[str] | None = None,
    precisions: Sequence[Precision] = PRECISIONS,
    data: str | Path | None = None,
    limit: int | None = None,
    batch_size: int | None = None,
    runs: int | None = None,
    processes: int = 5,
    target_ci: float | None = None,
    max_time_s: float = 600.0,
    warmup: int | None = None,
    scenario: Scenario | None = None,
    baseline: str = "resnet18-t4",
    reference: str | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    options: ModelOptions | None = None,
    calibration: CalibrationOptions | None = None,
    engines: EngineOptions | None = None,
    threads: int | None = None,
    timeout_s: float = TIMEOUT_S,
    cache_dir: str | Path | None = None,
    progress: Progress | None = None,
    command: Sequence[str] | None = None,
) -> Run:
    """Measure every precision of the models on every runtime; the run directory `out` keeps everything.

    Without models, the built-in sample. `runs` is 1000, or with `target_ci` (a fraction: time until each mean is
    known to within it) at least 250, shared by `processes`, each of which `warmup` goes before, as long as it takes
    to settle. `out` is by default `runs/TIME-NAME`, and must be new, but with `resume` one that the command line
    began (`command`). A row that breaks is a row with that status; UsageError comes before anything is measured and
    leaves nothing behind.
    """
    if scenario:
        require_loadgen()
    sources = tuple(str(model) for model in models) or (ARCH,)
    directory = RunDirectory(Path(out) if out else default_run_path(sources[0]), resume=resume)
    try:
        place = _place(None, directory.logs, threads, timeout_s, cache_dir)
        check_writable(place.engines)
        plan = Plan(
            sources=sources,
            runtimes=tuple(runtimes) if runtimes else None,
            precisions=tuple(precisions),
            sampling=Sampling(
                runs=runs or (1000 if target_ci is None else 250),
                processes=processes,
                warmup=warmup,
                target_ci=target_ci,
                max_time_s=max_time_s,
                scenario=scenario,
            ),
            baseline=baseline,
            place=place,
            command=tuple(command or ()) or ("rtbench.compare",),
            data=Path(data) if data else None,
            limit=limit,
            batch_size=batch_size,
            reference=reference,
            model=options or ModelOptions(),
            calibration=calibration or CalibrationOptions(),
            engines=engines or EngineOptions(),
        )
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


def _place(
    out: str | Path | None, logs: Path, threads: int | None, timeout_s: float, cache_dir: str | Path | None
) -> Place:
    return Place(
        engines=Path("engines"),
        folder=Path(out) if out else None,
        cache=Path(cache_dir) if cache_dir else platformdirs.user_cache_path("rtbench") / "images",
        logs=logs,
        threads=threads or available_cores(),
        timeout_s=timeout_s,
    )


def _silent(phase: str, done: int, total: int) -> None:
    pass
