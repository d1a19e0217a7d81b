"""The command line: parse, one call, print. Everything heavy is imported inside the commands."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from rtbench.errors import RtbenchError, UsageError
from rtbench.terms import CalibrationMethod, Interpolation, Precision, ReportFormat

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from rtbench.options import ModelOptions
    from rtbench.prepare import Place
    from rtbench.records import Run, Triple

app = typer.Typer(
    name="rtbench",
    help="Which format and runtime to ship an image classifier in: export, measure, score, compare.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

PRECISIONS = ("fp32", "fp16", "int8")
INTERRUPTED = 130
PIPED_WIDTH = 120


def _option(*names: str, help: str, metavar: str | None = None, min: int | None = None) -> Any:
    return typer.Option(*names, help=help, metavar=metavar, min=min, show_default=True)


Arch = Annotated[str | None, _option("--arch", help="Architecture of a state dict, where it is not recognised.")]
Weights = Annotated[
    Path | None, _option("--weights", help="State dict for a model given by name, instead of downloading.")
]
RandomWeights = Annotated[
    bool, typer.Option("--random-weights", help="Leave a model given by name untrained: for speed and size only.")
]
TrustPickle = Annotated[
    bool, typer.Option("--trust-pickle", help="Unpickle whole modules, which runs code out of the file.")
]
InputSize = Annotated[int | None, _option("--input-size", help="Side of the square input, in pixels.", min=1)]
Resize = Annotated[int | None, _option("--resize", help="Shorter side of the image before the centre crop.", min=1)]
Interp = Annotated[Interpolation | None, _option("--interpolation", help="How images are resized.")]
Mean = Annotated[str | None, _option("--mean", help="Mean of each channel, on [0, 1].", metavar="R,G,B")]
Std = Annotated[str | None, _option("--std", help="Standard deviation of each channel.", metavar="R,G,B")]
Precisions = Annotated[str, _option("--precisions", help="Precisions of the artifacts.", metavar="LIST")]
Calibration = Annotated[
    Path | None, _option("--calibration", help="Folder of images to calibrate INT8 with.", metavar="DIR")
]
CalibrationImages = Annotated[int, _option("--calibration-images", help="How many of them, evenly spread.", min=1)]
Method = Annotated[CalibrationMethod, _option("--calibration-method", help="How INT8 ranges are found.")]
Threads = Annotated[
    int | None, _option("--threads", help="Threads for every runtime.  [default: physical cores]", min=1)
]
Timeout = Annotated[float, _option("--timeout", help="Seconds of silence after which a worker process counts as hung.")]
CacheDir = Annotated[Path | None, _option("--cache-dir", help="Where decoded images are kept.", metavar="DIR")]


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    if version:
        from rtbench import __version__

        typer.echo(f"rtbench {__version__}")
        raise typer.Exit


@app.command()
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A torchvision name, or a model file.")],
    precisions: Precisions = "fp32,fp16,int8",
    out: Annotated[
        Path | None, _option("--out", help="Folder of the artifacts.  [default: engines/NAME-HASH]", metavar="DIR")
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
    from rtbench.artifacts import check_writable
    from rtbench.options import CalibrationOptions
    from rtbench.prepare import prepare
    from rtbench.progress import ProgressBar
    from rtbench.report.exported import render_exported

    options = _model_options(arch, weights, random_weights, trust_pickle, input_size, resize, interpolation, mean, std)
    chosen = _precisions(precisions)
    logs = Path(tempfile.mkdtemp(prefix="rtbench-"))
    place = _place(out, logs, threads, timeout, cache_dir)
    check_writable(place.folder or place.engines)
    with ProgressBar() as progress:
        prepared = prepare(
            model,
            options,
            chosen,
            CalibrationOptions(folder=calibration, images=calibration_images, method=calibration_method),
            place,
            progress,
            data=calibration,
            export_only=True,
        )
    _print(render_exported(prepared.model, prepared.folder, prepared.artifacts, prepared.failures))
    bad = [each for each in prepared.artifacts if each.check and each.check.status != "ok"]
    if bad or prepared.failures:
        raise typer.Exit(1)
    shutil.rmtree(logs)  # kept above, where a failure names its log


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
        _option(
            "--runtimes", help="torch, ort, ort:cpu, ort:cuda, ...  [default: all of this machine]", metavar="LIST"
        ),
    ] = None,
    precisions: Precisions = "fp32,fp16,int8",
    data: Annotated[
        Path | None, _option("--data", help="Images in a folder for each class, for accuracy.", metavar="DIR")
    ] = None,
    limit: Annotated[int | None, _option("--limit", help="Use N of them, evenly spread.", min=1)] = None,
    runs: Annotated[int, _option("--runs", help="Timed runs of each row.", min=1)] = 1000,
    warmup: Annotated[int, _option("--warmup", help="Untimed runs of each row before them.", min=0)] = 20,
    baseline: Annotated[
        str, _option("--baseline", help="A name, a TOML file, or: measured.", metavar="NAME|FILE")
    ] = "resnet18-t4",
    reference: Annotated[
        str | None, _option("--reference", help="Model to judge .onnx files by.", metavar="MODEL")
    ] = None,
    out: Annotated[
        Path | None, _option("--out", help="The run directory.  [default: runs/TIME-NAME]", metavar="DIR")
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
    from rtbench.artifacts import check_writable
    from rtbench.compare import Plan
    from rtbench.compare import compare as run_comparison
    from rtbench.options import CalibrationOptions
    from rtbench.progress import ProgressBar
    from rtbench.report.markdown import render_markdown
    from rtbench.report.table import render_table
    from rtbench.report.tidy_csv import render_csv
    from rtbench.runs import RunDirectory
    from rtbench.sample import ARCH

    options = _model_options(arch, weights, random_weights, trust_pickle, input_size, resize, interpolation, mean, std)
    sources = tuple(models) if models else (ARCH,)
    chosen = _precisions(precisions)
    directory = RunDirectory(out or _default_run_path(sources[0]))
    try:
        place = _place(None, directory.logs, threads, timeout, cache_dir)
        check_writable(place.engines)
        plan = Plan(
            sources=sources,
            runtimes=_names(runtimes) if runtimes else None,
            precisions=chosen,
            runs=runs,
            warmup=warmup,
            baseline=baseline,
            place=place,
            command=("rtbench", *sys.argv[1:]),
            data=data,
            limit=limit,
            reference=reference,
            model=options,
            calibration=CalibrationOptions(folder=calibration, images=calibration_images, method=calibration_method),
        )
        with ProgressBar() as progress:
            run = run_comparison(plan, directory, progress)
    except (UsageError, KeyboardInterrupt):
        directory.discard()
        raise
    directory.save_report("results.csv", render_csv(run))
    directory.save_report("report.md", render_markdown(run))
    _print(render_table(run))
    typer.echo(f"Everything is kept in {directory.path}", err=True)
    context.exit(_exit_code(run, strict=strict))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    format: Annotated[ReportFormat, _option("--format", help="How to render it.")] = "table",
    output: Annotated[
        Path | None, _option("--output", help="Write there instead of to stdout.", metavar="FILE")
    ] = None,
) -> None:
    """Render a finished run again, without measuring.

    Example: rtbench report runs/20261124-120000-resnet18 --format markdown
    """
    from rtbench.artifacts import write_text
    from rtbench.report.markdown import render_markdown
    from rtbench.report.table import render_table
    from rtbench.report.tidy_csv import render_csv
    from rtbench.runs import read_run

    record = read_run(run)
    renderers: dict[ReportFormat, Callable[[Run], str]] = {
        "table": lambda each: _plain(render_table(each)),
        "markdown": render_markdown,
        "csv": render_csv,
        "json": lambda each: each.model_dump_json(indent=2) + "\n",
    }
    if output:
        try:
            write_text(output, renderers[format](record))
        except OSError as error:
            raise UsageError(f"cannot write {output}: {error.strerror}", "choose another --output") from None
    elif format == "table":
        _print(render_table(record))
    else:
        typer.echo(renderers[format](record), nl=False)


@app.command()
def doctor() -> None:
    """Say what this machine can run: each runtime OK, or why not and what would mend it."""
    from rtbench.doctor import examine
    from rtbench.environment import available_cores, read_environment
    from rtbench.progress import ProgressBar
    from rtbench.report.findings import render_findings

    with ProgressBar() as progress:
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


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _precisions(text: str) -> tuple[Precision, ...]:
    import difflib

    names = _names(text)
    for name in names:
        if name not in PRECISIONS:
            near = difflib.get_close_matches(name, PRECISIONS, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PRECISIONS)}"
            raise UsageError(f"there is no precision {name!r}", hint)
    if not names:
        raise UsageError("--precisions is empty", f"there are {', '.join(PRECISIONS)}")
    return cast("tuple[Precision, ...]", names)


def _triple(option: str, text: str | None) -> Triple | None:
    if text is None:
        return None
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text} is not three numbers", f"write {option} 0.5,0.5,0.5") from None
    return red, green, blue


def _model_options(
    arch: str | None,
    weights: Path | None,
    random_weights: bool,
    trust_pickle: bool,
    input_size: int | None,
    resize: int | None,
    interpolation: Interpolation | None,
    mean: str | None,
    std: str | None,
) -> ModelOptions:
    from rtbench.options import ModelOptions

    deviation = _triple("--std", std)
    if deviation and min(deviation) <= 0:
        raise UsageError(f"--std {std} has a number that is not above 0", "write --std 0.5,0.5,0.5")
    return ModelOptions(
        arch=arch,
        weights=weights,
        random_weights=random_weights,
        trust_pickle=trust_pickle,
        input_size=input_size,
        resize=resize,
        interpolation=interpolation,
        mean=_triple("--mean", mean),
        std=deviation,
    )


def _place(out: Path | None, logs: Path, threads: int | None, timeout: float, cache_dir: Path | None) -> Place:
    import platformdirs

    from rtbench.environment import available_cores
    from rtbench.prepare import Place

    return Place(
        engines=Path("engines"),
        folder=out,
        cache=cache_dir or platformdirs.user_cache_path("rtbench") / "images",
        logs=logs,
        threads=threads or available_cores(),
        timeout_s=timeout,
    )


def _default_run_path(source: str) -> Path:
    import time

    return Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{Path(source).stem}"


def _console() -> Console:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False, soft_wrap=False)


def _print(renderable: RenderableType) -> None:
    _console().print(renderable)


def _plain(renderable: RenderableType) -> str:
    from rich.console import Console

    console = Console(width=PIPED_WIDTH, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()
