"""The command line: parse, one call, print. Everything heavy is imported inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rtbench.cli.cache import cache
from rtbench.cli.options import OTHER_FLAGS, option, takes
from rtbench.cli.output import complain, deliver, open_streams, progress_bar, require_delivered, say, set_loudness, show
from rtbench.cli.reports import diff, history, rendered, report, show_changes
from rtbench.cli.score import score
from rtbench.cli.tools import tools
from rtbench.errors import RtbenchError, UsageError, reading
from rtbench.options import CompareOptions, ExportOptions, require_path
from rtbench.terms import RunFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtbench.records.run import Run

app = typer.Typer(
    name="rtbench",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
LOUDNESS = {"-q", "--quiet", "-v", "--verbose"}
"""Options of rtbench itself, which may stand after the command too."""

INTERRUPTED = 130
WRONG_USAGE: type[Exception] = typer.BadParameter.__mro__[1]  # it has no name in typer


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
    set_loudness(quiet=quiet, verbose=verbose)
    if version:
        from rtbench import __version__

        typer.echo(f"rtbench {__version__}")
        raise typer.Exit


@app.command(context_settings=OTHER_FLAGS)
@takes(ExportOptions)
def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="A name (torchvision, timm), a file, a folder, or a TensorFlow Hub address."
        ),
    ],
    options: ExportOptions,
    out: Annotated[
        Path | None, option("--out", help="Folder of the artifacts.  [default: engines/NAME-HASH]", metavar="DIR")
    ] = None,
) -> None:
    """Write a model's artifacts, ONNX and TensorRT engines, each ONNX checked against the model's own outputs.

    Example: rtbench export resnet18 --formats onnx,trt --calibration photos/
    """
    from rtbench import api
    from rtbench.report.exported import render_exported

    with progress_bar() as progress:
        prepared = api.export(model, out=out, progress=progress, **vars(options))
    show(render_exported(prepared.model, prepared.folder, prepared.artifacts, prepared.failures, prepared.unavailable))
    bad = [each for each in prepared.artifacts if each.check and each.check.status != "ok"]
    if bad or prepared.failures:
        raise typer.Exit(1)


@app.command(context_settings=OTHER_FLAGS)
@takes(CompareOptions)
def compare(
    context: typer.Context,
    options: CompareOptions,
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL]...",
            help="Names (torchvision, timm), files, folders, TensorFlow Hub addresses; none: the built-in sample.",
        ),
    ] = None,
    out: Annotated[
        Path | None, option("--out", help="The run directory.  [default: runs/TIME-NAME]", metavar="DIR")
    ] = None,
    resume: Annotated[
        Path | None, option("--resume", help="Resume an interrupted run, as it was started.", metavar="RUN")
    ] = None,
    fail_on: Annotated[
        str | None,
        option("--fail-on", help="With --against: exit 1 past these budgets, as latency:3%.", metavar="BUDGETS"),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 1 where a row is unavailable or a budget not judged, too.")
    ] = False,
    format: Annotated[RunFormat, option("--format", help="What is printed on stdout.")] = "table",
) -> None:
    """Measure every precision on each runtime, score them, and keep everything in a run directory.

    Example: rtbench compare model.pt --runtimes torch,ort --data /data/imagenet/val
    """
    if resume and context.obj is None:
        _resume(context, resume)
        return
    from rtbench import api
    from rtbench.images.sample import ARCH
    from rtbench.review.gate import parse_budgets

    budgets = parse_budgets(fail_on) if fail_on is not None else {}
    if budgets and not options.against:
        raise UsageError("--fail-on has nothing to compare with", "give the earlier run with --against")
    resumed: Path | None = context.obj
    place = resumed or out or api.default_run_path(models[0] if models else ARCH)
    with progress_bar() as progress:
        run = api.compare(
            *models or (),
            out=place,
            resume=resumed is not None,
            progress=progress,
            command=("rtbench", *sys.argv[1:]),
            **vars(options),
        )
    deliver(rendered(run, format), None)
    code = _exit_code(run, strict=strict)
    if options.against:
        code = code or show_changes(options.against, place, budgets, format, strict=strict)
    say(f"Everything is kept in {place}; {place / 'report.html'} shows it.")
    context.exit(code)


def _resume(context: typer.Context, run: Path) -> None:
    """Run the command again that `run` was started with, in the folder that it was started in.

    UsageError where options or models given now are not those given then. Consent to run code is never taken from the
    run, which may be somebody else's: it counts only where it is given now.
    """
    import os

    from rtbench.runs.directory import read_command

    require_path(run, "--resume")
    run = run.resolve()
    arguments, folder = read_command(run)
    begun = context.command.make_context("compare", arguments[arguments.index("compare") + 1 :], obj=run)
    for name in ("PATH", "PYTHONPATH"):  # relative ones would find programs and modules in the run's folder
        if os.environ.get(name):
            os.environ[name] = os.pathsep.join(map(os.path.abspath, os.environ[name].split(os.pathsep)))
    begun.params["trust_code"] = context.params["trust_code"]
    python, given = (
        _program(each.params["against_python"], place) for each, place in ((begun, folder), (context, Path.cwd()))
    )
    if python and not given:
        raise UsageError(
            f"{run} was started with --against-python {python}, which would be run", "give it again if you trust it"
        )
    begun.params["against_python"], context.params["against_python"] = python, given
    for parameter in context.command.params:
        name = parameter.name or ""
        said = context.get_parameter_source(name)
        if name != "resume" and said and said.name == "COMMANDLINE" and context.params[name] != begun.params[name]:
            raise UsageError(
                f"{parameter.opts[0]} is {context.params[name]}, and {begun.params[name]} when {run} was started",
                "leave it out, or start a new run",
            )
    try:
        os.chdir(folder)
    except OSError as error:
        raise UsageError(f"{run} was started in {folder}: {error.strerror}", "start a new run") from None
    with begun:
        context.command.invoke(begun)


def _program(path: Path | None, folder: Path) -> Path | None:
    """The path of a program that is named from `folder`; one that PATH is searched for stays a name."""
    return folder / path if path and len(path.parts) > 1 else path


app.command(context_settings=OTHER_FLAGS)(score)
for command in (report, diff, history):
    app.command()(command)


@app.command("gpu-check")
def gpu_check(run: Annotated[Path, typer.Argument(metavar="RUN", help="The run directory of make gpu-check.")]) -> None:
    """Judge a run of every runtime on a GPU, PASS or FAIL a line, before its figures are believed.

    Example: rtbench gpu-check runs/gpu-check
    """
    from rtbench.report.visible import visible
    from rtbench.review.gpu_check import judge_gpu_run
    from rtbench.review.gpu_evidence import expectations, pack, run_trtexec
    from rtbench.runs.result import read_run

    found, again = read_run(run), run / "again"
    verdicts = judge_gpu_run(found, read_run(again) if again.is_dir() else None, run_trtexec(found, run))
    lines = [*map(str, visible(verdicts)), *expectations(found)]
    typer.echo("\n".join(lines))
    say(f"Everything to send back is in {pack(found, run, lines)}.")
    if not all(verdict.passed for verdict in verdicts):
        raise typer.Exit(1)


@app.command()
def doctor() -> None:
    """Say what this machine can run: each runtime OK, or why not and how to fix it.

    Example: rtbench doctor
    """
    from rtbench.compare.doctor import examine
    from rtbench.measure.environment import available_cores, read_environment
    from rtbench.report.findings import render_findings

    with progress_bar() as progress:
        findings = examine(progress)
    show(render_findings(findings, read_environment(available_cores())))


app.add_typer(cache, name="cache")
app.add_typer(tools, name="tools")


def main() -> None:
    """Run the command line; an RtbenchError becomes one sentence on stderr and an exit code, and so does what the
    system refuses."""
    open_streams()
    try:
        with reading():
            _require_utf8(sys.argv)
            code = app(_loudness_first(sys.argv[1:]), prog_name="rtbench", standalone_mode=False)
        require_delivered()
    except WRONG_USAGE as error:
        code = _wrong_usage(error)
    except UsageError as error:
        code = _fail(error, 2)
    except RtbenchError as error:
        code = _fail(error, 1)
    except typer.Abort:
        code = INTERRUPTED
    sys.exit(code)


def _loudness_first(arguments: Sequence[str]) -> list[str]:
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return sorted(arguments[:end], key=lambda each: each not in LOUDNESS) + list(arguments[end:])


def _require_utf8(arguments: Sequence[str]) -> None:
    """Reports name what was compared, and are UTF-8."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            if sys.getfilesystemencoding() == "utf-8":
                raise UsageError(f"{argument} is not UTF-8", "rename it") from None
            raise UsageError(f"this locale has no names such as {argument}", "set LC_ALL=C.UTF-8") from None


def _fail(error: RtbenchError, code: int) -> int:
    complain(f"rtbench: {error}")
    return code


def _wrong_usage(error: Any) -> int:
    """What typer found wrong, in a line; or the help that it shows of a command without arguments."""
    said, context = error.format_message(), error.ctx
    if context and said == context.get_help():
        typer.echo(said, err=True)
        return 2
    return _fail(UsageError(said.removesuffix("."), f"see {context.command_path} --help" if context else ""), 2)


def _exit_code(run: Run, *, strict: bool) -> int:
    if not run.complete:
        return INTERRUPTED
    bad = {"failed", "invalid"} | ({"unavailable"} if strict else set())
    return int(any(row.status in bad for row in run.rows))
