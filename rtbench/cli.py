"""The command line: parse, one call, print. Everything heavy is imported inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rtbench.cli_options import (
    Arch,
    CacheDir,
    Calibration,
    CalibrationImages,
    InputSize,
    Interp,
    Mean,
    Method,
    Output,
    Precisions,
    RandomWeights,
    Resize,
    Std,
    Threads,
    Timeout,
    TrustPickle,
    Weights,
    model_options,
    option,
    parse_names,
    parse_percent,
    parse_precisions,
)
from rtbench.errors import RtbenchError, UsageError
from rtbench.terms import DiffFormat, Loudness, ReportFormat, Scenario

if TYPE_CHECKING:
    from rich.console import RenderableType

    from rtbench.progress import ProgressBar
    from rtbench.records import Run

app = typer.Typer(
    name="rtbench",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

INTERRUPTED = 130
_loudness: Loudness = "normal"


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing on stderr but errors.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="A line on stderr for each phase, with its time, terminal or not.")
    ] = False,
) -> None:
    """Which format and runtime to ship an image classifier in: export, measure, score, compare.

    Example: rtbench --verbose compare resnet18 --runtimes torch,ort
    """
    global _loudness
    if quiet and verbose:
        raise UsageError("--quiet and --verbose exclude each other", "give one of them")
    _loudness = "quiet" if quiet else "verbose" if verbose else "normal"
    if version:
        from rtbench import __version__

        typer.echo(f"rtbench {__version__}")
        raise typer.Exit


@app.command()
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A torchvision name, or a model file.")],
    precisions: Precisions = "fp32,fp16,int8",
    out: Annotated[
        Path | None, option("--out", help="Folder of the artifacts.  [default: engines/NAME-HASH]", metavar="DIR")
    ] = None,
    calibration: Calibration = None,
    calibration_images: CalibrationImages = 256,
    calibration_method: Method = "minmax",
    arch: Arch = None,
    weights: Weights = None,
    random_weights: RandomWeights = False,
    trust_pickle: TrustPickle = False,
    input_size: InputSize = None,
    resize: Resize = None,
    interpolation: Interp = None,
    mean: Mean = None,
    std: Std = None,
    threads: Threads = None,
    timeout: Timeout = 300.0,
    cache_dir: CacheDir = None,
) -> None:
    """Write a model's ONNX artifacts, each checked against the model's own outputs.

    Example: rtbench export resnet18 --calibration photos/
    """
    from rtbench import api
    from rtbench.options import CalibrationOptions
    from rtbench.report.exported import render_exported

    with _progress() as progress:
        prepared = api.export(
            model,
            precisions=parse_precisions(precisions),
            out=out,
            options=model_options(
                arch, weights, random_weights, trust_pickle, input_size, resize, interpolation, mean, std
            ),
            calibration=CalibrationOptions(folder=calibration, images=calibration_images, method=calibration_method),
            threads=threads,
            timeout_s=timeout,
            cache_dir=cache_dir,
            progress=progress,
        )
    _print(render_exported(prepared.model, prepared.folder, prepared.artifacts, prepared.failures))
    bad = [each for each in prepared.artifacts if each.check and each.check.status != "ok"]
    if bad or prepared.failures:
        raise typer.Exit(1)


@app.command()
def compare(
    context: typer.Context,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Torchvision names, model files, or folders that export wrote; none: the built-in sample.",
        ),
    ] = None,
    runtimes: Annotated[
        str | None,
        option("--runtimes", help="torch, ort, ort:cpu, ort:cuda, ...  [default: all of this machine]", metavar="LIST"),
    ] = None,
    precisions: Precisions = "fp32,fp16,int8",
    data: Annotated[
        Path | None, option("--data", help="Images in a folder for each class, for accuracy.", metavar="DIR")
    ] = None,
    limit: Annotated[int | None, option("--limit", help="Use N of them, evenly spread.", min=1)] = None,
    runs: Annotated[
        int | None,
        option("--runs", help="Timed runs of each row.  [default: 1000; with --target-ci at least 250]", min=1),
    ] = None,
    target_ci: Annotated[
        str | None,
        option("--target-ci", help="Time until each mean is known to within this, as 1%.", metavar="PERCENT"),
    ] = None,
    max_time: Annotated[float, option("--max-time", help="Seconds after which --target-ci gives up.")] = 600.0,
    warmup: Annotated[
        int | None,
        option("--warmup", help="Untimed runs of each row before them.  [default: until it has settled]", min=0),
    ] = None,
    scenario: Annotated[
        Scenario | None, option("--scenario", help="Let MLPerf's load generator drive each row too.")
    ] = None,
    baseline: Annotated[
        str, option("--baseline", help="A name, a TOML file, or: measured.", metavar="NAME|FILE")
    ] = "resnet18-t4",
    reference: Annotated[
        str | None, option("--reference", help="Model to judge .onnx files by.", metavar="MODEL")
    ] = None,
    out: Annotated[
        Path | None, option("--out", help="The run directory.  [default: runs/TIME-NAME]", metavar="DIR")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 where a row is unavailable too.")] = False,
    calibration: Calibration = None,
    calibration_images: CalibrationImages = 256,
    calibration_method: Method = "minmax",
    arch: Arch = None,
    weights: Weights = None,
    random_weights: RandomWeights = False,
    trust_pickle: TrustPickle = False,
    input_size: InputSize = None,
    resize: Resize = None,
    interpolation: Interp = None,
    mean: Mean = None,
    std: Std = None,
    threads: Threads = None,
    timeout: Timeout = 300.0,
    cache_dir: CacheDir = None,
) -> None:
    """Measure every precision on every runtime, score them, and keep everything in a run directory.

    Example: rtbench compare model.pt --runtimes torch,ort --data /data/imagenet/val
    """
    from rtbench import api
    from rtbench.options import CalibrationOptions
    from rtbench.report.table import render_table
    from rtbench.sample import ARCH

    place = out or api.default_run_path(models[0] if models else ARCH)
    with _progress() as progress:
        run = api.compare(
            *models or (),
            runtimes=parse_names(runtimes) if runtimes else None,
            precisions=parse_precisions(precisions),
            data=data,
            limit=limit,
            runs=runs,
            target_ci=parse_percent("--target-ci", target_ci) if target_ci else None,
            max_time_s=max_time,
            warmup=warmup,
            scenario=scenario,
            baseline=baseline,
            reference=reference,
            out=place,
            options=model_options(
                arch, weights, random_weights, trust_pickle, input_size, resize, interpolation, mean, std
            ),
            calibration=CalibrationOptions(folder=calibration, images=calibration_images, method=calibration_method),
            threads=threads,
            timeout_s=timeout,
            cache_dir=cache_dir,
            progress=progress,
            command=("rtbench", *sys.argv[1:]),
        )
    _print(render_table(run))
    _say(f"Everything is kept in {place}; {place / 'report.html'} shows it.")
    context.exit(_exit_code(run, strict=strict))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    format: Annotated[ReportFormat, option("--format", help="How to render it.")] = "table",
    output: Output = None,
) -> None:
    """Render a finished run again, without measuring.

    Example: rtbench report runs/20261124-120000-resnet18 --format markdown
    """
    from rtbench.report.evidence import read_evidence
    from rtbench.report.html import render_html
    from rtbench.report.markdown import render_markdown
    from rtbench.report.table import render_table
    from rtbench.report.tidy_csv import render_csv
    from rtbench.runs import read_run

    record = read_run(run)
    match format:
        case "table":
            _deliver(render_table(record), output)
        case "markdown":
            _deliver(render_markdown(record), output)
        case "csv":
            _deliver(render_csv(record), output)
        case "json":
            _deliver(record.model_dump_json(indent=2) + "\n", output)
        case "html":
            _deliver(render_html(record, read_evidence(run, record)), output)


@app.command()
def diff(
    run_a: Annotated[Path, typer.Argument(metavar="RUN_A", help="The run before: its directory, or repeats in one.")],
    run_b: Annotated[Path, typer.Argument(metavar="RUN_B", help="The run after.")],
    fail_on: Annotated[
        str | None,
        option("--fail-on", help="Exit 1 past these budgets, as latency:5%,accuracy:0.5pp,size:1%.", metavar="BUDGETS"),
    ] = None,
    format: Annotated[DiffFormat, option("--format", help="How to render it.")] = "table",
    output: Output = None,
) -> None:
    """Say row by row what changed between two runs, and whether the difference is real.

    Example: rtbench diff runs/before runs/after --fail-on latency:5%,accuracy:0.5pp
    """
    from rtbench.diff import diff as compare_runs
    from rtbench.diff import exceeded, parse_budgets, read_side
    from rtbench.report.changes import render_diff, render_diff_markdown

    budgets = parse_budgets(fail_on) if fail_on is not None else {}
    found = compare_runs(read_side(run_a), read_side(run_b))
    match format:
        case "table":
            _deliver(render_diff(found), output)
        case "markdown":
            _deliver(render_diff_markdown(found), output)
        case "json":
            _deliver(found.model_dump_json(indent=2) + "\n", output)
    tripped = exceeded(found, budgets)
    for sentence in tripped:
        typer.echo(sentence, err=True)
    if tripped:
        raise typer.Exit(1)


@app.command()
def doctor() -> None:
    """Say what this machine can run: each runtime OK, or why not and what would mend it."""
    from rtbench.doctor import examine
    from rtbench.environment import available_cores, read_environment
    from rtbench.report.findings import render_findings

    with _progress() as progress:
        findings = examine(progress)
    _print(render_findings(findings, read_environment(available_cores())))


def main() -> None:
    """Run the command line; an RtbenchError becomes one sentence on stderr and an exit code."""
    try:
        app()
    except UsageError as error:
        _fail(error, 2)
    except RtbenchError as error:
        _fail(error, 1)


def _fail(error: RtbenchError, code: int) -> None:
    typer.echo(f"rtbench: {error}", err=True)
    sys.exit(code)


def _exit_code(run: Run, *, strict: bool) -> int:
    if not run.complete:
        return INTERRUPTED
    bad = {"failed", "invalid"} | ({"unavailable"} if strict else set())
    return int(any(row.status in bad for row in run.rows))


def _progress() -> ProgressBar:
    from rtbench.progress import ProgressBar

    return ProgressBar(_loudness)


def _say(sentence: str) -> None:
    if _loudness != "quiet":
        typer.echo(sentence, err=True)


def _print(renderable: RenderableType) -> None:
    from rtbench.report.console import stdout_console

    stdout_console().print(renderable)


def _deliver(rendered: RenderableType, output: Path | None) -> None:
    """Print what was rendered, or write it into the file that the user named."""
    from rtbench.artifacts import write_text
    from rtbench.report.console import plain_text

    if output is None and isinstance(rendered, str):
        typer.echo(rendered, nl=False)
    elif output is None:
        _print(rendered)
    else:
        try:
            write_text(output, rendered if isinstance(rendered, str) else plain_text(rendered))
        except OSError as error:
            raise UsageError(f"cannot write {output}: {error.strerror}", "choose another --output") from None
